"""`svid doctor` says what is amiss with the storage of a home."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from svid.cli import main
from svid.home import Home
from svid.store import disk
from tests.e2e.tools import bench_in, new, value


@pytest.fixture
def home(tmp_path: Path) -> Home:
    bench = bench_in(tmp_path / "home")
    bench.run(new("a", "one"))
    bench.store.close()
    return bench.home


def doctor(home: Home, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["--home", str(home.root), "doctor"])
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_healthy_home_has_room_and_all_that_it_stored(home: Home) -> None:
    found = doctor(home)
    assert "MiB free, 256 MiB of them kept free" in found
    assert "5 blobs and segments looked at" in found
    assert "error" not in found


def test_a_missing_blob_old_leftovers_and_no_room_are_named(home: Home) -> None:
    sha256 = value(home, "SELECT tail FROM segment")
    (home.blobs / sha256[:2] / sha256).unlink()
    leftover = home.tmp / "tmpabc"
    leftover.write_bytes(b"x")
    os.utime(leftover, (time.time() - 90_000,) * 2)
    config = home.root / "svid.toml"
    config.write_text(config.read_text().replace("settle = 0.2", "settle = 0.2\ndisk_reserve = 100_000_000"))
    found = doctor(Home(home.root), code=1)
    assert f"db/blobs/{sha256[:2]}/{sha256}: tail: can't be read" in found
    assert "db/tmp: 1 files of more than a day ago" in found
    assert "stopped: " in found


def test_a_folder_that_can_not_be_written_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk.probe

    def probe(folder: Path) -> object:
        return real(folder / "gone") if folder == home.done else real(folder)

    monkeypatch.setattr(disk, "probe", probe)
    assert "watch/done: No such file or directory" in doctor(home, code=1)


def test_a_damaged_database_does_not_end_the_doctor(home: Home) -> None:
    for ending in ("-wal", "-shm"):
        Path(f"{home.database}{ending}").unlink(missing_ok=True)
    home.database.write_bytes(b"not a database" * 1000)
    found = doctor(home, code=1)
    assert "svid recover rebuilds it" in found
    assert "model wan22-mini" in found
