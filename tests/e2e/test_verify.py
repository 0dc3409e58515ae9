"""Promise 6: `svid verify` proves every id; a flipped bit is found and named."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from svid.canonical import digest
from svid.cli import main
from svid.home import Home
from tests.e2e.tools import bench_in, new, rows, value

KINDS = {"latents": 2, "tail": 2, "clip": 2, "asset": 1}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a video of two segments; nobody changes this one."""
    bench = bench_in(tmp_path_factory.mktemp("verify") / "home")
    bench.run(new("a", "one", "two"))
    bench.store.close()
    return bench.home


@pytest.fixture
def copy(rendered: Home, tmp_path: Path) -> Home:
    shutil.copytree(rendered.root, tmp_path / "home")
    return Home(tmp_path / "home")


def verify(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), "verify", *arguments])


def problems(home: Home) -> list[dict[str, str]]:
    """What `svid verify --json` finds wrong, having checked that text, JSON and exit code agree."""
    result = verify(home, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found = json.loads(result.stdout)
    wrong: list[dict[str, str]] = found["problems"]
    assert result.exit_code == (1 if wrong else 0)
    assert len(result.stderr.splitlines()) == len(wrong)
    assert found["checked"] == sum(KINDS.values()) + 2 + 1
    return wrong


@contextlib.contextmanager
def changed(file: Path, data: bytes | None) -> Iterator[None]:
    """`file` with other bytes, or gone, for a while."""
    before = file.read_bytes()
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        file.write_bytes(before)


def flipped(data: bytes, place: int) -> bytes:
    """The same bytes with one bit turned."""
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_what_nobody_touched_is_right(copy: Home) -> None:
    assert problems(copy) == []
    assert verify(copy).stdout == f"{sum(KINDS.values()) + 3} checked, 0 wrong\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_named_in_every_blob(copy: Home, kind: str) -> None:
    blobs = [sha256 for (sha256,) in rows(copy, "SELECT sha256 FROM blob WHERE kind = ?", kind)]
    assert len(blobs) == KINDS[kind]
    for sha256 in blobs:
        file = copy.blobs / sha256[:2] / sha256
        data = file.read_bytes()
        for place in (0, len(data) // 2, len(data) - 1):
            with changed(file, flipped(data, place)):
                (problem,) = problems(copy)
            check_named(copy, problem, kind, sha256)
            assert "changed" in problem["message"]
    assert problems(copy) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_and_a_shortened_blob_are_named(copy: Home, kind: str) -> None:
    (sha256,) = rows(copy, "SELECT sha256 FROM blob WHERE kind = ? LIMIT 1", kind)[0]
    file = copy.blobs / sha256[:2] / sha256
    for data in (None, file.read_bytes()[:-1], b""):
        with changed(file, data):
            (problem,) = problems(copy)
        check_named(copy, problem, kind, sha256)
        if data is None:
            assert "No such file" in problem["message"]


def check_named(home: Home, problem: dict[str, str], kind: str, sha256: str) -> None:
    assert problem["file"] == f"db/blobs/{sha256[:2]}/{sha256}"
    assert problem["where"] == kind
    if kind in ("latents", "tail"):
        segment = value(home, "SELECT id FROM segment WHERE ? IN (latents, tail)", sha256)
        assert segment[:12] in problem["hint"]


def change(home: Home, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


def asks_other(home: Home, id_: str, *, cover: bool) -> None:
    """Change what a segment says it was asked; with `cover` its key too, so that only the id gives it away."""
    ask = json.loads(value(home, "SELECT ask FROM segment WHERE id = ?", id_))
    ask["prompt"] = "something else"
    change(home, "UPDATE segment SET ask = ? WHERE id = ?", json.dumps(ask), id_)
    if cover:
        change(home, "UPDATE segment SET ask_key = ? WHERE id = ?", digest(ask), id_)


def swaps_blob(home: Home, id_: str, column: str) -> None:
    other = value(home, f"SELECT {column} FROM segment WHERE id != ?", id_)
    change(home, f"UPDATE segment SET {column} = ? WHERE id = ?", other, id_)


def loses_parent(home: Home, id_: str) -> None:
    change(home, "UPDATE segment SET parent_id = NULL WHERE id = ?", id_)


LIES: dict[str, tuple[Callable[[Home, str], None], str]] = {
    "ask": (lambda home, id_: asks_other(home, id_, cover=False), "ask"),
    "ask and its key": (lambda home, id_: asks_other(home, id_, cover=True), "id"),
    "key": (lambda home, id_: change(home, "UPDATE segment SET ask_key = 'f' WHERE id = ?", id_), "ask"),
    "latents": (lambda home, id_: swaps_blob(home, id_, "latents"), "id"),
    "tail": (lambda home, id_: swaps_blob(home, id_, "tail"), "id"),
    "parent": (loses_parent, "parent"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_row_that_was_changed_is_named(copy: Home, lie: str) -> None:
    tip = value(copy, "SELECT tip_id FROM video")
    tell, where = LIES[lie]
    tell(copy, tip)
    (problem,) = problems(copy)
    assert (problem["file"], problem["where"]) == (f"segment {tip[:12]}", where)


def test_a_changed_video_file_is_named_and_a_missing_one_is_its_users_business(copy: Home) -> None:
    path = value(copy, "SELECT path FROM artifact")
    file = copy.root / path
    with changed(file, flipped(file.read_bytes(), 100)):
        (problem,) = problems(copy)
    assert problem["file"] == path
    assert "changed" in problem["message"]
    file.unlink()
    assert problems(copy) == []
