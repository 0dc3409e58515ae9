"""Single passes of the daemon's loop: what comes in one breath, in another order than meant, or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from svid.cli.open import desk_of
from svid.daemon import loop
from svid.daemon.loop import Daemon
from svid.errors import Problem, StorageError
from svid.home import Home
from svid.inbox.arrivals import Arrivals
from svid.screen import screen_for
from svid.store import queue
from svid.workbench import Workbench
from tests.e2e.tools import drop, new, rows


class Told:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def show(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def files(self, kind: str) -> list[str]:
        return [event["file"] for event in self.events if event["event"] == kind]


class Talker:
    """A render process and its wire: it says what it is given to say, and has ended where `ended`."""

    def __init__(self, job: str | None, said: list[dict[str, Any]], *, ended: bool = False) -> None:
        self.job, self.attempt, self.doing, self.starved = job, 1, dict[str, Any](), False
        self.wire, self._said, self._ended, self.at, self.killed = self, said, ended, "", False
        self.outdated = False

    def receive(self) -> list[dict[str, Any]]:
        return self._said

    def lost(self, patience: float, turn: float) -> bool:
        return self._ended

    def bury(self) -> str:
        return "it ended"

    def heard(self) -> None: ...

    def said(self, event: dict[str, Any]) -> None: ...

    def stop(self, *, now: bool) -> None: ...

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    bench = Workbench(home, desk_of(home))
    made = Daemon(home, bench.store, bench.desk, Told())
    made.intake.arrivals = Arrivals(settle=0.0)  # one look is enough
    yield made
    made.lock.release()


def running(daemon: Daemon) -> str:
    """A job that this daemon's render process has."""
    drop(daemon.home, "a.json", new("a", "one"))
    daemon.intake.take()
    job = queue.claim(daemon.store, daemon.lock.id, daemon.home.id)
    assert job is not None
    return job.id


def test_an_extension_that_is_older_than_its_video_waits_for_it(daemon: Daemon) -> None:
    drop(daemon.home, "base.json", new("harbour", "one"))
    drop(daemon.home, "more.json", {"extend": "harbour", "prompts": ["two"]})
    drop(daemon.home, "never.json", {"extend": "nobody", "prompts": ["two"]})
    os.utime(daemon.home.inbox / "more.json", (1, 1))
    os.utime(daemon.home.inbox / "never.json", (0, 0))
    assert isinstance(daemon.screen, Told)
    daemon.intake.take()
    assert daemon.screen.files("accepted") == ["base.json"]
    daemon.intake.take()
    assert daemon.screen.files("accepted") == ["base.json", "more.json"]
    assert daemon.screen.files("refused") == ["never.json"]


def test_an_outcome_is_heard_although_the_progress_before_it_could_not_be_noted(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(daemon)

    def full(*_: Any) -> None:
        raise StorageError(Problem("db/svid.db", "", "No space left on device"))

    monkeypatch.setattr(queue, "note_progress", full)
    outcome = {"event": "outcome", "outcome": "failed", "errors": [{"message": "no"}], "job": job, "attempt": 1}
    said = [{"event": "committed", "id": "x", "job": job}, {**outcome, "rss": 1.0}]
    child = Talker(job, said)
    daemon.child = child  # type: ignore[assignment]
    daemon._hear()
    assert child.job is None
    daemon.halt.check()
    daemon._pay()
    assert rows(daemon.home, "SELECT state FROM job") == [("failed",)]


@pytest.mark.parametrize(("stopping", "outcome"), [(0, "crashed"), (1, "crashed"), (2, "crashed"), (3, "stopped")])
def test_a_render_process_that_has_ended_is_buried_while_the_daemon_stops(
    daemon: Daemon, stopping: int, outcome: str
) -> None:
    """After a third signal it was the daemon that ended it, which counts against no job."""
    job = running(daemon)
    child = daemon.child = Talker(job, [], ended=True)  # type: ignore[assignment]
    daemon.stopping, daemon.paused = stopping, True
    daemon.orders.pause()
    daemon._pass()
    assert daemon.child is None
    assert child.killed == (stopping > 2)
    assert rows(daemon.home, "SELECT state FROM job") == [("queued",)]
    assert rows(daemon.home, "SELECT outcome FROM attempt") == [(outcome,)]


def test_strangers_among_the_claimed_files_keep_no_daemon_from_ending(daemon: Daemon) -> None:
    (daemon.home.claimed / ".3fa9c1b2-probe.part").touch()
    daemon.once = True
    daemon._pass()
    assert daemon._finished()


def test_a_job_without_a_render_process_is_taken_up_again(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    drop(daemon.home, "a.json", new("a", "one"))
    monkeypatch.setattr(loop, "Child", fails)
    with pytest.raises(OSError, match="Input/output"):
        daemon._pass()
    assert rows(daemon.home, "SELECT state, worker FROM job") == [("running", daemon.lock.id)]
    daemon.orders.pause()
    daemon._pass()
    assert rows(daemon.home, "SELECT state, worker FROM job") == [("queued", None)]
    assert rows(daemon.home, "SELECT outcome FROM attempt") == [("interrupted",)]


def test_a_job_in_hand_or_one_whose_end_is_owed_is_not_taken_up_again(daemon: Daemon) -> None:
    job = running(daemon)
    daemon.paused = True
    daemon.orders.pause()
    daemon.child = Talker(job, [])  # type: ignore[assignment]
    daemon._pass()
    assert rows(daemon.home, "SELECT state FROM job") == [("running",)]
    daemon.child.job = None
    daemon._owed.append((job, 1, {"outcome": "failed", "errors": [Problem("a.json", "", "no").as_dict()]}))
    assert daemon._works(daemon.lock.id)
    daemon._pass()
    assert rows(daemon.home, "SELECT state FROM job") == [("failed",)]


class Full(io.StringIO):
    """A log on a disk that is full."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_that_takes_no_more_costs_no_work(as_json: bool) -> None:
    full = Full()
    with screen_for(Console(file=full), as_json=as_json) as screen:
        screen.show({"event": "up", "home": "h", "once": True})
    assert full.tries


def test_an_order_to_cancel_a_job_that_is_not_there_is_kept_for_what_may_become_it(daemon: Daemon) -> None:
    daemon.orders.cancel("j000000000000")
    (daemon.home.claimed / f"{daemon.lock.id}.1.a.json").write_text(json.dumps(new("a", "one")))
    daemon._obey()
    assert daemon.orders.cancelled() == ["j000000000000"]
    daemon.intake.take()
    daemon._obey()
    assert daemon.orders.cancelled() == []


@pytest.mark.parametrize("told", ["stopping", "draining"])
def test_a_run_until_nothing_is_left_that_was_told_to_end_says_whether_something_is(daemon: Daemon, told: str) -> None:
    daemon.once = True
    setattr(daemon, told, 1)
    assert daemon._exit_code() == 0
    drop(daemon.home, "a.json", new("a", "one"))
    daemon.intake.take()
    assert daemon._exit_code() == StorageError.exit_code
    daemon.once = False
    assert daemon._exit_code() == 0, "who ends a daemon that watches wants just that"
