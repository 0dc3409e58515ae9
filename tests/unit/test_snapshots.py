"""Snapshots of segments in flight: exact, checked, swept; and never the reason that a job fails."""

from __future__ import annotations

import errno
import logging
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

import svid.store.snapshots
from svid.api import Snapshot
from svid.errors import StoreError
from svid.home import Home
from svid.render.checkpoint import Pace, SegmentCheckpoint
from svid.render.env import circumstances, deciding_bits
from svid.store.engine import Store
from svid.store.models import Blob, Job, Segment, Video
from svid.store.snapshots import KEPT_SECONDS, Snapshots, sweep
from tests.unit import checkpoints
from tests.unit.checkpoints import ENV, KEY, SNAPSHOT, TENSORS, checkpoint

snapshots = checkpoints.snapshots


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


def test_nothing_is_kept_in_memory(snapshots: Snapshots) -> None:
    import gc
    import weakref

    tensor = torch.zeros(4)
    one, seen = checkpoint(snapshots), weakref.ref(tensor)
    one.offer(lambda tensor=tensor: Snapshot(1, 2, {"latents": tensor}))  # type: ignore[misc]
    del tensor
    gc.collect()
    assert seen() is None


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
