"""An attempt that was taken over writes nothing, wherever it was: no row, no file. It says so and goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon.lock import running
from svid.daemon.worker import _try
from svid.errors import StorageError
from svid.home import Home
from svid.inbox.accept import accept
from svid.inbox.answer import answer_finished, refuse
from svid.inbox.claim import adopt, claim
from svid.inbox.drop import drop_json
from svid.render.job import render_job
from svid.render.watch import Watch
from svid.store import engine, queue, scratch
from svid.store.scratch import sweep_own
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.shared import picture
from tests.e2e.tools import PATIENCE, drop, ends, killed_at_last, new, rows, start, value, wait_for

OPEN = ["job-started", "mid-sampling", "snapshot-written", "segment-drafted", "segment-committed", "video-written"]
"""Where an attempt can be taken over."""
SHUT = ["latents-published", "tail-published", "clip-published", "video-published"]
"""Where it holds the lock of the database, because it is giving files their names."""


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A home that writes snapshots as often as can be, with a job of two segments."""
    quick_home(tmp_path / "home")
    config = tmp_path / "home/svid.toml"
    config.write_text(config.read_text().replace("snapshot_seconds = 30.0", "snapshot_seconds = 0.0"))
    home = Home(tmp_path / "home")
    made = Workbench(home, desk_of(home))
    made.accept(new("a", "one", "two"))
    return made


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Callable[[], None]], None]:
    """Have something done when a point is passed for the first time, where a crash test has the process killed."""

    def arm(point: str, act: Callable[[], None]) -> None:
        (tmp_path / "fired").mkdir()
        monkeypatch.setenv("SVID_CRASH", point)
        monkeypatch.setenv("SVID_CRASH_ONCE", str(tmp_path / "fired"))

        def instead(_process: int, number: int) -> None:
            assert number == signal.SIGKILL
            act()

        monkeypatch.setattr("svid.crash.os.kill", instead)

    return arm


def attempt(bench: Workbench) -> dict[str, Any]:
    """One go at the next job, as the render process makes it."""
    job = queue.claim(bench.store, "old", bench.home.id)
    assert job is not None
    outcome = _try(
        lambda: render_job(bench.studio, job.id, job.attempt, Watch(lambda event: None)), bench.home, bench.store
    )
    sweep_own(bench.home.tmp)
    return outcome


def taken_over(bench: Workbench) -> None:
    """As if the daemon were dead, another one takes its job and brings it to its end."""
    other = Workbench(bench.home, desk_of(bench.home))
    assert len(queue.recover(other.store, bench.home.id, alive=lambda worker: False)) == 1
    assert other.work().attempt == 2


@pytest.mark.parametrize("point", OPEN)
def test_what_comes_after_a_takeover_touches_nothing(
    bench: Workbench, at: Callable[[str, Callable[[], None]], None], point: str
) -> None:
    seen = []

    def act() -> None:
        taken_over(bench)
        seen.append(picture(bench.home))

    at(point, act)
    assert attempt(bench) == {"outcome": "lost"}
    assert seen == [picture(bench.home)]
    assert list(bench.home.tmp.iterdir()) == []
    assert rows(bench.home, "SELECT state, attempt, answered FROM job") == [("done", 2, 1)]
    assert [outcome for (outcome,) in rows(bench.home, "SELECT outcome FROM attempt ORDER BY n")] == [
        "interrupted",
        "done",
    ]


@pytest.mark.parametrize("point", SHUT)
def test_nobody_takes_over_while_files_get_their_names(
    bench: Workbench,
    at: Callable[[str, Callable[[], None]], None],
    point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 50)
    tried = []

    def act() -> None:
        other = desk_of(bench.home).store
        with pytest.raises(StorageError, match="locked"):
            queue.recover(other, bench.home.id, alive=lambda worker: False)
        tried.append(point)

    at(point, act)
    assert attempt(bench) == {"outcome": "done"}
    assert tried == [point]


def test_an_old_encoding_that_comes_late_is_not_kept(
    bench: Workbench, at: Callable[[str, Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is encoded again before the next is rendered, because that has another codec, is fenced too."""
    bench.work()
    bench.accept({"extend": "a", "prompts": ["three"], "encode": {"codec": "ffv1"}})
    seen = []
    real = bench.studio.blobs.draft_file

    def drafted(part: Path) -> Any:
        found = real(part)
        if not seen and value(bench.home, "SELECT count(*) FROM job_segment") == 2:
            taken_over(bench)
            seen.append(picture(bench.home))
        return found

    monkeypatch.setattr(bench.studio.blobs, "draft_file", drafted)
    assert attempt(bench) == {"outcome": "lost"}
    assert seen == [picture(bench.home)]


def test_an_answer_that_comes_late_does_not_put_back_what_was_taken_out(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.claim(bench.store, "old", bench.home.id)
    assert job is not None
    queue.fail(bench.store, job.id, job.attempt, [])
    other, real = desk_of(bench.home).store, bench.store.write

    def write() -> Any:
        """Between what it has read and what it writes, another daemon answers, and somebody clears up."""
        monkeypatch.setattr(bench.store, "write", real)
        assert answer_finished(bench.home, other) == [job.id]
        shutil.rmtree(bench.home.failed / job.id)
        return real()

    monkeypatch.setattr(bench.store, "write", write)
    assert answer_finished(bench.home, bench.store) == []
    assert list(bench.home.failed.iterdir()) == []


def test_a_manifest_that_another_daemon_has_adopted_makes_no_second_job(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, desk = bench.home, bench.desk
    mine = claim(drop_json(home, "b", new("b", "one")), home.claimed, "late")
    assert mine is not None
    real = desk.understand

    def understand(*given: Any) -> Any:
        found = real(*given)
        monkeypatch.setattr(desk, "understand", real)
        theirs = list(adopt(home.claimed, "other", lambda _: False, has_job(home), bench.store.write))
        assert [accept(desk, one) is not None for one in theirs] == [True]
        return found

    monkeypatch.setattr(desk, "understand", understand)
    assert accept(desk, mine) is None
    assert refuse(home, bench.store, mine, []) is None
    assert value(home, "SELECT count(*) FROM job WHERE file = 'b.json'") == 1
    assert list(home.failed.iterdir()) == []


def has_job(home: Home) -> Callable[[str], bool]:
    return lambda name: bool(value(home, "SELECT count(*) FROM job WHERE claimed = ?", name))


def test_a_manifest_that_becomes_a_job_at_the_last_moment_is_not_adopted(bench: Workbench) -> None:
    home = bench.home
    mine = claim(drop_json(home, "b", new("b", "one")), home.claimed, "late")
    assert mine is not None
    asked = []

    def late(name: str) -> bool:
        """The one that seemed dead makes its job between the first look and the second."""
        if name == mine.path.name:
            asked.append(name)
            if len(asked) == 1:
                assert not has_job(home)(name)
                assert accept(bench.desk, mine) is not None
                return False
        return has_job(home)(name)

    assert list(adopt(home.claimed, "other", lambda _: False, late, bench.store.write)) == []
    assert len(asked) == 2
    assert mine.path.exists()
    assert os.path.lexists(home.claimed / value(home, "SELECT claimed FROM job WHERE file = 'b.json'"))


STOPS = """
import os, signal
from pathlib import Path
from svid import hookimpl

MARK = Path(__file__).parents[1] / "stopped"

@hookimpl
def svid_encode(job):
    if job.name == "stops" and not MARK.exists():
        MARK.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
"""
"""A plugin that stops its process once, as Ctrl-Z or a frozen container would, before a segment is encoded."""


def stop_outside_of_writes(process: int, home: Home) -> None:
    """Stop a daemon while it can't be in the middle of a write: all others would wait for the lock that it holds."""
    with contextlib.closing(sqlite3.connect(home.database, timeout=PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        os.kill(process, signal.SIGSTOP)
        wait_for(lambda: stopped_process(process))
        connection.execute("ROLLBACK")


def stopped_process(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.slow
def test_a_daemon_that_is_stopped_keeps_its_job_and_one_that_was_taken_over_says_so_and_goes_on(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    (home.plugins / "stops.py").write_text(STOPS)
    drop(home, "stops.json", new("stops", "one"))
    old = start(home, "up")
    with killed_at_last(old):
        mark = home.root / "stopped"
        child = int(wait_for(lambda: mark.is_file() and mark.read_text(), old))
        wait_for(lambda: stopped_process(child), old)
        stop_outside_of_writes(old.pid, home)
        (worker,) = running(home.daemons, home.id)

        young = start(home, "up")
        with killed_at_last(young):
            # Stopped is not dead: however long that takes, another daemon does what else there is, and no more.
            drop(home, "other.json", new("other", "one"))
            wait_for(lambda: states(home).get("other.json") == ("done", 1, 1), young)
            assert states(home)["stops.json"] == ("running", 1, 0)
            # Somebody clears up what looks like a leftover, and with it goes what the old one is known by.
            (home.daemons / worker).unlink()
            wait_for(lambda: states(home)["stops.json"] == ("done", 2, 1), young)
            young.terminate()
            assert ends(young)[0] == 0
        before = picture(home)

        os.kill(child, signal.SIGCONT)
        os.kill(old.pid, signal.SIGCONT)
        assert old.stderr is not None
        said = ""
        while "attempt 1 was taken over" not in said:
            line = old.stderr.readline()
            assert line, said
            said += line
        assert f"db/daemons/{worker} was removed and is there again" in said
        assert picture(home) == before
        assert running(home.daemons, home.id) == [worker]
        drop(home, "next.json", new("next", "one"))
        wait_for(lambda: states(home).get("next.json") == ("done", 1, 1), old)
        old.terminate()
        assert ends(old)[0] == 0
    assert [left for left in home.tmp.iterdir() if scratch.NAME.fullmatch(left.name)] == []
    assert len(list(home.done.iterdir())) == 3


def states(home: Home) -> dict[str, tuple[Any, ...]]:
    return {file: tuple(rest) for file, *rest in rows(home, "SELECT file, state, attempt, answered FROM job")}
