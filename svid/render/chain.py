"""The stage chain for one segment. The order of the stages is data; plugins serve them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from svid.api import Carry, Clip, Conditioning, Job, Progress, Segment, State
from svid.canonical import digest
from svid.errors import Problem, StageError
from svid.render.loras import HeldLoras

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins

TAIL_FRAMES = 5
"""Exact frames kept of every segment: as many as any SVI variant conditions on."""


@dataclass
class Work:
    """A segment on its way through the chain; every stage adds its part."""

    plugins: Plugins
    load: Callable[[Job, Segment], Any]
    job: Job
    segment: Segment
    carry: Carry | None
    progress: Progress
    out: Path
    dropped: int = 0
    """Frames at the end that are not shown, because another segment follows and repeats them."""
    begins: Callable[[str], None] = lambda stage: None
    """Hears which stage begins."""
    model: Any = None
    conditioning: Conditioning | None = None
    loras: HeldLoras = field(default_factory=HeldLoras)
    lora_report: Mapping[str, Any] = field(default_factory=dict)
    state: State = field(default_factory=dict)
    frames: Iterator[torch.Tensor] | None = None
    tail: deque[torch.Tensor] = field(default_factory=lambda: deque(maxlen=TAIL_FRAMES))
    clip: Clip | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def ask(self, stage: str, **more: Any) -> Any:
        """Have the plugins serve a stage for this segment."""
        return self.plugins.call(f"svid_{stage}", self.job, self.segment, **more)


def _load_model(work: Work) -> None:
    work.model = work.load(work.job, work.segment)


def _build_conditioning(work: Work) -> None:
    work.conditioning = work.ask("build_conditioning", model=work.model, carry=work.carry)


def _apply_loras(work: Work) -> None:
    segment = work.segment
    part = work.plugins.ask(work.job, segment)
    key = digest({"loras": repr(segment.loras), "cut": repr(segment.cut), "plugins": part})
    with work.plugins.blame("svid_apply_loras"):
        work.lora_report = work.loras.apply(key, lambda: work.ask("apply_loras", model=work.model))


def _sample(work: Work) -> None:
    work.state = work.ask("sample", model=work.model, conditioning=work.conditioning, progress=work.progress)
    for name, tensor in work.state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise StageError(
                Problem(f"segment {work.segment.index + 1}", name, "expected finite numbers, found NaN or infinity")
            )


def _decode(work: Work) -> None:
    work.frames = work.ask("decode", model=work.model, state=work.state, carry=work.carry)


def _encode(work: Work) -> None:
    with work.plugins.blame("svid_decode"):
        work.clip = work.ask("encode", frames=_shown(work), out=work.out)


def _shown(work: Work) -> Iterator[torch.Tensor]:
    """The decoded frames that are shown, one pass, keeping the tail; they are never all in memory."""
    first, end = work.segment.overlap, work.segment.frames - work.dropped
    seen = 0
    for frames in _decoded(work):
        work.tail.extend(frames)
        shown = frames[max(0, first - seen) : max(0, end - seen)]
        seen += len(frames)
        if len(shown):
            yield shown
    if seen != work.segment.frames:
        where = f"segment {work.segment.index + 1}"
        raise StageError(Problem(where, "decode", f"expected {work.segment.frames} frames, found {seen}"))


def _decoded(work: Work) -> Iterator[torch.Tensor]:
    """The decoder's frames, noting the seconds that it takes for them."""
    if work.frames is None:
        raise StageError(Problem("svid.toml", "chain.stages", "expected decode before encode"))
    began = time.perf_counter()
    for frames in work.frames:
        work.seconds["decode"] = work.seconds.get("decode", 0.0) + time.perf_counter() - began
        yield frames
        began = time.perf_counter()


STAGES: dict[str, Callable[[Work], None]] = {
    "load_model": _load_model,
    "build_conditioning": _build_conditioning,
    "apply_loras": _apply_loras,
    "sample": _sample,
    "decode": _decode,
    "encode": _encode,
}
"""What a segment goes through. The last stage of a chain, `join`, is for the whole video (svid.render.video)."""


def run_chain(stages: Sequence[str], work: Work) -> None:
    """Take one segment through the stages, in the order given, noting the seconds that each took."""
    for stage in stages:
        if stage in STAGES:
            work.begins(stage)
            began = time.perf_counter()
            STAGES[stage](work)
            work.seconds[stage] = work.seconds.get(stage, 0.0) + time.perf_counter() - began
    # Frames are decoded while they are encoded; what the decoder took is not the encoder's.
    if "encode" in work.seconds:
        work.seconds["encode"] -= work.seconds.get("decode", 0.0)
