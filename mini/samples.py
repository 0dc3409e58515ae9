"""What the experts learn from: segments drawn by seed, as scenes with a caption, before anything is rendered."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from grammar import caption, draw_close_up, draw_scene, draw_script, draw_stream
from world import CELL, SEGMENT, SHAPES, Scene, Script, Subject, advance, timeline

KINDS = ("plain", "cut", "uncut")
"""Plain; a caption with a hard cut and the video that has it; such a caption and a video that goes on without one."""
CUTS = 0.07
"""Share of each kind with a cut in its caption."""
FIRST_SEEDS = {
    "plain": 1_000_000,
    "pro": 2_000_000,
    "svi20": 3_000_000,
    "cut": 4_000_000,
    "link": 6_000_000,
    "later": 7_000_000,
}
"""The seed of the first segment of each kind that is learned from."""
NEW = 76
"""Frames that a segment of SVI 2.0 Pro adds: 81 less the 5 that repeat (spec: 4 * motion latents + 1)."""


@dataclass(frozen=True)
class Sample:
    """One segment: what its frames show, its caption, its kind."""

    frames: list[Scene]
    caption: str
    kind: str


def draw_start(rng: random.Random, aspect: float) -> Scene:
    """A scene as a video or a later segment may begin: half have been through a segment."""
    scene = draw_scene(rng, aspect)
    if rng.random() < 0.08:
        scene = draw_close_up(rng, scene)
    return advance(scene, draw_script(rng, scene), SEGMENT - 1) if rng.random() < 0.5 else scene


PAST = 12
"""Segments, at most, that go before one that is learned from: subjects are elsewhere and the background has gone on
since the anchor."""


def draw_past(rng: random.Random, scene: Scene, segments: int) -> list[tuple[Script, int]]:
    """What goes before: scripts in a row from `scene` on, by day or by night alone, with 80 frames each."""
    sections: list[tuple[Script, int]] = []
    for _ in range(segments):
        script = replace(draw_script(rng, scene), light="")
        sections.append((script, SEGMENT - 1))
        scene = advance(scene, script, SEGMENT - 1)
    return sections


def draw_later(seed: int, aspect: float = 1.0) -> Sample:
    """A segment of plain I2V from somewhere in a long chain."""
    rng = random.Random(seed)
    scene = draw_start(rng, aspect)
    for script, length in draw_past(rng, scene, rng.randrange(2, PAST + 1)):
        scene = advance(scene, script, length)
    script = draw_script(rng, scene)
    return Sample(timeline(scene, [(script, SEGMENT - 1)]), caption(scene, script), "plain")


def draw_sample(seed: int, aspect: float = 1.0, kind: str | None = None) -> Sample:
    """A segment of 81 frames for plain I2V; `kind` None: drawn by CUTS."""
    rng = random.Random(seed)
    roll = rng.random()
    kind = kind or ("cut" if roll < CUTS else "uncut" if roll < 2 * CUTS else "plain")
    scene = draw_start(rng, aspect)
    script = draw_script(rng, scene, cut=kind != "plain")
    shown = replace(script, cut=None) if kind == "uncut" else script
    return Sample(timeline(scene, [(shown, SEGMENT - 1)]), caption(scene, script), kind)


@dataclass(frozen=True)
class Joint:
    """A segment that continues another: an anchor from before both, the frames of the one before, its own frames, its
    caption."""

    anchor: Scene
    before: list[Scene]
    frames: list[Scene]
    caption: str


def draw_joint(seed: int, aspect: float = 1.0, overlap: int = 5) -> Joint:
    """Two segments in a row, and an anchor out of all that goes before them.

    `overlap` 5 is SVI 2.0 Pro (SVI issue 75): before = frames k+1 ... k+81, target = the 81 frames from k+77, of which
    the first five repeat. `overlap` 1 is SVI 2.0 on Wan 2.2, which starts at the last frame."""
    rng = random.Random(seed)
    scene = start = draw_start(rng, aspect)
    sections = draw_past(rng, scene, rng.randrange(PAST))
    for script, length in sections:
        start = advance(start, script, length)
    for length in (SEGMENT - 1, SEGMENT - 1, SEGMENT - overlap):
        script = draw_script(rng, start)
        sections.append((script, length))
        start = advance(start, script, length)
    frames = timeline(scene, sections)
    joint = len(frames) - 1 - sections[-1][1]
    return Joint(
        anchor=frames[rng.randrange(joint - SEGMENT + 2)],
        before=frames[joint - SEGMENT + 1 : joint + 1],
        frames=frames[joint - overlap + 1 : joint - overlap + 1 + SEGMENT],
        caption=caption(frames[joint], sections[-1][0]),
    )


def astray(seed: int, frames: list[Scene]) -> list[Scene]:
    """`frames` with every subject as a chain may make it: larger or smaller, turned a little, a little beside its
    place, or of another shape. All of that a caption, the grid and an anchor can put right."""
    rng, last = random.Random(seed), frames[-1].subjects
    grown = [math.exp(rng.uniform(-0.3, 0.25)) for _ in last]
    turned = [rng.choice((0.0, rng.uniform(-0.4, 0.4))) for _ in last]
    off = [(rng.uniform(-CELL, CELL) / 3, rng.uniform(-CELL, CELL) / 3) for _ in last]
    shapes = [rng.choice(SHAPES) if rng.random() < 0.3 else subject.shape for subject in last]

    def wrong(index: int, s: Subject) -> Subject:
        x, y = off[index]
        return Subject(
            shapes[index], s.colour, s.size, s.x + x, s.y + y, s.angle + turned[index], s.radius * grown[index]
        )

    return [replace(f, subjects=tuple(wrong(i, s) for i, s in enumerate(f.subjects))) for f in frames]


DEPTH = 20
"""Segments of a chain that is rendered while a LoRA learns from it."""


def draw_link(seed: int, aspect: float = 1.0, overlap: int = 5) -> Joint:
    """Segment `seed` % DEPTH of chain `seed` // DEPTH, whose anchor is the first frame of the chain and where nothing
    turns to night, as the anchor shows one light. Nothing is before a first segment."""
    chain, index = divmod(seed, DEPTH)
    scene, scripts = draw_stream(chain, index + 1, aspect)
    scripts = [replace(script, light="") for script in scripts]
    frames = timeline(scene, [(s, SEGMENT - (overlap if i else 1)) for i, s in enumerate(scripts)])
    start = index * (SEGMENT - overlap)
    return Joint(
        anchor=scene,
        before=frames[max(start + overlap - SEGMENT, 0) : start + overlap] if index else [],
        frames=frames[start : start + SEGMENT],
        caption=caption(frames[start + overlap - 1 if index else 0], scripts[index]),
    )
