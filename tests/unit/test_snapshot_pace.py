"""When snapshots of segments in flight are written: writing them is a bounded share of the time."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest

from svid.api import Snapshot
from svid.render.checkpoint import REST, Pace
from svid.store.snapshots import Snapshots
from tests.unit import checkpoints
from tests.unit.checkpoints import ENV, KEY, SNAPSHOT, TENSORS, checkpoint

snapshots = checkpoints.snapshots


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def writes(seconds: float, step: float, took: float, until: float) -> list[tuple[float, float]]:
    """When writes began and ended, where each step takes `step` seconds and each write `took`."""
    clock, found = Clock(), []
    pace = Pace(seconds, clock)
    begun = clock.now
    while clock.now - begun < until:
        clock.now += step
        if pace.due(stopping=False):
            began = clock.now
            with pace.writing():
                clock.now += took
            found.append((began - begun, clock.now - begun))
    return found


@pytest.mark.parametrize("seconds", [0.0, 5.0, 30.0])
@pytest.mark.parametrize("step", [0.01, 1.0, 45.0])
@pytest.mark.parametrize("took", [0.0, 0.001, 0.2, 3.0])
def test_writing_is_a_bounded_share_of_the_time(seconds: float, step: float, took: float) -> None:
    found = writes(seconds, step, took, 1000)
    gaps = [after[0] - before[1] for before, after in pairwise(found)]
    least = max(seconds, REST * took)
    assert found, "long enough for one"
    assert found[0][0] >= seconds
    assert all(gap >= least - 1e-6 for gap in gaps)
    assert all(gap <= least + step + 1e-6 for gap in gaps), "and no later than that, as steps fall"
    for count in range(1, len(found)):
        assert count * took <= found[count][0] / (1 + REST) + 1e-6


def test_a_segment_that_is_shorter_than_the_pace_is_never_written() -> None:
    clock = Clock()
    pace = Pace(30, clock)
    for _ in range(10):
        pace.begin()
        clock.now += 29
        assert not pace.due(stopping=False)
    clock.now += 1
    assert pace.due(stopping=False)


def test_the_bound_holds_across_segments_and_for_writes_that_fail(snapshots: Snapshots) -> None:
    clock, made = Clock(), []
    pace = Pace(0, clock)

    def slow() -> Snapshot:
        made.append(clock.now)
        clock.now += 2
        raise OSError

    for _ in range(200):
        checkpoint(snapshots, pace=pace).offer(slow)
        clock.now += 1
    assert made == [1000, 1102]


def test_what_is_about_to_stop_is_written_at_once_if_ever(snapshots: Snapshots) -> None:
    clock, stop = Clock(), SimpleNamespace(now=False)
    one = checkpoint(snapshots, pace=Pace(30, clock), stopping=lambda: stop.now)
    one.offer(lambda: SNAPSHOT)
    assert snapshots.read(KEY) is None
    stop.now = True
    one.offer(lambda: SNAPSHOT)
    assert snapshots.read(KEY) is not None
    assert not Pace(math.inf, clock).due(stopping=True)


def sampled(snapshots: Snapshots, pace: Pace, clock: Clock, seconds: float, steps: int = 8) -> list[int]:
    """After which steps of a segment that take `seconds` each a snapshot was written."""
    one, found = checkpoint(snapshots, pace=pace), list[int]()

    def make(step: int) -> Snapshot:
        found.append(step)
        return Snapshot(step, steps, TENSORS)

    for step in range(1, steps + 1):
        clock.now += seconds
        one.offer(lambda step=step: make(step))  # type: ignore[misc]
        one.passed(step, steps)
    return found


def test_the_last_step_is_written_before_decoding_unless_all_of_them_took_little_time(snapshots: Snapshots) -> None:
    clock = Clock()
    assert sampled(snapshots, Pace(30, clock), clock, 10) == [3, 6, 8]
    assert sampled(snapshots, Pace(30, clock), clock, 3.7) == []
    assert sampled(snapshots, Pace(30, clock), clock, 15) == [2, 4, 6, 8], "once, where it is due anyway"
    assert sampled(snapshots, Pace(math.inf, clock), clock, 10) == []


def test_a_segment_that_goes_on_before_its_last_step_knows_so(snapshots: Snapshots) -> None:
    clock = Clock()
    snapshots.write(KEY, Snapshot(7, 8, TENSORS), ENV)
    pace = Pace(30, clock)
    one = checkpoint(snapshots, pace=pace)
    assert one.resume(lambda snapshot: snapshot) is not None
    with pace.writing():
        clock.now += 0.1
    clock.now += 29.95
    one.offer(lambda: Snapshot(8, 8, TENSORS))
    stored = snapshots.read(KEY)
    assert stored is not None
    assert stored.snapshot.step == 8


def test_the_bound_on_the_time_holds_for_the_last_step_too() -> None:
    clock = Clock()
    pace = Pace(5, clock)
    with pace.writing():
        clock.now += 2
    clock.now += 99
    assert not pace.due(stopping=False, last=True)
    clock.now += 1
    assert pace.due(stopping=False, last=True)


def test_nothing_is_made_before_it_is_due(snapshots: Snapshots) -> None:
    checkpoint(snapshots, pace=Pace(30, Clock())).offer(lambda: pytest.fail("not yet"))
