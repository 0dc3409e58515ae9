"""Single passes of the daemon's loop: what comes in one breath, in another order than meant, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon.loop import Daemon
from svid.errors import Problem, StorageError
from svid.home import Home
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
        self.wire, self._said, self._ended = self, said, ended

    def receive(self) -> list[dict[str, Any]]:
        return self._said

    def lost(self, patience: float, turn: float) -> bool:
        return self._ended

    def bury(self) -> str:
        return "it ended"

    def heard(self) -> None: ...

    def said(self, event: dict[str, Any]) -> None: ...

    def stop(self, *, now: bool) -> None: ...


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    bench = Workbench(home, desk_of(home))
    made = Daemon(home, bench.store, bench.desk, Told())
    yield made
    made.lock.release()


def running(daemon: Daemon) -> str:
    """A job that this daemon's render process has."""
    drop(daemon.home, "a.json", new("a", "one"))
    daemon._take_files()
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
    daemon._take_files()
    assert daemon.screen.files("accepted") == ["base.json"]
    daemon._take_files()
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


@pytest.mark.parametrize("stopping", [0, 1, 2])
def test_a_render_process_that_has_ended_is_buried_while_the_daemon_stops(daemon: Daemon, stopping: int) -> None:
    job = running(daemon)
    daemon.child = Talker(job, [], ended=True)  # type: ignore[assignment]
    daemon.stopping, daemon.paused = stopping, True
    daemon.orders.pause()
    daemon._pass()
    assert daemon.child is None
    assert rows(daemon.home, "SELECT state FROM job") == [("queued",)]
