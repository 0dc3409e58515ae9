"""Many chains at once, as plain I2V, SVI 2.0 and SVI 2.0 Pro chain their segments; the conditioning is that of svid.

It exists beside svid's own loop because 16 chains in one batch take a CPU a tenth of the time; tests hold the two
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from clips import HELD_OUT
from draw import draw, quantized
from flow import sample
from grammar import caption, draw_stream
from latents import Encoder, whole
from score import pixels_of
from world import SEGMENT, Scene, Script, timeline

from svid.layout import Layout
from svid.wan.conditioning import amplified, strengthened, zero_padded
from svid.wan.prompts import NEGATIVE_ZH

LATENTS = (SEGMENT - 1) // 4 + 1
MEASURED = HELD_OUT + 900_000
"""The seed of the first stream that `benchmarks/drift.py` measures."""
CONTEXT = 9
"""Latents before a seam that a decoded stream is made of: what is further back is no longer seen."""
PRO_LAYOUT = Layout(motion_latents=1, pad="zero_latent")
"""That of recipe svi-2.0-pro."""


@dataclass(frozen=True)
class Way:
    """How segments are chained: plain `i2v`, `svi20`, or `pro` with the knobs that `layout` has for it."""

    kind: str
    layout: Layout = PRO_LAYOUT

    @property
    def overlap(self) -> int:
        """Frames at the head of a later segment that repeat the one before and are not shown."""
        return self.layout.overlap if self.kind == "pro" else 1


I2V, SVI20, PRO = Way("i2v"), Way("svi20"), Way("pro")


@dataclass(frozen=True)
class Stream:
    """A start and a script per segment."""

    scene: Scene
    scripts: list[Script]

    def truth(self, way: Way) -> list[list[Scene]]:
        """The 81 scenes of every segment of a chain, those that repeat included."""
        overlap = way.overlap
        frames = timeline(self.scene, [(s, SEGMENT - (overlap if i else 1)) for i, s in enumerate(self.scripts)])
        starts = [i * (SEGMENT - overlap) for i in range(len(self.scripts))]
        return [frames[start : start + SEGMENT] for start in starts]

    def captions(self) -> list[str]:
        """What is said in every segment."""
        return [caption(scenes[0], script) for scenes, script in zip(self.truth(I2V), self.scripts, strict=True)]


def held_out_streams(count: int, segments: int, aspect: float, first: int, cuts: bool = False) -> list[Stream]:
    """Streams that training never sees, without nightfall or dawn: an anchor shows one light, and what a light that is
    not followed does to brightness is no drift."""
    drawn = [draw_stream(first + i, segments, aspect, cuts=cuts) for i in range(count)]
    return [Stream(scene, [replace(script, light="") for script in scripts]) for scene, scripts in drawn]


def start_pixels(encoder: Encoder, streams: list[Stream]) -> torch.Tensor:
    """The start images [B, 3, 1, H, W] in [-1, 1]."""
    images = [quantized(draw([s.scene], encoder.height, encoder.width)) for s in streams]
    return (torch.stack(images).float() * (2 / 255) - 1).permute(0, 4, 1, 2, 3).to(encoder.device)


def conditions(
    way: Way, encoder: Encoder, start: torch.Tensor, anchor: torch.Tensor, motion: torch.Tensor | None
) -> torch.Tensor:
    """Image latents [B, 16, T, h, w].

    `start` [B, 3, 1, H, W]: the first frame of the segment; `anchor`: the start image of the video, pixels as `start`;
    `motion` [B, 16, m, h, w]: the last latents of the segment before, or None at the start of a chain."""
    if way.kind == "pro":
        return _pro(way.layout, encoder, anchor, motion)
    pads = anchor if way.kind == "svi20" else torch.zeros_like(anchor)
    rows = [encoder.padded(first, pad) for first, pad in zip(start, pads, strict=True)]
    return whole(torch.stack(rows).float().to(encoder.device), LATENTS)


def _pro(layout: Layout, encoder: Encoder, anchor: torch.Tensor, motion: torch.Tensor | None) -> torch.Tensor:
    """[anchor, motion latents, padding], by the functions that svid renders with."""
    alone = torch.stack([encoder(a) for a in anchor]).float().to(encoder.device)
    known = alone if motion is None else torch.cat([alone, motion], 2)
    padded = torch.cat([zero_padded(one[None], LATENTS) for one in known])
    z = strengthened(padded, 0, layout.anchor_strength, 1)
    if layout.pad == "reference":
        rows = torch.stack([encoder.padded(a, a) for a in anchor])
        count = known.shape[2]
        z[:, :, count:] = whole(rows.float().to(z), LATENTS)[:, :, count:] * layout.reference_strength
    if layout.motion_amplitude > 1:
        each = [amplified(one[None], layout.motion_amplitude, layout.amplitude_from, keep_last=False) for one in z]
        z = torch.cat(each)
    return z


@torch.no_grad()
def chain(
    way: Way,
    experts: Mapping[str, Any],
    prompts: Any,
    encoder: Encoder,
    streams: list[Stream],
    steps: int = 8,
    seed: int = 0,
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Segment by segment what is decoded of all streams: [B, 81, H, W, 3] in [0, 1], frames that repeat included; and
    the two frames [B, 2, H, W, 3] at its seam with the one before where both are decoded as one stream, which needs
    latents that repeat."""
    anchor = start = start_pixels(encoder, streams)
    captions = [s.captions() for s in streams]
    unsaid = prompts([NEGATIVE_ZH] * len(streams))
    motion = before = streamed = None
    for index in range(len(streams[0].scripts)):
        condition = conditions(way, encoder, start, anchor, motion)
        generator = torch.Generator().manual_seed(seed + 42 * index)
        noise = torch.randn(condition.shape, generator=generator).to(encoder.device)
        given = 1 if way.layout.mask == "first-frame" or motion is None else 1 + motion.shape[2]
        text = prompts([c[index] for c in captions])
        z = sample(experts, noise, condition, text, steps, given=given, unsaid=unsaid)
        videos = pixels_of(encoder.vae, z)
        if before is not None and way.kind == "pro":
            new = 1 + way.layout.motion_latents
            both = pixels_of(encoder.vae, torch.cat([before[:, :, -CONTEXT:], z[:, :, new : new + 1]], 2))
            streamed = both[:, -5:-3]
        before = z
        motion = z[:, :, -way.layout.motion_latents :]
        start = (videos[:, -1:] * 2 - 1).permute(0, 4, 1, 2, 3)
        yield videos, streamed
