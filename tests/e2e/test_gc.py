"""`svid gc`: what a video, a pin or a waiting job leads to stays; the rest goes into the trash, and can come back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from svid.cli import main
from svid.cli.open import desk_of
from svid.errors import NotFound
from svid.home import Home
from svid.store import gc
from svid.store.files import sha256_of
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, rows, run, value


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Home:
    bench = bench_in(tmp_path_factory.mktemp("gc") / "home")
    bench.run(new("a", "one", "two", "three"))
    bench.run({"branch": "a@1", "name": "b", "prompts": ["other"]})
    bench.store.close()
    return bench.home


@pytest.fixture
def bench(rendered: Home, tmp_path: Path) -> Workbench:
    shutil.copytree(rendered.root, tmp_path / "home")
    home = Home(tmp_path / "home")
    return Workbench(home, desk_of(home))


def chain(home: Home, name: str) -> list[str]:
    sql = """WITH RECURSIVE walk(id, parent, n) AS (
        SELECT s.id, s.parent_id, s."index" FROM video v JOIN segment s ON s.id = v.tip_id WHERE v.name = ?
        UNION ALL SELECT s.id, s.parent_id, s."index" FROM segment s JOIN walk ON s.id = walk.parent)
        SELECT id FROM walk ORDER BY n"""
    return [id_ for (id_,) in rows(home, sql, name)]


def point(home: Home, name: str, tip: str | None) -> None:
    with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("UPDATE video SET tip_id = ? WHERE name = ?", (tip, name))


def files(home: Home) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in home.blobs.rglob("*") if file.is_file()}


def stored(home: Home) -> dict[str, list[Any]]:
    tables = ("blob", "asset", "segment", "clip", "job_segment", "artifact")
    return {table: sorted(map(repr, rows(home, f"SELECT * FROM {table}"))) for table in tables}


def collect(bench: Workbench) -> tuple[gc.Garbage, Path | None]:
    return gc.collect(bench.store, bench.home, bench.studio.blobs, young=0.0)


def verified(home: Home) -> bool:
    return CliRunner().invoke(main, ["--home", str(home.root), "verify"]).stdout.endswith(" 0 wrong\n")


def test_nothing_goes_that_a_video_leads_to(bench: Workbench) -> None:
    before = files(bench.home)
    found, folder = collect(bench)
    assert (found.as_dict(), folder) == ({"segments": 0, "blobs": 0, "orphans": 0, "bytes": 0}, None)
    assert files(bench.home) == before


def test_what_only_a_moved_tip_led_to_goes_and_comes_back_as_it_was(bench: Workbench) -> None:
    home = bench.home
    whole, before, b = files(home), stored(home), chain(home, "b")
    one, two, three = chain(home, "a")
    point(home, "a", one)
    found, folder = collect(bench)
    assert folder is not None
    assert found.segments == [three, two], "children first"
    assert [id_ for (id_,) in rows(home, 'SELECT id FROM segment ORDER BY "index"')] == b
    assert files(home).keys() == whole.keys() - set(found.blobs)
    assert {file.name for file in folder.iterdir()} == {"rows.json", *found.blobs}
    assert verified(home)
    assert bench.run({"extend": "b", "prompts": ["on"], "name": "b"})["segments"][0]["id"] == one
    with pytest.raises(NotFound):
        gc.put_back(bench.store, home, bench.studio.blobs, "19990101T000000Z")
    gc.put_back(bench.store, home, bench.studio.blobs, folder.name)
    point(home, "a", three)
    assert not folder.exists()
    assert all(set(before[table]) <= set(stored(home)[table]) for table in before)
    assert files(home).items() >= whole.items()
    assert verified(home)
    assert len(bench.run({"extend": "a", "prompts": ["four"]})["segments"]) == 4


def test_two_runs_in_one_second_can_both_be_undone_the_later_one_first(bench: Workbench) -> None:
    home, whole = bench.home, files(bench.home)
    one, two, three = chain(home, "a")
    point(home, "a", two)
    _, first = collect(bench)
    point(home, "a", one)
    _, second = collect(bench)
    assert first is not None
    assert second is not None
    assert first != second
    before = (stored(home), files(home))
    with pytest.raises(NotFound, match="a later run"):
        gc.put_back(bench.store, home, bench.studio.blobs, first.name)
    assert (stored(home), files(home)) == before
    for folder in (second, first):
        gc.put_back(bench.store, home, bench.studio.blobs, folder.name)
    point(home, "a", three)
    assert files(home) == whole
    assert verified(home)


def test_pins_and_jobs_that_wait_keep_what_they_lead_to(bench: Workbench) -> None:
    home, runner = bench.home, CliRunner()
    one, two, three = chain(home, "a")
    assert runner.invoke(main, ["--home", str(home.root), "pin", two[:10]]).stdout == f"{two}\n"
    point(home, "a", one)
    with bench.store.read() as session:
        assert gc.find(session, home, bench.studio.blobs, young=0.0).segments == [three]
    job = value(home, "SELECT id FROM job ORDER BY seq LIMIT 1")
    for state in ("queued", "running"):
        with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
            connection.execute("UPDATE job SET state = ? WHERE id = ?", (state, job))
        with bench.store.read() as session:
            assert gc.find(session, home, bench.studio.blobs, young=0.0).segments == []
    with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("UPDATE job SET state = 'done' WHERE id = ?", (job,))
    runner.invoke(main, ["--home", str(home.root), "pin", two, "--remove"])
    with bench.store.read() as session:
        assert gc.find(session, home, bench.studio.blobs, young=0.0).segments == [three, two]
    assert runner.invoke(main, ["--home", str(home.root), "pin", "ffffffff"]).exit_code == 4


def test_what_a_manifest_names_that_waits_in_the_inbox_stays(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "gull.png").write_bytes((bench.home.watch / "examples/gull.png").read_bytes())
    (tmp_path / "gull.toml").write_text('image = "gull.png"\nprompts = ["a gull"]\n')
    done = CliRunner().invoke(main, ["--home", str(bench.home.root), "submit", str(tmp_path / "gull.toml")])
    dropped = Path(done.stdout.strip())
    sha256 = json.loads(dropped.read_text())["image"].removeprefix("asset:")
    with bench.store.read() as session:
        assert sha256 not in gc.find(session, bench.home, bench.studio.blobs, young=0.0).blobs
        dropped.rename(bench.home.claimed / f"someone.0.{dropped.name}")
        assert sha256 not in gc.find(session, bench.home, bench.studio.blobs, young=0.0).blobs
        (bench.home.claimed / f"someone.0.{dropped.name}").unlink()
        assert sha256 in gc.find(session, bench.home, bench.studio.blobs, young=0.0).blobs


def test_files_without_a_row_go_once_they_are_not_young(bench: Workbench) -> None:
    lost = bench.studio.blobs.put(b"a kill came before the row")
    with bench.store.read() as session:
        assert gc.find(session, bench.home, bench.studio.blobs).orphans == []
    old = time.time() - 2 * gc.YOUNG
    os.utime(bench.studio.blobs.path(lost), (old, old))
    with bench.store.read() as session:
        assert gc.find(session, bench.home, bench.studio.blobs).orphans == [lost]
    assert bench.studio.blobs.put(b"a kill came before the row") == lost
    with bench.store.read() as session:
        assert gc.find(session, bench.home, bench.studio.blobs).orphans == [], "it is being published again"


def test_the_command_changes_nothing_unless_told_and_empties_the_trash_in_the_end(bench: Workbench) -> None:
    home, runner = bench.home, CliRunner()
    lost = bench.studio.blobs.put(b"nobody's")
    old = time.time() - 2 * gc.YOUNG
    os.utime(bench.studio.blobs.path(lost), (old, old))

    def run(*arguments: str) -> dict[str, Any]:
        done = runner.invoke(main, ["--home", str(home.root), "gc", "--json", *arguments])
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    assert (run()["orphans"], run()["moved_to"]) == (1, None)
    assert bench.studio.blobs.path(lost).exists()
    moved = run("--yes")
    assert list(moved["trash"]) == [moved["moved_to"]]
    assert not bench.studio.blobs.path(lost).exists()
    assert run("--undo", moved["moved_to"]) == {"back": 1}
    assert bench.studio.blobs.get(lost) == b"nobody's"
    os.utime(bench.studio.blobs.path(lost), (old, old))
    moved = run("--yes")
    assert run("--yes")["deleted"] == []
    assert run("--yes", "--grace", "0")["deleted"] == [moved["moved_to"]]
    assert list((home.db / "trash").iterdir()) == []
    said = runner.invoke(main, ["--home", str(home.root), "gc"]).stdout
    assert "nothing was changed" in said


@pytest.mark.parametrize("days", ["nan", "-1", "1e12", "inf"])
def test_a_grace_is_a_number_of_days(bench: Workbench, days: str) -> None:
    assert "Invalid value for '--grace'" in run(bench.home, "gc", "--yes", "--grace", days, code=2).output
