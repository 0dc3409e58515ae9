"""Pictures that come after their manifest, or are being written while it is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon.loop import Daemon
from svid.home import Home
from svid.inbox.arrivals import Arrivals
from svid.workbench import Workbench
from tests.conftest import svid
from tests.e2e.tools import drop, new

SETTLE = 1.0
NOW = 1_800_000_000.0


class Clock:
    """Both of them: ours from 0 on, and the calendar, which a file's times are of."""

    def __init__(self) -> None:
        self.now = 0.0

    def ours(self) -> float:
        return self.now

    def calendar(self) -> float:
        return NOW + self.now


class Told:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def show(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def pop(self) -> list[tuple[str, str]]:
        said = [(event["event"], event["file"]) for event in self.events]
        self.events.clear()
        return said


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arrivals(clock: Clock) -> Arrivals:
    return Arrivals(SETTLE, clock.ours, clock.calendar)


@pytest.fixture
def daemon(home: Home, arrivals: Arrivals) -> Iterator[Daemon]:
    bench = Workbench(home, desk_of(home))
    made = Daemon(home, bench.store, bench.desk, Told())
    made.intake.arrivals = arrivals
    yield made
    made.lock.release()


def write(file: Path, data: bytes, at: float) -> None:
    file.write_bytes(data)
    os.utime(file, (at, at))


def test_a_file_that_has_lain_there_is_not_waited_for(arrivals: Arrivals, tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"x", NOW - SETTLE)
    assert not arrivals.is_written(tmp_path / "a.png")


@pytest.mark.parametrize("at", [NOW - 0.5, NOW + 1e6])
def test_a_young_file_is_waited_for_until_it_has_not_changed(
    arrivals: Arrivals, clock: Clock, tmp_path: Path, at: float
) -> None:
    file = tmp_path / "a.png"
    write(file, b"x", at)
    assert arrivals.is_written(file)
    clock.now = 0.25
    assert arrivals.is_written(file)
    write(file, b"xx", at)
    assert arrivals.is_written(file)
    clock.now = 1.0
    assert arrivals.is_written(file) is (at > NOW)
    clock.now = 1.25
    assert not arrivals.is_written(file)


def test_a_file_that_changes_is_waited_for_however_old_it_says_it_is(arrivals: Arrivals, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    write(file, b"x", NOW - 3600)
    assert not arrivals.is_written(file)
    write(file, b"xx", NOW - 3600)
    assert arrivals.is_written(file)


def test_what_is_not_there_may_come(arrivals: Arrivals, clock: Clock, tmp_path: Path) -> None:
    file, draft = tmp_path / "a.png", tmp_path / ".a.png.x1Yz"
    assert not arrivals.is_written(file)
    assert arrivals.may_come(file)
    clock.now = 4.9
    assert arrivals.may_come(file)
    write(draft, b"x", NOW)  # as rsync does
    assert arrivals.may_come(file)
    clock.now = 9.8
    assert arrivals.may_come(file)
    clock.now = 9.9
    assert not arrivals.may_come(file)


def test_names_that_are_none_do_not_come(arrivals: Arrivals, clock: Clock, tmp_path: Path) -> None:
    for name in ("a\0b.png", "a" * 5000, "nowhere/a.png"):
        assert not arrivals.is_written(tmp_path / name)
        arrivals.may_come(tmp_path / name)
    clock.now = 5.0
    assert not arrivals.may_come(tmp_path / "a\0b.png")


def test_a_manifest_waits_for_its_picture(daemon: Daemon, clock: Clock) -> None:
    told, whole = daemon.screen, (daemon.home.inbox / "harbour.png").read_bytes()
    assert isinstance(told, Told)
    drop(daemon.home, "a.json", new("a", "one", image="late.png"))
    daemon.intake.take()
    assert told.pop() == [("waits", "a.json")]
    assert daemon.intake.waiting
    assert "taken, but no jobs yet: a.json" in svid(daemon.home, "status").stdout
    clock.now = 4.0
    write(daemon.home.inbox / "late.png", whole[: len(whole) // 2], NOW + 4.0)
    for clock.now in (4.1, 4.6):
        daemon.intake.take()
    clock.now = 5.2  # it seems to be written, and is damaged
    daemon.intake.take()
    assert told.pop() == []
    write(daemon.home.inbox / "late.png", whole, NOW + 5.2)
    for clock.now in (5.3, 6.3):
        assert daemon.intake.waiting
        daemon.intake.take()
    assert told.pop() == [("accepted", "a.json")]
    assert "taken, but" not in svid(daemon.home, "status").stdout
    assert not daemon.intake.waiting


@pytest.mark.parametrize("damaged", [False, True])
def test_a_picture_that_does_not_come_costs_its_manifest(daemon: Daemon, clock: Clock, damaged: bool) -> None:
    told = daemon.screen
    assert isinstance(told, Told)
    if damaged:
        write(daemon.home.inbox / "late.png", b"no picture", NOW - 3600)
    drop(daemon.home, "a.json", new("a", "one", image="late.png"))
    drop(daemon.home, "b.json", {"extend": "a", "prompts": ["two"]})
    daemon.intake.take()
    clock.now = 4.9
    daemon.intake.take()
    assert told.pop() == [("waits", "a.json")]
    clock.now = 5.0
    daemon.intake.take()
    assert ("refused", "a.json") in told.pop()


def test_an_extension_waits_for_as_long_as_its_video_waits_for_a_picture(
    daemon: Daemon, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, late = daemon.screen, daemon.home.inbox / "late.png"
    whole = (daemon.home.inbox / "harbour.png").read_bytes()
    assert isinstance(told, Told)
    drop(daemon.home, "a.json", new("a", "one", image="late.png"))
    drop(daemon.home, "b.json", {"extend": "a", "prompts": ["two"]})
    monkeypatch.setattr("svid.daemon.intake.time.monotonic", clock.ours)
    for second in range(100):  # a slow copy
        clock.now = float(second)
        write(late, whole[:second], NOW + second)
        daemon.intake.take()
    assert told.pop() == []
    write(late, whole, NOW + 100)
    for clock.now in (100.0, 101.0):
        daemon.intake.take()
    daemon.intake.take()
    assert told.pop() == [("accepted", "a.json"), ("accepted", "b.json")]
