"""Scenes and prompts drawn by seed, and the captions that say what happens in them."""

from __future__ import annotations

import random
from dataclasses import replace

from world import (
    CAMERAS,
    CELL,
    CLOSE_UP,
    COLOURS,
    GROUNDS,
    SHAPES,
    SIZES,
    SPEEDS,
    TEXTURES,
    Action,
    Scene,
    Script,
    Subject,
    advance,
    apart,
    walls,
)

HARD_CUT = "the camera makes a hard cut, to a close up of"
TWO = 0.12
CAMERA = 0.3
BACK = 0.7
"""How often a camera that is near goes back."""
LIGHT = 0.1
SPIN = 0.08
STILL = 0.12
BOUNCE = 0.1
TURNING = 0.05
"""How often something goes wherever it may be, which mostly means turning round at a wall."""


def _article(phrase: str) -> str:
    return f"a {phrase}"


def noun(subject: Subject) -> str:
    """`a big red star`."""
    return _article(" ".join(word for word in (subject.size, subject.colour, subject.shape) if word))


def verb(action: Action) -> str:
    """`spins and moves right slowly`."""
    if action.motion == "still":
        return "spins in place" if action.spin else "stands still"
    move = "bounces" if action.motion == "bounce" else f"moves {action.motion}"
    return " ".join(word for word in ("spins and" if action.spin else "", move, action.speed) if word)


def place(scene: Scene) -> str:
    """`a gray striped background`."""
    return _article(f"{scene.ground} {scene.texture} background")


def caption(scene: Scene, script: Script) -> str:
    """What a segment that starts with `scene` and follows `script` shows."""
    doings = [f"{noun(s)} {verb(a)}" for s, a in zip(scene.subjects, script.actions, strict=True)]
    parts = [f"{' and '.join(doings)} on {place(scene)}"]
    if script.camera:
        kind, way = script.camera.split()
        parts.append(f"the camera {kind}s {way}")
    if script.light:
        parts.append("day turns to night" if script.light == "night" else "night turns to day")
    if script.cut is not None:
        shown = script.cut.subjects[0]
        doing = " spinning" if script.after[0].spin else ""
        parts.append(f"{HARD_CUT} {_article(f'{shown.colour} {shown.shape}')}{doing} on {place(script.cut)}")
    return ", ".join(parts)


def _place(rng: random.Random, radius: float, length: float) -> float:
    """Somewhere on the grid where a subject is whole."""
    first, last = walls(radius, length)
    return first + CELL * rng.randrange(round((last - first) / CELL) + 1)


def draw_subject(rng: random.Random, aspect: float, colours: list[str], size: str) -> Subject:
    """One subject of one of `colours`, upright on the grid."""
    radius = SIZES[size]
    return Subject(
        shape=rng.choice(SHAPES),
        colour=rng.choice(colours),
        size=size,
        x=_place(rng, radius, aspect),
        y=_place(rng, radius, 1.0),
        angle=0.0,
        radius=radius,
    )


def draw_scene(rng: random.Random, aspect: float = 1.0) -> Scene:
    """A scene with one subject, or two of different colours that don't touch."""
    two = rng.random() < TWO
    scene = Scene(
        subjects=(draw_subject(rng, aspect, list(COLOURS), "" if two else rng.choice(list(SIZES))),),
        ground=rng.choice(list(GROUNDS)),
        texture=rng.choice(TEXTURES),
        shift_x=rng.uniform(0, 10),
        shift_y=rng.uniform(0, 10),
        light=1.0 if rng.random() < 0.85 else 0.0,
        aspect=aspect,
    )
    while two:
        first = draw_subject(rng, aspect, [scene.subjects[0].colour], "")
        second = draw_subject(rng, aspect, [c for c in COLOURS if c != first.colour], "small")
        both = replace(scene, subjects=(first, second))
        if apart(both, Script((Action(), Action()))):
            return both
    return scene


def draw_close_up(rng: random.Random, scene: Scene) -> Scene:
    """The shot after a cut: it follows from its description alone, as nothing else is known of it."""
    colour = rng.choice([c for c in COLOURS if c not in {s.colour for s in scene.subjects}])
    subject = Subject(rng.choice(SHAPES), colour, "", scene.aspect / 2, 0.5, 0.0, CLOSE_UP)
    ground = rng.choice([g for g in GROUNDS if g != scene.ground])
    return Scene((subject,), ground, rng.choice(TEXTURES), light=scene.light, close=True, aspect=scene.aspect)


def _meets_no_wall(subject: Subject, action: Action, aspect: float) -> bool:
    x, y, way = subject.x, subject.y, CELL * SPEEDS[action.speed]
    x += {"right": way, "left": -way}.get(action.motion, 0.0)
    y += {"down": way, "up": -way}.get(action.motion, 0.0)
    (left, right), (top, bottom) = walls(subject.radius, aspect), walls(subject.radius, 1.0)
    return left <= x <= right and top <= y <= bottom


def draw_action(rng: random.Random, subject: Subject, aspect: float) -> Action:
    """Mostly where there is room, so that the way it goes can be seen; what has none stands still, and what spins
    stays in its place."""
    if subject.shape != "circle" and rng.random() < SPIN:
        return Action("still", "", True)
    roll = rng.random()
    if roll < STILL:
        return Action()
    if roll < STILL + BOUNCE:
        return Action("bounce", rng.choice(list(SPEEDS)))
    ways = [Action(motion, speed) for motion in ("right", "left", "down", "up") for speed in SPEEDS]
    if rng.random() < TURNING:
        return rng.choice(ways)
    free = [way for way in ways if _meets_no_wall(subject, way, aspect)]
    if not free:
        return Action()
    speed = rng.choice(sorted({way.speed for way in free}))
    return rng.choice([way for way in free if way.speed == speed])


def draw_camera(rng: random.Random, scene: Scene) -> str:
    """A pan or a zoom, or most often nothing. Zooms go in once and mostly back out at once, so that what comes late in
    a chain is like what comes early: a chain must not seem to drift because it gets harder to draw."""
    near = scene.zoom > 1.02
    if near and rng.random() < BACK:
        return "zoom out"
    if rng.random() >= CAMERA:
        return ""
    barred = ("zoom in" if near or scene.close else "", "" if near else "zoom out")
    return rng.choice([camera for camera in CAMERAS[1:] if camera not in barred])


def draw_script(rng: random.Random, scene: Scene, cut: bool = False) -> Script:
    """What happens next in `scene`; a subject of a close up and the second of two stay where they are, and two never
    touch."""
    while True:
        light = ("night" if scene.light > 0.5 else "day") if rng.random() < LIGHT else ""
        first = draw_action(rng, scene.subjects[0], scene.aspect)
        if scene.close:
            first = Action("still", "", first.spin)
        actions = (first, *(Action() for _ in scene.subjects[1:]))
        script = Script(actions, draw_camera(rng, scene), light)
        if apart(scene, script):
            break
    if not cut:
        return script
    close = draw_close_up(rng, scene)
    spin = close.subjects[0].shape != "circle" and rng.random() < SPIN
    return replace(script, cut=close, after=(Action("still", "", spin),), light="", camera="")


def draw_stream(
    seed: int, segments: int, aspect: float = 1.0, step: int = 80, cuts: bool = False
) -> tuple[Scene, list[Script]]:
    """A scene and a script per segment; `step`: how many new frames every segment after the first brings (80 for plain
    chaining, 76 for SVI Pro), which decides where the next one starts."""
    rng = random.Random(seed)
    scene = start = draw_scene(rng, aspect)
    scripts = []
    for index in range(segments):
        script = draw_script(rng, start, cut=cuts and index % 2 == 1)
        scripts.append(script)
        start = advance(start, script, 80 if index == 0 else step)
    return scene, scripts
