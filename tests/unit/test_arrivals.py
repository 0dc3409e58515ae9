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
from svid.inbox.arrivals import LONGEST, Arrivals, Arriving
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


def waits(arrivals: Arrivals, *files: Path, videos: tuple[str, ...] = ()) -> str:
    """How a manifest waits that names these files, as one look finds it; "" where it does not."""
    arrivals.begin()
    try:
        arrivals.check({file.name: file for file in files}, videos)
    except Arriving as arriving:
        return f"{'lacking' if arriving.lacking else 'written'}: {arriving}"
    return ""


def test_a_file_that_has_lain_there_is_not_waited_for(arrivals: Arrivals, tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"x", NOW - SETTLE)
    assert not waits(arrivals, tmp_path / "a.png")


@pytest.mark.parametrize("at", [NOW - 0.5, NOW + 1e6])
def test_a_young_file_is_waited_for_until_it_has_not_changed(
    arrivals: Arrivals, clock: Clock, tmp_path: Path, at: float
) -> None:
    file = tmp_path / "a.png"
    write(file, b"x", at)
    assert waits(arrivals, file) == "written: a.png"
    clock.now = 0.25
    assert waits(arrivals, file)
    write(file, b"xx", at)
    assert waits(arrivals, file)
    clock.now = 1.0
    assert bool(waits(arrivals, file)) is (at > NOW)
    clock.now = 1.25
    assert not waits(arrivals, file)


def test_a_file_that_changes_is_waited_for_however_old_it_says_it_is(
    arrivals: Arrivals, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    write(file, b"x", NOW - 3600)
    assert not waits(arrivals, file)
    clock.now = 0.5
    write(file, b"xx", NOW - 3600)
    assert waits(arrivals, file) == "written: a.png"


def test_a_file_that_is_replaced_time_and_again_is_taken_at_last(
    arrivals: Arrivals, clock: Clock, tmp_path: Path
) -> None:
    file, draft = tmp_path / "webcam.png", tmp_path / "draft"
    found = []
    for number in range(16):
        clock.now = number / 2
        write(draft, bytes(number), NOW + clock.now)
        draft.rename(file)
        found.append(waits(arrivals, file))
    assert found == ["written: webcam.png"] * 11 + [""] * 5


def test_a_file_that_never_stops_growing_is_taken_at_last(arrivals: Arrivals, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "log.png"
    for number in range(LONGEST + 1):
        clock.now = float(number)
        write(file, bytes(number), NOW + number)
        assert waits(arrivals, file)
    clock.now += 1
    write(file, b"", NOW + clock.now)
    assert not waits(arrivals, file)


@pytest.mark.parametrize("beside", [".a.png.x1Yz", "an earlier one.mp4", "a.png.part"])
def test_what_is_not_there_may_come_while_others_do(
    arrivals: Arrivals, clock: Clock, tmp_path: Path, beside: str
) -> None:
    file = tmp_path / "a.png"
    assert waits(arrivals, file) == "lacking: a.png"
    clock.now = 4.75
    assert waits(arrivals, file)
    write(tmp_path / beside, b"x", NOW)
    assert waits(arrivals, file)
    clock.now = 9.5
    assert waits(arrivals, file)
    write(tmp_path / "another.toml", b"", NOW)  # manifests come and go
    clock.now = 9.75
    assert not waits(arrivals, file)


def test_what_is_missing_is_not_waited_for_for_ever(arrivals: Arrivals, clock: Clock, tmp_path: Path) -> None:
    for number in range(LONGEST + 1):
        clock.now = float(number)
        write(tmp_path / "film.mp4.part", bytes(number), NOW + number)
        assert waits(arrivals, tmp_path / "tpyo.png")
    clock.now += 1
    assert not waits(arrivals, tmp_path / "tpyo.png")


def test_names_that_are_none_do_not_come(arrivals: Arrivals, clock: Clock, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a\0b.png", "a" * 5000, "nowhere/a.png")]
    assert waits(arrivals, *names).startswith("lacking")
    clock.now = 5.0
    assert not waits(arrivals, *names)


def test_what_waits_holds_back_what_is_about_the_same_video(arrivals: Arrivals, tmp_path: Path) -> None:
    arrivals.begin()
    for _ in range(2):
        with pytest.raises(Arriving):
            arrivals.check({"a.png": tmp_path / "a.png"}, {"v1", "sea"})
        with pytest.raises(Arriving):
            arrivals.check({}, {"sea", "hills"})
        with pytest.raises(Arriving):
            arrivals.check({}, {"hills"})
        arrivals.check({}, {"desert"})
        write(tmp_path / "a.png", b"x", NOW - 3600)
        arrivals.begin()
        arrivals.check({}, {"hills"})
        (tmp_path / "a.png").unlink()
        arrivals.begin()


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


@pytest.mark.parametrize("first", ["a.json", "b.json"])
def test_an_extension_waits_for_as_long_as_its_video_waits_for_a_picture(
    daemon: Daemon, clock: Clock, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    told, late = daemon.screen, daemon.home.inbox / "late.png"
    whole = (daemon.home.inbox / "harbour.png").read_bytes()
    assert isinstance(told, Told)
    drop(daemon.home, "a.json", new("a", "one", image="late.png"))
    drop(daemon.home, "b.json", {"extend": "a", "prompts": ["two"]})
    os.utime(daemon.home.inbox / first, (1, 1))
    monkeypatch.setattr("svid.daemon.intake.time.monotonic", clock.ours)
    for second in range(100):  # a slow copy
        clock.now = float(second)
        write(late, whole[:second], NOW + second)
        daemon.intake.take()
    assert told.pop() == [("waits", "a.json")]
    write(late, whole, NOW + 100)
    for clock.now in (100.0, 101.0):
        daemon.intake.take()
    daemon.intake.take()
    assert told.pop() == [("accepted", name) for name in ("a.json", "b.json")]


def test_later_manifests_of_a_video_wait_with_it(daemon: Daemon, clock: Clock) -> None:
    told, late = daemon.screen, daemon.home.inbox / "late.png"
    assert isinstance(told, Told)
    write(late, (daemon.home.inbox / "harbour.png").read_bytes(), NOW)
    for number, manifest in enumerate(
        (
            new("sea", "one"),
            {"extend": "sea", "prompts": ["two"], "anchor": "late.png"},
            {"extend": "sea", "prompts": ["three"]},
            {"branch": "sea@1", "name": "lake", "prompts": ["four"]},
            {"extend": "lake", "prompts": ["five"]},
            new("hills", "one"),
        )
    ):
        drop(daemon.home, f"{number}.json", manifest)
        daemon.intake.take()
    assert told.pop() == [("accepted", "0.json"), ("accepted", "5.json")]
    clock.now = SETTLE
    daemon.intake.take()
    assert told.pop() == [("accepted", f"{number}.json") for number in (1, 2, 3, 4)]


def test_what_is_whole_is_not_taken_in_again_while_another_is_missing(
    daemon: Daemon, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    whole = daemon.intake.desk.pictures.take

    def take(written: str, *more: Any) -> Any:
        taken.append(written)
        return whole(written, *more)

    monkeypatch.setattr(daemon.intake.desk.pictures, "take", take)
    harbour = daemon.home.inbox / "harbour.png"
    os.utime(harbour, (NOW - 60, NOW - 60))
    write(daemon.home.inbox / "bad.png", b"no picture", NOW - 60)
    drop(daemon.home, "a.json", new("a", "one", anchor="bad.png"))
    drop(daemon.home, "b.json", new("b", "one", anchor="missing.png"))
    for clock.now in (0.0, 1.0, 2.0, 3.0):
        daemon.intake.take()
    assert taken == ["harbour.png", "bad.png"]
