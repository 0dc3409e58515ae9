"""Segments through svid's own chain and the plugins of `plugins/`, writing down what passes by.

A plugin of the harness stands beside the bundled ones: it takes the place of the encoder, so that shown frames are
kept as they are, and listens to the decoder. What the experts see is noted by hooks on the transformers themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from svid import hookimpl
from svid.api import Carry, Clip, Expert, Job, Picture, Recipe, Segment
from svid.layout import TAIL_FRAMES
from svid.media.images import open_picture, pixel_digest, write_png
from svid.plugin import Plugins
from svid.render.chain import Work, run_chain
from svid.render.loras import HeldLoras
from svid.testing import load, make_job
from svid.wan.model import WanModel

STAGES = ("load_model", "build_conditioning", "apply_loras", "sample", "decode", "encode")


@dataclass
class Call:
    """What an expert was called with: latents [16, T, h, w], y [20, T, h, w]."""

    expert: Expert
    timestep: float
    latents: torch.Tensor
    y: torch.Tensor


@dataclass
class Tape:
    """What passed by while a segment went through the chain."""

    calls: list[Call] = field(default_factory=list)
    steps: list[list[Call]] = field(default_factory=list)
    decoded: list[torch.Tensor] = field(default_factory=list)
    shown: list[torch.Tensor] = field(default_factory=list)

    def end_step(self, step: int, steps: int) -> None:
        """Called by the sampler after every step."""
        self.steps.append(self.calls[:])
        self.calls.clear()


def _listener(tape: Tape) -> ModuleType:
    module = ModuleType("svid_parity", "Listens to the decoder, and keeps the shown frames.")

    @hookimpl(wrapper=True)
    def svid_decode() -> Iterator[Any]:
        frames = yield
        return _noted(frames, tape.decoded)

    @hookimpl
    def svid_encode(frames: Iterable[torch.Tensor], out: Path) -> Clip:
        tape.shown += frames
        return Clip(out, sum(map(len, tape.shown)))

    module.svid_decode, module.svid_encode = svid_decode, svid_encode
    return module


def _noted(frames: Iterator[torch.Tensor], place: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    for some in frames:
        place.append(some.clone())
        yield some


@dataclass
class Rendered:
    """What one segment gave. `experts`, `timesteps` and `passes` have one entry a step."""

    noise: torch.Tensor
    y: torch.Tensor
    steps: torch.Tensor
    experts: list[Expert]
    timesteps: torch.Tensor
    passes: list[int]
    state: dict[str, torch.Tensor]
    frames: torch.Tensor
    shown: torch.Tensor
    tail: torch.Tensor
    report: Any


def _rendered(work: Work, tape: Tape) -> Rendered:
    firsts = [calls[0] for calls in tape.steps]
    for calls in tape.steps:
        for call in calls:
            assert call.expert == calls[0].expert, "both experts ran in one step"
            assert torch.equal(call.latents, calls[0].latents), "the latents changed within a step"
            assert torch.equal(call.y, firsts[0].y), "the conditioning changed"
    after = [call.latents for call in firsts[1:]] + [work.state["latents"][0]]
    return Rendered(
        noise=firsts[0].latents,
        y=firsts[0].y,
        steps=torch.stack(after),
        experts=[call.expert for call in firsts],
        timesteps=torch.tensor([call.timestep for call in firsts]),
        passes=[len(calls) for calls in tape.steps],
        state=dict(work.state),
        frames=torch.cat(tape.decoded),
        shown=torch.cat(tape.shown),
        tail=torch.stack(list(work.tail)),
        report=work.applied.report,
    )


def plugins(tape: Tape | None = None) -> Plugins:
    """The bundled plugins, and the harness's own before them."""
    return load(_listener(tape or Tape()))


def job(recipe: Recipe) -> Job:
    """A job of a recipe."""
    return make_job(plugins(), recipe=recipe, fps=recipe.fps)


def _work(tape: Tape, wan: WanModel | None, work: Job, segment: Segment, carry: Carry | None, **more: Any) -> Work:
    return Work(
        plugins=plugins(tape),
        load=lambda job, segment: wan,
        job=work,
        segment=segment,
        carry=carry,
        progress=tape.end_step,
        out=Path("nothing.mp4"),
        **more,
    )


@contextmanager
def _listening(wan: WanModel, calls: list[Call]) -> Iterator[None]:
    handles = [
        expert.register_forward_pre_hook(partial(_note, calls, name), with_kwargs=True)
        for name, expert in wan.experts.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(calls: list[Call], expert: Expert, module: Any, args: Sequence[Any], kwargs: Any) -> None:
    inputs, timestep = args[0][0], args[1]
    calls.append(Call(expert, float(timestep), inputs[:16].clone(), inputs[16:].clone()))


def render(wan: WanModel, work: Job, segment: Segment, carry: Carry | None, dropped: int = 0) -> Rendered:
    """One segment through the whole chain, its last `dropped` frames not shown."""
    tape, loras = Tape(), HeldLoras()
    one = _work(tape, wan, work, segment, carry, dropped=dropped, loras=loras)
    try:
        with _listening(wan, tape.calls):
            run_chain(STAGES, one)
        return _rendered(one, tape)
    finally:
        loras.release()


def conditioned(wan: WanModel, work: Job, segment: Segment, carry: Carry | None) -> torch.Tensor:
    """y [20, T, h, w] of a segment, as the plugin of its variant builds it."""
    one = _work(Tape(), wan, work, segment, carry)
    run_chain(STAGES[:2], one)
    assert one.conditioning is not None
    return one.conditioning.y[0]


@contextmanager
def with_loras(wan: WanModel, work: Job, segment: Segment) -> Iterator[Any]:
    """The segment's LoRAs applied; yields the report."""
    loras = HeldLoras()
    one = _work(Tape(), wan, work, segment, None, loras=loras)
    try:
        run_chain(("load_model", "apply_loras"), one)
        yield one.applied.report
    finally:
        loras.release()


def stitched(work: Job, segments: Sequence[Segment], clips: Sequence[torch.Tensor]) -> torch.Tensor:
    """What is shown of these segments whose frames are `clips`, one after another: uint8 [n, H, W, 3]."""
    shown: list[torch.Tensor] = []
    for place, (segment, frames) in enumerate(zip(segments, clips, strict=True)):
        tape, after = Tape(), segments[place + 1 : place + 2]
        carry = carry_of({}, clips[place - 1], segments[place - 1]) if place else None
        dropped = after[0].parent_trim if after else 0
        one = _work(tape, None, work, segment, carry, dropped=dropped, frames=iter(frames.split(4)))
        run_chain(("encode",), one)
        shown += tape.shown
    return torch.cat(shown)


def carry_of(state: dict[str, torch.Tensor], frames: torch.Tensor, segment: Segment) -> Carry:
    """What a segment leaves, of which no more than its last frames are kept."""
    return Carry("0" * 64, state, frames[-TAIL_FRAMES:], segment.overlap)


def picture(path: Path) -> Picture:
    """A picture as the inbox takes it in."""
    return Picture(path, "0" * 64, pixel_digest(open_picture(path)))


def picture_of(frame: torch.Tensor, place: Path) -> Picture:
    """uint8 [H, W, 3] as a picture in a folder."""
    path = place / f"{pixel_digest(Image.fromarray(frame.numpy()))[:16]}.png"
    write_png(frame, path)
    return picture(path)
