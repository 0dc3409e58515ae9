"""What a lease hangs on: a lock of the kernel's, and a number that grows. No clock has a part in it."""

from __future__ import annotations

import ast
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from svid.daemon import lock
from svid.daemon.child import Child
from svid.daemon.lock import DaemonLock, is_alive, running
from svid.home import Home
from svid.store import queue, scratch
from svid.store.engine import Store
from svid.store.models import Attempt, Job
from svid.store.scratch import own_folder, sweep_dead, sweep_own
from tests.unit.test_queue import HOME, add_job

YEARS = 10 * 365 * 24 * 3600.0


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_time_jump_takes_no_job_from_a_daemon_that_lives(
    home: Home, store: Store, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = DaemonLock(home.daemons, HOME)
    add_job(store, 1)
    job = queue.claim(store, living.id, HOME)
    assert job is not None
    for name in ("time", "monotonic"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + jump)
    then = queue.now() + datetime.timedelta(seconds=jump)
    monkeypatch.setattr(queue, "now", lambda: then)
    os.utime(living.file, (then.timestamp(), then.timestamp()))
    looks = DaemonLock(home.daemons, HOME)
    assert queue.recover(store, HOME, looks.alive) == []
    with queue.held(store, job.id, job.attempt) as session:
        queue.finish(session, job.id, job.attempt)
    looks.release()
    living.release()


def test_what_decides_over_leases_has_no_clock() -> None:
    tree = ast.parse(Path(lock.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "fcntl" in imported
    assert not imported & {"time", "datetime", "sched", "threading"}


def test_the_kernel_ends_the_lease_of_a_daemon_that_dies(home: Home, store: Store) -> None:
    script = (
        "import os, sys; from pathlib import Path; from svid.daemon.lock import DaemonLock\n"
        "print(DaemonLock(Path(sys.argv[1]), sys.argv[2]).id, flush=True); sys.stdin.read(); os._exit(1)"
    )
    command = [sys.executable, "-c", script, str(home.daemons), HOME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().strip()
        add_job(store, 1)
        assert queue.claim(store, worker, HOME) is not None
        looks = DaemonLock(home.daemons, HOME)
        assert queue.recover(store, HOME, looks.alive) == []
        process.communicate("")
    assert queue.recover(store, HOME, looks.alive) == ["j1"]
    looks.release()


def test_a_home_takes_over_its_own_jobs_only(store: Store) -> None:
    add_job(store, 1, home="h1")
    add_job(store, 2, home="h2")
    assert queue.claim(store, "h1-a", "h3") is None
    assert [queue.claim(store, "w", home).id for home in ("h2", "h1")] == ["j2", "j1"]  # type: ignore[union-attr]
    assert queue.recover(store, "h2", alive=lambda _: False) == ["j2"]


def test_every_claim_has_a_larger_number_and_only_the_last_one_writes(store: Store) -> None:
    add_job(store, 1)
    for number in (1, 2, 3):
        job = queue.claim(store, f"w{number}", HOME)
        assert job is not None
        assert job.attempt == number
        if number < 3:
            assert queue.recover(store, HOME, alive=lambda _: False) == ["j1"]
    for late in (1, 2):
        with pytest.raises(queue.Fenced), queue.held(store, "j1", late):
            raise AssertionError("it got in")
        with pytest.raises(queue.Fenced):
            queue.note_progress(store, "j1", late, {"step": 1})
        with pytest.raises(queue.Fenced):
            queue.release(store, "j1", late, "stopped")
        with pytest.raises(queue.Fenced):
            queue.cancel(store, "j1", attempt=late)
        with pytest.raises(queue.Fenced):
            queue.fail(store, "j1", late, [])
        with pytest.raises(queue.Fenced):
            queue.crashed(store, "j1", late, "signal 9", 3)
    with store.read() as session:
        assert [one.outcome for one in session.query(Attempt).order_by(Attempt.n)] == ["interrupted"] * 2 + [None]
        row = session.query(Job).one()
        assert (row.state, row.attempt, row.worker, row.progress, row.errors) == ("running", 3, "w3", None, None)
    with queue.held(store, "j1", 3) as session:
        queue.finish(session, "j1", 3)
    with pytest.raises(queue.Fenced, match="or has ended"), queue.held(store, "j1", 3):
        raise AssertionError("it got in")


def test_a_lock_file_that_was_removed_is_put_back(home: Home) -> None:
    mine = DaemonLock(home.daemons, home.id)
    assert not mine.keep()
    mine.file.unlink()
    assert not is_alive(home.daemons, mine.id)
    assert mine.keep()
    assert is_alive(home.daemons, mine.id)
    mine.file.unlink()
    mine.file.touch()  # another file of its name
    assert mine.keep()
    assert not mine.keep()
    assert running(home.daemons, home.id) == [mine.id]
    assert running(home.daemons, "h00000009") == []
    mine.release()
    assert running(home.daemons) == []


def test_whoever_looks_while_a_lock_is_made_does_not_make_it_look_dead(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of the file and its lock, somebody takes it for a dead daemon's and removes it."""
    real, looked = lock.fcntl.flock, []

    def flock(handle: int, operation: int) -> None:
        if not looked:
            looked.append(handle)
            (name,) = [file.name for file in home.daemons.iterdir()]
            assert not is_alive(home.daemons, name)
        real(handle, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    mine = DaemonLock(home.daemons, home.id)
    assert looked
    assert is_alive(home.daemons, mine.id)
    mine.release()


# Scratch files


def test_scratch_files_of_the_living_are_left_and_those_of_the_dead_are_swept(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from svid.store.scratch import own_folder\n"
        "own = own_folder(Path(sys.argv[1])); (own / 'a').touch(); print(own.name, flush=True)\n"
        "sys.stdin.read(); os._exit(1)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    (own_folder(tmp_path) / "mine").touch()
    (tmp_path / "tmpabc").mkdir()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = tmp_path / process.stdout.readline().strip()
        assert theirs != own_folder(tmp_path)
        sweep_dead(tmp_path)
        assert (theirs / "a").exists()
        process.communicate("")
    sweep_dead(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own_folder(tmp_path), tmp_path / "tmpabc"])
    assert (own_folder(tmp_path) / "mine").exists()
    sweep_own(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "tmpabc"]


def test_a_process_that_ends_leaves_no_scratch_folder(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from svid.store.scratch import own_folder; own_folder(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_between_the_making_of_a_folder_and_its_lock_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = scratch.fcntl.flock, []

    def flock(handle: int, operation: int) -> None:
        if not swept:
            swept.append(handle)
            sweep_dead(tmp_path)
            assert list(tmp_path.iterdir()) == []
        real(handle, operation)

    monkeypatch.setattr(scratch.fcntl, "flock", flock)
    folder = own_folder(tmp_path)
    assert swept
    assert folder.is_dir()
    sweep_dead(tmp_path)
    assert folder.is_dir()
    sweep_own(tmp_path)


# A daemon that was stopped


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_in_which_a_daemon_was_stopped_does_not_count_as_its_child_s_silence(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "python").chmod(0o755)
    clock = Clock()
    monkeypatch.setattr("svid.daemon.child.sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("svid.daemon.child.time.monotonic", clock)
    with (tmp_path / "lock").open("w") as file:
        child = Child(home, file.fileno())
    child.render("j1", 1, {})
    clock.now = 3600.0  # frozen for an hour, the child as well
    assert not child.lost(10.0, 3.0)
    for clock.now in (3602.0, 3604.0, 3606.0):
        assert not child.lost(10.0, 3.0)
    clock.now = 3607.0
    assert child.lost(10.0, 3.0), "ten seconds that it lived through: 3 + 2 + 2 + 2 + 1"
    monkeypatch.undo()
    assert "it said nothing for 10 seconds" in child.bury()
