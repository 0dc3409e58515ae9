"""The world that the miniature knows: flat shapes that move over textured backgrounds, as exact functions of time.

Everything that happens in a segment follows from what its first frame shows and from its prompt: there is no hidden
velocity or phase, so image-to-video is close to regression and a chain of any length has one right continuation.
Lengths are in frame heights, x to the right, y down, angles in radians, time in frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SEGMENT = 81
SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (0.90, 0.15, 0.17),
    "yellow": (0.98, 0.84, 0.12),
    "green": (0.10, 0.70, 0.24),
    "blue": (0.12, 0.34, 0.95),
    "pink": (0.96, 0.32, 0.76),
}
"""Of subjects: saturated, hues at least 45 degrees apart, so that they are told apart after a poor decoder, too."""
SIZES = {"small": 0.17, "": 0.22, "big": 0.28}
"""Radius of the circle around the shape, in frame heights."""
GROUNDS = {
    "gray": (0.56, 0.57, 0.60),
    "sand": (0.80, 0.73, 0.62),
    "slate": (0.36, 0.42, 0.49),
    "dark": (0.17, 0.17, 0.21),
    "mint": (0.70, 0.80, 0.75),
    "lilac": (0.74, 0.70, 0.82),
}
"""Of backgrounds: hardly saturated, so that no subject gets lost on any of them."""
TEXTURES = ("plain", "striped", "dotted", "cloudy")
MOTIONS = ("right", "left", "down", "up", "still", "bounce")
SPEEDS = {"slowly": 0.0025, "": 0.0045, "quickly": 0.0075}
"""Frame heights per frame: 0.2, 0.36 and 0.6 of the height in a segment."""
BOUNCE_RATE = {"slowly": 0.06, "": 0.09, "quickly": 0.13}
SPIN = 0.022
PAN = 0.005
ZOOM = 0.3
"""How much larger everything is after 80 frames of zooming in; zooming out divides by the same."""
DUSK = 1 / 64
"""Daylight lost per frame; a night falls within a segment."""
CAMERAS = ("", "pan left", "pan right", "pan up", "pan down", "zoom in", "zoom out")
LIGHTS = ("", "night", "day")
CUT_FRAME = 41
"""The first frame of the new shot: the first of latent 11, so the cut lies between two latents."""
CLOSE_UP = 0.38


@dataclass(frozen=True)
class Subject:
    """One shape where it is now. `radius` without the camera's zoom."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    angle: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """All that a frame shows: subjects (the first is in front), background and its phase, zoom, daylight in 0..1."""

    subjects: tuple[Subject, ...]
    ground: str
    texture: str
    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom: float = 1.0
    light: float = 1.0
    close: bool = False
    aspect: float = 1.0


@dataclass(frozen=True)
class Action:
    """What one subject does in a segment."""

    motion: str = "still"
    speed: str = ""
    spin: bool = False


@dataclass(frozen=True)
class Script:
    """What happens in a segment: an action per subject, the camera, the light, and the shot that a hard cut leads to
    (with what its subjects do)."""

    actions: tuple[Action, ...]
    camera: str = ""
    light: str = ""
    cut: Scene | None = None
    after: tuple[Action, ...] = ()


def fold(value: float, low: float, high: float) -> float:
    """`value` reflected at `low` and `high` as often as needed: a ball between two walls."""
    if high <= low:
        return (low + high) / 2
    span = high - low
    phase = (value - low) % (2 * span)
    return low + (phase if phase <= span else 2 * span - phase)


def _moved(subject: Subject, action: Action, n: int, zoom: float, aspect: float) -> Subject:
    x, y, margin = subject.x, subject.y, min(subject.radius * zoom, 0.48)
    speed = SPEEDS[action.speed]
    if action.motion in ("left", "right"):
        x = fold(x + (speed if action.motion == "right" else -speed) * n, margin, aspect - margin)
    elif action.motion in ("up", "down"):
        y = fold(y + (speed if action.motion == "down" else -speed) * n, margin, 1 - margin)
    elif action.motion == "bounce":
        # Down first, wherever it starts: a sine between ceiling and floor whose phase is where the subject is.
        reach = max(0.5 - margin, 0.02)
        start = math.asin(max(-1.0, min(1.0, (y - 0.5) / reach)))
        y = 0.5 + reach * math.sin(start + BOUNCE_RATE[action.speed] * n)
    return replace(subject, x=x, y=y, angle=subject.angle + (SPIN * n if action.spin else 0.0))


def _light(light: float, turn: str, n: int) -> float:
    if turn == "night":
        return max(0.0, light - DUSK * n)
    return min(1.0, light + DUSK * n) if turn == "day" else light


def advance(scene: Scene, script: Script, n: int) -> Scene:
    """The scene `n` frames later; exact, so `advance(advance(s, p, a), p, b)` is `advance(s, p, a + b)` while nothing
    meets a wall. A script with a cut leads to the new shot from frame CUT_FRAME on."""
    if script.cut is not None and n >= CUT_FRAME:
        return advance(script.cut, Script(script.after), n - CUT_FRAME)
    zoom = scene.zoom
    if script.camera == "zoom in":
        zoom *= 1 + ZOOM * n / (SEGMENT - 1)
    elif script.camera == "zoom out":
        zoom /= 1 + ZOOM * n / (SEGMENT - 1)
    dx, dy = {"pan left": (-1, 0), "pan right": (1, 0), "pan up": (0, -1), "pan down": (0, 1)}.get(
        script.camera, (0, 0)
    )
    return replace(
        scene,
        subjects=tuple(
            _moved(subject, action, n, zoom, scene.aspect)
            for subject, action in zip(scene.subjects, script.actions, strict=True)
        ),
        shift_x=scene.shift_x + dx * PAN * n / zoom,
        shift_y=scene.shift_y + dy * PAN * n / zoom,
        zoom=zoom,
        light=_light(scene.light, script.light, n),
    )


def timeline(scene: Scene, sections: list[tuple[Script, int]]) -> list[Scene]:
    """The scenes of frame 0 and of every frame of `sections` (script, frames), each starting where the one before
    ended: 1 + sum(frames) scenes. Plain chaining has sections of 80 frames, SVI Pro an 80 and then 76s."""
    frames = [scene]
    for script, length in sections:
        start = frames[-1]
        frames += [advance(start, script, n) for n in range(1, length + 1)]
    return frames
