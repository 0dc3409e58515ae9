"""The stage chain for one segment. The order of the stages is data; plugins serve them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from svid.api import Applied, Carry, Clip, Conditioning, Job, Progress, Segment, Snapshot, State
from svid.canonical import digest
from svid.errors import MediaError, Problem, StageError
from svid.layout import TAIL_FRAMES
from svid.media.blend import as_levels, linear_blend
from svid.media.checking import check_clip
from svid.media.images import resized
from svid.media.reading import read_frames
from svid.render import answers
from svid.render.checkpoint import Keeper, Resumed, no_checkpoint
from svid.render.loras import HeldLoras
from svid.render.steps import Steps
from svid.render.weights import Print, changed, fingerprint

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins


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
    checkpoint: Callable[[Resumed], Keeper] = no_checkpoint
    """Makes the segment's checkpoint, which tells whom it is given where the segment goes on."""
    resumed: int = 0
    """The step after which an interrupted segment goes on; 0: it began at the first."""
    model: Any = None
    conditioning: Conditioning | None = None
    loras: HeldLoras = field(default_factory=HeldLoras)
    applied: Applied = field(default_factory=lambda: Applied({}))
    weights: Print = field(default_factory=dict)
    """What the weights were like before sampling; empty where LoRAs change them from step to step."""
    state: State = field(default_factory=dict)
    frames: Iterator[torch.Tensor] | None = None
    tail: deque[torch.Tensor] = field(default_factory=lambda: deque(maxlen=TAIL_FRAMES))
    footage: deque[torch.Tensor] = field(default_factory=deque)
    """The last frames of a clip that is read."""
    clip: Clip | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def ask(self, stage: str, **more: Any) -> Any:
        """Have the plugins serve a stage for this segment."""
        return self.plugins.call(f"svid_{stage}", self.job, self.segment, **more)


def _load_model(work: Work) -> None:
    work.model = work.load(work.job, work.segment)


def _build_conditioning(work: Work) -> None:
    check = answers.conditioning(work.segment)
    work.conditioning = work.ask("build_conditioning", check=check, model=work.model, carry=work.carry)


def _apply_loras(work: Work) -> None:
    segment = work.segment
    part = work.plugins.ask(work.job, segment)
    key = digest({"loras": repr(segment.loras), "cut": repr(segment.cut), "plugins": part})
    work.applied = work.loras.apply(key, lambda: work.ask("apply_loras", check=answers.loras, model=work.model))


def _sample(work: Work) -> None:
    walk = Steps(work.applied)
    work.weights = fingerprint(work.model) if work.applied.begin_step is None else {}
    checkpoint = work.checkpoint(lambda snapshot: _resume(work, walk, snapshot))
    given = {"model": work.model, "conditioning": work.conditioning, "checkpoint": checkpoint}
    check = answers.state(work.segment, walk.finish)
    work.state = work.ask("sample", check=check, progress=_stepping(work, walk, checkpoint), **given)


def _stepping(work: Work, walk: Steps, checkpoint: Keeper) -> Progress:
    """The job's progress, the checkpoint's, and the LoRAs' too: what ends a step begins the next one."""

    def progress(step: int, steps: int) -> None:
        walk.told(step, steps)
        checkpoint.passed(step, steps)
        work.progress(step, steps)
        if step < steps:
            walk.begin(step + 1)

    return progress


def _resume(work: Work, walk: Steps, snapshot: Snapshot) -> None:
    work.resumed = snapshot.step
    walk.resume(snapshot)


def _decode(work: Work) -> None:
    check = answers.frames(work.segment, _count(work))
    # A copy: what is stored is what the sampler made, whatever a decoder does with its own.
    state = {name: tensor.clone() for name, tensor in work.state.items()}
    work.frames = work.ask("decode", check=check, model=work.model, state=state, carry=work.carry)


def _encode(work: Work) -> None:
    work.clip = _encoded(work, _shown(work))
    names = changed(work.weights, fingerprint(work.model)) if work.weights else []
    if names:
        message = f"expected weights that stay as they are, found {len(names)} parameters changed, {names[0]} first"
        place = f"segment {work.segment.index + 1}"
        raise StageError(Problem(place, "sample to encode", message, "a plugin writes to the model: `svid plugins`"))


def _encoded(work: Work, frames: Iterator[torch.Tensor]) -> Clip:
    with work.plugins.blame("svid_decode"):
        clip: Clip = work.ask("encode", check=answers.clip(work.out), frames=frames, out=work.out)
        deque(frames, maxlen=0)  # the tail is known when all are decoded, whatever an encoder leaves
    return clip


def _badly_encoded(work: Work, message: str) -> StageError:
    hint = f"encoders: {', '.join(work.plugins.serving('svid_encode'))}"
    return StageError(Problem(f"segment {work.segment.index + 1}", "encode", message, hint))


def _read(work: Work) -> None:
    """The frames of the clip, stretched to the video's size as pictures are; its end is kept for the import."""
    clip, size = work.segment.clip, (work.segment.width, work.segment.height)
    if clip is not None:
        work.footage = deque(maxlen=clip.last)
        read = read_frames(clip.path, shown=clip.name or None)
        work.frames = _kept(work, (resized(Image.fromarray(one.numpy()), *size) for one in read))


def _kept(work: Work, frames: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    for frame in frames:
        work.footage.append(frame.clone())
        yield frame[None]


def _encode_and_import(work: Work) -> None:
    _encode(work)
    check = answers.state(work.segment)
    work.state = work.ask("import", check=check, model=work.model, frames=torch.stack(list(work.footage)))


def _shown(work: Work) -> Iterator[torch.Tensor]:
    """The decoded frames that are shown, one pass, keeping the tail; they are never all in memory."""
    segment, seen, count = work.segment, 0, _count(work)
    first = segment.overlap - (segment.frames - count)
    for frames in _decoded(work):
        # Copies: a decoder may fill one buffer again and again, and an encoder may draw into what it is given.
        work.tail.extend(frames[-TAIL_FRAMES:].clone())
        shown = _blended(work, frames, seen)[max(0, first - seen) : max(0, count - work.dropped - seen)]
        seen += len(frames)
        if len(shown):
            yield shown
    if seen != count:
        hint = "the clip has frames that can't be decoded: convert it" if segment.clip is not None else ""
        found = f"expected {count} frames, found {seen}"
        raise StageError(Problem(f"segment {segment.index + 1}", "decode", found, hint))


def _count(work: Work) -> int:
    """The frames that are decoded. Of a continuation, those that repeat the segment before are not there."""
    goes_on = work.segment.stream and work.carry is not None
    return work.segment.frames - (work.segment.overlap if goes_on else 0)


def _blended(work: Work, frames: torch.Tensor, seen: int) -> torch.Tensor:
    """`frames`, of which those that repeat the segment before are mixed with it, where its seam is blended."""
    count, carry = work.segment.blend, work.carry
    if carry is None or seen >= count:
        return frames
    if len(carry.tail) < count:
        message = f"expected {count} frames of the segment before to blend, found {len(carry.tail)}"
        raise StageError(Problem(f"segment {work.segment.index + 1}", "conditioning.seam", message))
    old = carry.tail[len(carry.tail) - count :][seen : seen + len(frames)]
    mixed = frames.clone()
    mixed[: len(old)] = as_levels(linear_blend(old, frames[: len(old)], seen, count))
    return mixed


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

FOOTAGE: dict[str, Callable[[Work], None]] = {"load_model": _load_model, "decode": _read, "encode": _encode_and_import}
"""What a clip goes through that a video goes on from."""


def decode_again(work: Work) -> None:
    """Begin to decode a segment that was rendered before; of one that came from a clip, to read that."""
    if work.segment.clip is not None:
        _read(work)
    else:
        _load_model(work)
        _decode(work)


def encode_again(work: Work, frames: Iterator[torch.Tensor] | None = None) -> Clip:
    """Encode the shown frames of a segment that was rendered before, or the shown ones that are given."""
    work.clip = _encoded(work, _shown(work) if frames is None else frames)
    return checked(work)


def checked(work: Work) -> Clip:
    """The clip that came out, decoded once. Raises StageError for one that is not what it was to be: if it were stored,
    everything that goes on from its segment would meet it."""
    segment = work.segment
    if work.clip is None:
        raise RuntimeError("a clip is checked after it is encoded")
    try:
        count = segment.frames - segment.overlap - work.dropped
        check_clip(work.clip, count, (segment.width, segment.height), work.job.fps)
    except MediaError as error:
        place, message = error.problems[0].where, error.problems[0].message
        raise _badly_encoded(work, f"{place}: {message}" if place else message) from error
    return work.clip


def run_chain(stages: Sequence[str], work: Work) -> None:
    """Take one segment through the stages, in the order given, noting the seconds that each took."""
    for stage in stages:
        if stage in (steps := STAGES if work.segment.clip is None else FOOTAGE):
            work.begins(stage)
            began = time.perf_counter()
            steps[stage](work)
            work.seconds[stage] = work.seconds.get(stage, 0.0) + time.perf_counter() - began
    # Frames are decoded while they are encoded; what the decoder took is not the encoder's.
    if "encode" in work.seconds:
        work.seconds["encode"] -= work.seconds.get("decode", 0.0)
