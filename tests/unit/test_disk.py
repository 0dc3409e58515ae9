from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from svid.config import DaemonTable
from svid.daemon.halt import Halt, patiently
from svid.daemon.lock import DaemonLock, notes
from svid.errors import MediaError, Problem, StageError, StorageError
from svid.home import Home, bundled_dir
from svid.store import disk, engine, queue
from svid.store.engine import Store, open_store
from svid.store.models import Video
from tests.full import limited
from tests.unit.test_queue import add_job, crash, take

MIGRATIONS = bundled_dir() / "db" / "migrations"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_a_full_disk_is_found_behind_the_error_of_a_plugin() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "db/tmp/1-0.part")
    for error in (full, caused(StageError("x"), full), caused(MediaError("x"), caused(RuntimeError("y"), full))):
        found = disk.storage_problem(error)
        assert found is not None
        assert str(found) == "db/tmp/1-0.part: No space left on device (free some space)"


def test_what_a_disk_can_do_nothing_about_is_nobody_elses() -> None:
    for error in (ValueError("x"), FileNotFoundError(2, "no"), sqlite3.IntegrityError("x"), MemoryError()):
        assert disk.storage_problem(error) is None


def test_a_given_file_on_a_broken_disk_is_refused_and_stops_nothing() -> None:
    broken = caused(MediaError(Problem("a.png", "", "can't be read")), OSError(errno.EIO, "Input/output error"))
    with pytest.raises(MediaError), disk.storage_errors():
        raise broken


def test_errors_that_go_in_a_circle_are_looked_at_once() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert disk.storage_problem(one) is None


def test_a_probe_writes_and_leaves_nothing(tmp_path: Path) -> None:
    assert disk.probe(tmp_path) is None
    with limited(disk.PROBE // 2):
        found = disk.probe(tmp_path)
    assert found is not None
    assert found.message == "File too large"
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_the_disk_is_no_fault_of_the_job(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store), crash(store)] == [True, True]
    for _ in range(5):
        assert take(store) == "j1"
        with store.read() as session:
            attempt = session.connection().exec_driver_sql("SELECT attempt FROM job").scalar_one()
        queue.release(store, "j1", attempt, "storage", "full")
    assert crash(store) is False, "the third death in a row; waiting in between does not set the count back"


@pytest.fixture
def shown() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def halt(home: Home, store: Store, shown: list[dict[str, Any]]) -> Halt:
    return Halt(home, store, DaemonLock(home.daemons, home.id), shown.append)


def hold(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_locked_database_is_waited_for(
    home: Home, halt: Halt, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 50)
    halt.store.close()
    holder = hold(home.database)
    with halt.guard(), halt.store.write() as session:
        session.add(Video(id="v", name="v"))
    assert halt.broken
    assert "database is locked" in notes(home.daemons, home.id)[0]
    halt._until = 0.0
    halt.look()
    assert halt.tries == 2
    holder.close()
    halt._until = 0.0
    halt.look()
    assert (halt.reason, notes(home.daemons, home.id)) == (None, [])
    assert [event["event"] for event in shown] == ["halted", "recovered-disk"]
    with halt.store.write() as session:
        session.add(Video(id="v", name="v"))


def test_pauses_grow_and_a_committed_segment_ends_that(halt: Halt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    pauses = []
    for _ in range(20):
        halt.met(Problem("db", "", "no space"))
        pauses.append(halt._until - 1000.0)
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert max(pauses) == pauses[-1] == 600.0
    halt.committed()
    halt.met(Problem("db", "", "no space"))
    assert halt._until - 1000.0 == pytest.approx(0.2)


def test_freed_space_ends_a_pause(halt: Halt, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 100 * disk.MIB
    monkeypatch.setattr(disk, "free_bytes", lambda folder: free)
    for _ in range(10):
        halt.met(Problem("db", "", "no space"))
    halt.look()
    assert halt.broken
    free += 8 * disk.MIB
    halt.look()
    assert not halt.broken


def test_a_database_that_is_gone_stops_the_daemon_and_is_not_made_anew(home: Home, halt: Halt) -> None:
    aside = home.db / "aside.db"
    halt.store.close()
    home.database.rename(aside)
    halt.look()
    assert str(halt.reason).startswith("db/svid.db: is gone")
    assert not home.database.exists()
    aside.rename(home.database)
    halt.look()
    assert halt.reason is None


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
def test_a_damaged_database_stops_the_daemon_until_a_whole_one_is_there(home: Home, halt: Halt, damage: str) -> None:
    with halt.store.write() as session:
        session.add(Video(id="v", name="v"))
    halt.store.close()
    whole = home.database.read_bytes()
    assert not home.database.with_name("svid.db-wal").exists(), "the last connection has moved it into the database"
    part = home.db / "other"
    part.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"\xa5" * len(whole))
    part.replace(home.database)
    halt.look()
    with halt.guard(), halt.store.write() as session:
        session.add(Video(id="w", name="w"))
        session.flush()
        session.connection().exec_driver_sql("PRAGMA integrity_check").all()
        session.connection().exec_driver_sql("SELECT * FROM file_digest, artifact, job_segment, clip, attempt").all()
    assert halt.broken
    assert "svid recover" in notes(home.daemons, home.id)[0]
    halt.store.close()
    for leftover in ("svid.db-wal", "svid.db-shm"):
        home.database.with_name(leftover).unlink(missing_ok=True)
    part.write_bytes(whole)
    part.replace(home.database)
    halt._until = 0.0
    halt.look()
    assert halt.reason is None
    with halt.store.read() as session:
        assert session.get_one(Video, "v").name == "v"


def test_starting_waits_for_the_disk_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    answers: list[Exception] = [OSError(errno.EROFS, "Read-only file system"), StorageError(Problem("db", "", "busy"))]

    def make() -> str:
        if answers:
            raise answers.pop(0)
        return "made"

    assert patiently(make, 2.0, lambda event: None) == "made"
    assert slept == [2.0, 4.0]
    answers.append(ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        patiently(make, 2.0, lambda event: None)


def test_the_reserve_is_a_key_of_the_daemon() -> None:
    assert DaemonTable().disk_reserve == 256


KILLED = """
import os, signal, sys
from alembic import op
revision, down_revision = "9999", "{down}"
def upgrade():
    op.execute("ALTER TABLE video ADD COLUMN mood TEXT")
    op.execute("UPDATE video SET name = 'changed'")
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_migration_that_is_killed_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    newer, database = tmp_path / "migrations", tmp_path / "svid.db"
    with open_store(database, MIGRATIONS).write() as session:
        session.add(Video(id="v1", name="harbour"))
    shutil.copytree(MIGRATIONS, newer, ignore=shutil.ignore_patterns("__pycache__"))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (down,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    (newer / "versions" / "9999_killed.py").write_text(KILLED.format(down=down))
    code = "import sys, pathlib, svid.store.engine as e; e.open_store(*map(pathlib.Path, sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(database), str(newer)]
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, "DIE": "1"}, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with open_store(database, MIGRATIONS).read() as session:
            assert session.get_one(Video, "v1").name == "harbour"
        with contextlib.closing(sqlite3.connect(tmp_path / "backups" / f"svid-{down}.db")) as backup:
            assert backup.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    subprocess.run(command, check=True)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name, mood FROM video").fetchall() == [("changed", None)]
