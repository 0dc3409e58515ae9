"""The world that the miniature knows: flat shapes that move over textured backgrounds, as exact functions of time.

Everything that happens in a segment follows from what its first frame shows and from its prompt: there is no hidden
velocity or phase, so image-to-video is close to regression and a chain of any length has one right continuation. What
happens is over after DOING frames, and subjects stand upright on a grid before and after: a network that is as small
as the miniature can learn to draw a shape where it may come to rest, and not everywhere between two latents.
Lengths are in frame heights, x to the right, y down, angles in radians, time in frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SEGMENT = 81
DOING = 64
"""Frames in which all that a script says happens; then it is done and everything rests, so that every layout of
segments (80 or 76 new frames) begins and ends at rest."""
CELL = 1 / 8
"""Where subjects stand: the distance of two latents in a frame of 64 pixels."""
SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (0.90, 0.15, 0.17),
    "yellow": (0.98, 0.84, 0.12),
    "green": (0.10, 0.70, 0.24),
    "blue": (0.12, 0.34, 0.95),
    "pink": (0.96, 0.32, 0.76),
}
"""Of subjects: saturated, hues at least 45 degrees apart, so that they are told apart after a poor decoder, too."""
SIZES = {"small": 0.20, "": 0.25, "big": 0.32}
"""Radius of the circle around the shape, in frame heights."""
GROUNDS = {
    "gray": (0.56, 0.57, 0.60),
    "sand": (0.80, 0.73, 0.62),
    "slate": (0.36, 0.42, 0.49),
    "dark": (0.17, 0.17, 0.21),
    "clay": (0.62, 0.55, 0.45),
    "pale": (0.72, 0.75, 0.785),
}
"""Of backgrounds: hardly saturated, so that no subject gets lost on any of them, and none of them greener or more
magenta than grey: latents of a VAE that is as small as the miniature's don't say that beyond the first ones."""
TEXTURES = ("plain", "striped", "dotted", "cloudy")
MOTIONS = ("right", "left", "down", "up", "still", "bounce")
SPEEDS = {"slowly": 2, "": 4, "quickly": 6}
"""Cells of the grid that a subject goes in a segment, turning round at walls: even numbers, as two cells are
a token of the experts in a frame of 64 pixels. What has moved has come to lie in its tokens as it lay in those of the
first frame, so its shape can be copied and need not be drawn anew."""
BOUNCES = {"slowly": 4, "": 6, "quickly": 8}
"""Cells that one goes up and down."""
TURNS = {"circle": 1, "square": 4, "triangle": 3, "star": 5}
"""A spinning subject turns by one of so many parts of the circle, after which it looks as before."""
PAN = 0.4
ZOOM = 0.3
"""How much larger everything is after zooming in; zooming out divides by the same."""
TOUCH = 0.03
"""Subjects are farther apart than that at any time."""
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


def walls(radius: float, length: float) -> tuple[float, float]:
    """The first and the last place on the grid where a subject is whole in a frame that is `length` wide or high."""
    first = math.ceil(radius / CELL - 1e-6)
    last = math.floor((length - radius) / CELL + 1e-6)
    return (CELL * first, CELL * last) if first <= last else (length / 2, length / 2)


def _moved(subject: Subject, action: Action, done: float, aspect: float) -> Subject:
    x, y = subject.x, subject.y
    way = SPEEDS[action.speed] * CELL * done
    if action.motion in ("left", "right"):
        x = fold(x + (way if action.motion == "right" else -way), *walls(subject.radius, aspect))
    elif action.motion in ("up", "down"):
        y = fold(y + (way if action.motion == "down" else -way), *walls(subject.radius, 1.0))
    elif action.motion == "bounce":  # down first, wherever it starts
        y = fold(y + BOUNCES[action.speed] * CELL * done, *walls(subject.radius, 1.0))
    turn = 2 * math.pi / TURNS[subject.shape] * (done % 1) if action.spin else 0.0
    return replace(subject, x=x, y=y, angle=subject.angle + turn)


def _light(light: float, turn: str, done: float) -> float:
    """Daylight in 0..1: all of it goes or comes in a segment."""
    if turn == "night":
        return max(0.0, light - done)
    return min(1.0, light + done) if turn == "day" else light


def advance(scene: Scene, script: Script, n: int, doing: int = DOING) -> Scene:
    """The scene `n` frames after a script began, which takes `doing` frames; then it rests. A script with a cut leads
    to the new shot from frame CUT_FRAME on, and what happens there takes half as long."""
    if script.cut is not None and n >= CUT_FRAME:
        return advance(script.cut, Script(script.after), n - CUT_FRAME, DOING // 2)
    done = min(n / doing, 1.0)
    zoom = scene.zoom
    if script.camera == "zoom in":
        zoom *= 1 + ZOOM * done
    elif script.camera == "zoom out":
        zoom /= 1 + ZOOM * done
    dx, dy = {"pan left": (-1, 0), "pan right": (1, 0), "pan up": (0, -1), "pan down": (0, 1)}.get(
        script.camera, (0, 0)
    )
    return replace(
        scene,
        subjects=tuple(
            _moved(subject, action, done, scene.aspect)
            for subject, action in zip(scene.subjects, script.actions, strict=True)
        ),
        shift_x=scene.shift_x + dx * PAN * done / zoom,
        shift_y=scene.shift_y + dy * PAN * done / zoom,
        zoom=zoom,
        light=_light(scene.light, script.light, done),
    )


def apart(scene: Scene, script: Script) -> bool:
    """Whether no two subjects of a scene touch while a script happens."""
    for n in range(0, DOING + 1, 2):
        now = advance(scene, replace(script, cut=None), n)
        for index, one in enumerate(now.subjects):
            for other in now.subjects[:index]:
                room = math.hypot(one.x - other.x, one.y - other.y) - now.zoom * (one.radius + other.radius)
                if room < TOUCH:
                    return False
    return True


def timeline(scene: Scene, sections: list[tuple[Script, int]]) -> list[Scene]:
    """The scenes of frame 0 and of every frame of `sections` (script, frames), each starting where the one before
    ended: 1 + sum(frames) scenes. Plain chaining has sections of 80 frames, SVI Pro an 80 and then 76s."""
    frames = [scene]
    for script, length in sections:
        start = frames[-1]
        frames += [advance(start, script, n) for n in range(1, length + 1)]
    return frames
