"""Promise 8, as far as it does not depend on a clock: what is rendered, decoded, encoded and opened for an extension is
the same however long the video is, and no video's frames are ever all in memory."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from svid.store.blobs import Blobs
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, value

LONG = 12


@dataclass
class Seen:
    """What a job did."""

    calls: Counter[str] = field(default_factory=Counter)
    read: list[str] = field(default_factory=list)
    """Blobs that were read into memory."""
    pieces: list[int] = field(default_factory=list)
    """Frames that the encoder got at a time."""
    most: int = 0
    """Most pieces of decoded frames that were alive at once."""
    segments: list[int] = field(default_factory=list)
    """Indices of the segments that were decoded."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("flat") / "home")


@pytest.fixture
def seen(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Seen:
    watched, alive = Seen(), weakref.WeakSet[torch.Tensor]()
    call, get = bench.studio.plugins.call, Blobs.get

    def frames_from(decoder: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        # No name holds on to a piece while the next one is made, or the count would be of this function's own doing.
        for piece in decoder:
            alive.add(piece)
            watched.most = max(watched.most, len(alive))
            yield piece
            del piece

    def frames_to(frames: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        for piece in frames:
            watched.pieces.append(len(piece))
            yield piece
            del piece

    def watching(stage: str, job: Any, segment: Any, /, **kwargs: Any) -> Any:
        watched.calls[stage] += 1
        if stage == "svid_encode":
            kwargs["frames"] = frames_to(kwargs["frames"])
        answer = call(stage, job, segment, **kwargs)
        if stage == "svid_decode":
            watched.segments.append(segment.index)
            return frames_from(answer)
        return answer

    def reading(blobs: Blobs, sha256: str) -> bytes:
        watched.read.append(sha256)
        return get(blobs, sha256)

    monkeypatch.setattr(bench.studio.plugins, "call", watching)
    monkeypatch.setattr(Blobs, "get", reading)
    return watched


def extended(bench: Workbench, seen: Seen, video: str) -> tuple[dict[str, Any], dict[str, Any], Seen]:
    """The video before and after one more segment, and what that took."""
    before = bench.show(video)
    for part in (seen.calls, seen.read, seen.pieces, seen.segments):
        part.clear()
    seen.most = 0
    after = bench.run({"extend": video, "prompts": ["one more"]})
    return before, after, seen


@pytest.mark.parametrize("length", [1, LONG])
def test_an_extension_costs_one_segment_however_long_the_video_is(bench: Workbench, seen: Seen, length: int) -> None:
    bench.run(new(f"of {length}", "on and on", segments=length))
    before, after, took = extended(bench, seen, f"of {length}")
    assert len(after["segments"]) == length + 1
    stages = ("svid_build_conditioning", "svid_apply_loras", "svid_sample", "svid_decode", "svid_encode", "svid_join")
    assert took.calls == dict.fromkeys(stages, 1)
    assert took.segments == [length]
    # What the last one left, and whom it followed, by which the decoder is known that it was decoded with.
    last = [bench.show(one["id"]) for one in before["segments"][-2:]]
    assert sorted(took.read) == sorted(one[kind] for one in last for kind in ("latents", "tail"))
    assert sum(took.pieces) == 4


def test_frames_go_to_the_encoder_four_at_a_time_and_are_let_go(bench: Workbench, seen: Seen) -> None:
    video = bench.run(new("longer", "one", "two", frames=65))
    assert video["artifacts"][0]["frames"] == 65 + 60
    assert max(seen.pieces) == 4
    assert sum(seen.pieces) == 65 + 60
    assert len(seen.pieces) == 17 + 15
    assert seen.most <= 4, "of 17 pieces a segment: the one being made, those being passed on, the one being encoded"


def test_what_a_segment_leaves_has_one_size(bench: Workbench) -> None:
    bench.run(new("sizes", "one", "two", "three", frames=17))
    sizes = {
        kind: {
            value(bench.home, "SELECT bytes FROM blob WHERE sha256 = ?", bench.show(one["id"])[kind])
            for one in bench.show("sizes")["segments"]
        }
        for kind in ("latents", "tail")
    }
    assert [len(found) for found in sizes.values()] == [1, 1]


def test_nothing_is_left_lying_about(bench: Workbench) -> None:
    bench.run(new("tidy", "one", "two"))
    assert [file for file in bench.home.tmp.rglob("*") if ".mp4" in Path(file).name] == []
    assert list(bench.home.done.rglob(".*.part")) == []
