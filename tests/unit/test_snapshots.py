"""Snapshots of segments in flight: exact, checked, paced, swept; and never the reason that a job fails."""

from __future__ import annotations

import errno
import logging
import math
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import svid.store.snapshots
from svid.api import Snapshot
from svid.errors import StoreError
from svid.home import Home
from svid.render.checkpoint import REST, Pace, SegmentCheckpoint
from svid.render.env import circumstances, deciding_bits
from svid.store.engine import Store
from svid.store.models import Blob, Job, Segment, Video
from svid.store.snapshots import KEPT_SECONDS, Snapshots, sweep

KEY = "a" * 64
TENSORS = {
    "latents": torch.randn(1, 16, 2, 3, 3, generator=torch.Generator().manual_seed(1)),
    "scalar": torch.tensor(1 / 3, dtype=torch.float64),
    "count": torch.tensor([2**62 + 1, -1]),
    "half": torch.tensor([1.5, -0.0, float("nan")]).bfloat16(),
    "none": torch.zeros(0, 4),
    "bytes": torch.Generator().manual_seed(3).get_state(),
}
SNAPSHOT = Snapshot(3, 8, TENSORS, {"state": {"order": 2, "sigma": 0.1, "list": [None, True, {"tensor": "count"}]}})
ENV = {"threads": 1, "libraries": {"torch": "1", "diffusers": "2"}}


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    (tmp_path / "db/tmp").mkdir(parents=True)
    return Snapshots(tmp_path / "db/snapshots", tmp_path / "db/tmp")


def checkpoint(snapshots: Snapshots, heard: list[Snapshot] | None = None, **more: Any) -> SegmentCheckpoint:
    given = {"pace": Pace(0, lambda: 0.0), "env": ENV} | more
    resumed = (heard if heard is not None else []).append
    return SegmentCheckpoint(snapshots, key=KEY, resumed=resumed, **given)


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), bytes(tensor.reshape(-1).view(torch.uint8).tolist())


def test_what_is_read_is_what_was_written(snapshots: Snapshots) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)
    stored = snapshots.read(KEY)
    assert stored is not None
    assert (stored.snapshot.step, stored.snapshot.steps, stored.snapshot.facts) == (3, 8, SNAPSHOT.facts)
    assert {name: bits(one) for name, one in stored.snapshot.tensors.items()} == {
        name: bits(one) for name, one in TENSORS.items()
    }
    assert stored.env == ENV
    assert [file for file in snapshots.tmp.rglob("*") if file.is_file()] == []


def test_the_same_snapshot_is_the_same_file(snapshots: Snapshots) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)
    first = snapshots.path(KEY).read_bytes()
    snapshots.write(KEY, SNAPSHOT, ENV)
    assert snapshots.path(KEY).read_bytes() == first


def test_tensors_may_share_memory_and_lie_any_way(snapshots: Snapshots) -> None:
    steps = torch.arange(10)
    snapshots.write(KEY, Snapshot(1, 2, {"a": steps[2], "b": steps[3], "c": steps, "d": steps.view(2, 5).T}), ENV)
    stored = snapshots.read(KEY)
    assert stored is not None
    assert torch.equal(stored.snapshot.tensors["d"], steps.view(2, 5).T)
    assert stored.snapshot.tensors["b"] == 3


def test_none_is_none(snapshots: Snapshots) -> None:
    assert snapshots.read(KEY) is None
    assert checkpoint(snapshots).resume(lambda snapshot: snapshot) is None


# What is no good


def spoilt() -> list[Any]:
    def flipped(place: float) -> Callable[[bytes], bytes]:
        return lambda data: data[: (at := int(place * (len(data) - 1)))] + bytes([data[at] ^ 0x10]) + data[at + 1 :]

    def cut(place: float) -> Callable[[bytes], bytes]:
        return lambda data: data[: int(place * len(data))]

    return [
        *(pytest.param(flipped(number / 60), id=f"a bit flipped at {number}/60") for number in range(61)),
        *(pytest.param(cut(number / 10), id=f"cut at {number}/10") for number in range(10)),
        pytest.param(lambda data: data + b"x", id="longer"),
        pytest.param(lambda data: bytes(len(data)), id="zeros, as a power cut leaves them"),
        pytest.param(lambda data: pickle.dumps([1, 2]), id="a pickle"),
        pytest.param(lambda data: b"\xff" * 8 + data[8:], id="a header without end"),
        pytest.param(lambda data: b"\x02" + bytes(7) + b"[]", id="a header of another kind"),
    ]


@pytest.mark.parametrize("spoil", spoilt())
def test_a_spoilt_snapshot_is_set_aside_with_a_warning(
    snapshots: Snapshots, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)
    path, heard = snapshots.path(KEY), []
    bad = spoil(path.read_bytes())
    path.write_bytes(bad)
    assert checkpoint(snapshots, heard).resume(lambda snapshot: snapshot) is None
    assert heard == []
    assert "is set aside, step 1 begins: db/snapshots/aaaa" in caplog.text
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.damaged"]
    checkpoint(snapshots).offer(lambda: SNAPSHOT)
    assert checkpoint(snapshots, heard).resume(lambda snapshot: "good") == "good"


def test_a_snapshot_of_another_ask_is_not_this_ones(snapshots: Snapshots) -> None:
    snapshots.write("b" * 64, SNAPSHOT, ENV)
    snapshots.path("b" * 64).rename(snapshots.path(KEY))
    with pytest.raises(StoreError, match=f"expected format 1 of {KEY}, found 1 of bbbb"):
        snapshots.read(KEY)


def test_what_can_not_be_read_is_no_reason_to_fail(snapshots: Snapshots, caplog: pytest.LogCaptureFixture) -> None:
    snapshots.path(KEY).mkdir(parents=True)
    assert checkpoint(snapshots).resume(lambda snapshot: snapshot) is None
    assert "can't be read: Is a directory" in caplog.text


def test_a_sampler_that_stumbles_begins_anew(snapshots: Snapshots, caplog: pytest.LogCaptureFixture) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)

    def take(snapshot: Snapshot) -> None:
        raise ZeroDivisionError("by a plugin")

    heard: list[Snapshot] = []
    assert checkpoint(snapshots, heard).resume(take) is None
    assert heard == []
    assert "ZeroDivisionError: by a plugin" in caplog.text
    assert snapshots.read(KEY) is None


def test_what_goes_wrong_with_the_loras_is_not_the_snapshots_fault(snapshots: Snapshots) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)

    def resumed(snapshot: Snapshot) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        SegmentCheckpoint(snapshots, Pace(0), KEY, ENV, resumed).resume(lambda snapshot: snapshot)
    assert snapshots.read(KEY) is not None


def test_another_environment_begins_anew_and_says_what_changed(
    snapshots: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)
    other = checkpoint(snapshots, env={"threads": 2, "libraries": {"torch": "1"}, "more": "x"})
    assert other.resume(lambda snapshot: snapshot) is None
    changed = "libraries.diffusers was '2', is None; more was None, is 'x'; threads was 1, is 2"
    assert f"is not used, step 1 begins: {changed}" in caplog.text
    assert checkpoint(snapshots).resume(lambda snapshot: snapshot.step) == 3, "it is still good where it was made"


def test_bits_are_decided_by_versions_threads_and_processor_and_not_by_the_host() -> None:
    found = circumstances("cpu")
    bits = deciding_bits(found)
    assert {"libraries", "threads", "device", "processor", "numpy", "precision", "attention"} <= set(bits)
    assert deciding_bits({**found, "host": "another", "cpus": 99}) == bits
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert deciding_bits(circumstances("cpu")) != bits
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), ValueError("?")])
def test_a_write_that_fails_costs_nothing(
    snapshots: Snapshots, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)

    def publish(part: Path, target: Path) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(svid.store.snapshots, "publish", publish)
        checkpoint(snapshots).offer(lambda: Snapshot(4, 8, TENSORS))
    assert "no snapshot of ask aaaaaaaaaaaa" in caplog.text
    assert [file for file in snapshots.tmp.rglob("*") if file.is_file()] == [], (
        "half a file would keep a full disk full"
    )
    stored = snapshots.read(KEY)
    assert stored is not None
    assert stored.snapshot.step == 3, "the one before is still there"

    def make() -> Snapshot:
        raise error

    checkpoint(snapshots).offer(make)


def test_the_step_is_told_of_any_bytes_without_an_error(snapshots: Snapshots) -> None:
    assert snapshots.step(KEY) == 0
    snapshots.write(KEY, SNAPSHOT, ENV)
    assert snapshots.step(KEY) == 3
    deep = b"[" * 200_000
    for data in (b"", b"\xff" * 64, len(deep).to_bytes(8, "little") + deep, b"\x02" + bytes(7) + b"[]"):
        snapshots.path(KEY).write_bytes(data)
        assert snapshots.step(KEY) == 0


# The pace


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


def test_nothing_is_kept_in_memory(snapshots: Snapshots) -> None:
    import gc
    import weakref

    tensor = torch.zeros(4)
    one, seen = checkpoint(snapshots), weakref.ref(tensor)
    one.offer(lambda tensor=tensor: Snapshot(1, 2, {"latents": tensor}))  # type: ignore[misc]
    del tensor
    gc.collect()
    assert seen() is None


# The sweep


def job(session: Any, name: str, accepted: datetime, *, over: bool) -> None:
    session.add(Video(id=f"v{name}", name=name))
    session.flush()
    fields: dict[str, Any] = dict.fromkeys(("file", "claimed", "text", "id", "digest", "home"), name)
    state = "failed" if over else "queued"
    times = {"created": accepted, "ended": accepted if over else None}
    session.add(Job(**fields, occurrence=1, manifest={}, pictures={}, video_id=f"v{name}", state=state, **times))


def segment(session: Any, key: str) -> None:
    session.add(Blob(sha256="0" * 64, kind="latents", bytes=1))
    session.flush()
    numbers = dict.fromkeys(("index", "frames", "overlap", "parent_trim", "width", "height", "seconds"), 1)
    texts = dict.fromkeys(("latents", "tail"), "0" * 64)
    session.add(Segment(id="s", ask_key=key, ask={}, env={}, seed="1", **numbers, **texts))


def test_the_sweep_takes_what_nobody_comes_back_for(home: Home, store: Store) -> None:
    snapshots, now = Snapshots(home.snapshots, home.tmp), datetime(2030, 1, 31, tzinfo=UTC)
    week = timedelta(seconds=KEPT_SECONDS)

    def written(key: str, ago: timedelta) -> None:
        snapshots.write(key, SNAPSHOT, ENV)
        moment = (now - ago).timestamp()
        os.utime(snapshots.path(key), (moment, moment))

    written("fresh", timedelta(hours=1))
    written("committed", timedelta(hours=1))
    written("old", week * 1.1)
    written("spoilt", week * 1.1)
    snapshots.set_aside("spoilt")
    (home.snapshots / ".gitkeep").touch()
    with store.write() as session:
        job(session, "over", now - week * 2, over=True)
        job(session, "waits", now - week * 2, over=False)
        segment(session, "committed")
    assert sweep(snapshots, store, now.timestamp()) == [], "that job may go on with any of them"
    with store.write() as session:
        session.get_one(Job, 2).ended = now
        job(session, "new", now - timedelta(minutes=1), over=False)
    taken = ["committed.safetensors", "old.safetensors", "spoilt.safetensors.damaged"]
    assert sweep(snapshots, store, now.timestamp()) == taken
    assert sorted(file.name for file in home.snapshots.iterdir()) == [".gitkeep", "fresh.safetensors"]


def test_a_log_says_that_a_segment_goes_on(snapshots: Snapshots, caplog: pytest.LogCaptureFixture) -> None:
    snapshots.write(KEY, SNAPSHOT, ENV)
    with caplog.at_level(logging.INFO, "svid.checkpoint"):
        checkpoint(snapshots).resume(lambda snapshot: snapshot)
    assert "ask aaaaaaaaaaaa goes on after step 3 of 8" in caplog.text
