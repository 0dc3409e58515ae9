"""Scenes and prompts drawn by seed, and the captions that say what happens in them."""

from __future__ import annotations

import random
from dataclasses import replace

from world import (
    CAMERAS,
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
)

HARD_CUT = "the camera makes a hard cut, to a close up of"
TWO = 0.12
CAMERA = 0.3
LIGHT = 0.1
SPIN = 0.15
STILL = 0.12
BOUNCE = 0.1


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


def draw_subject(rng: random.Random, aspect: float, colours: list[str]) -> Subject:
    """One subject of one of `colours` anywhere inside the frame."""
    size = rng.choice(list(SIZES))
    radius = SIZES[size]
    return Subject(
        shape=rng.choice(SHAPES),
        colour=rng.choice(colours),
        size=size,
        x=rng.uniform(radius, aspect - radius),
        y=rng.uniform(radius, 1 - radius),
        angle=rng.uniform(-0.5, 0.5) if rng.random() < 0.2 else 0.0,
        radius=radius,
    )


def draw_scene(rng: random.Random, aspect: float = 1.0) -> Scene:
    """A scene with one subject or two of different colours."""
    first = draw_subject(rng, aspect, list(COLOURS))
    subjects: tuple[Subject, ...] = (first,)
    if rng.random() < TWO:
        second = draw_subject(rng, aspect, [c for c in COLOURS if c != first.colour])
        subjects = (first, replace(second, size="small", radius=SIZES["small"]))
    return Scene(
        subjects=subjects,
        ground=rng.choice(list(GROUNDS)),
        texture=rng.choice(TEXTURES),
        shift_x=rng.uniform(0, 10),
        shift_y=rng.uniform(0, 10),
        light=1.0 if rng.random() < 0.85 else 0.0,
        aspect=aspect,
    )


def draw_close_up(rng: random.Random, scene: Scene) -> Scene:
    """The shot after a cut: it follows from its description alone, as nothing else is known of it."""
    colour = rng.choice([c for c in COLOURS if c not in {s.colour for s in scene.subjects}])
    subject = Subject(rng.choice(SHAPES), colour, "", scene.aspect / 2, 0.5, 0.0, CLOSE_UP)
    ground = rng.choice([g for g in GROUNDS if g != scene.ground])
    return Scene((subject,), ground, rng.choice(TEXTURES), light=scene.light, close=True, aspect=scene.aspect)


def draw_action(rng: random.Random, subject: Subject, aspect: float) -> Action:
    """Mostly away from the nearer wall, so that the way it goes can be seen."""
    spin = subject.shape != "circle" and rng.random() < SPIN
    roll = rng.random()
    if roll < STILL:
        return Action("still", "", spin)
    speed = rng.choice(list(SPEEDS))
    if roll < STILL + BOUNCE:
        return Action("bounce", speed, spin)
    away = rng.random() < 0.8
    if rng.random() < 0.55:
        motion = "right" if (subject.x < aspect / 2) == away else "left"
    else:
        motion = "down" if (subject.y < 0.5) == away else "up"
    return Action(motion, speed, spin)


def draw_camera(rng: random.Random, scene: Scene) -> str:
    """A pan or a zoom, or most often nothing; zooms go in once and back out."""
    if rng.random() >= CAMERA:
        return ""
    near, unable = scene.zoom > 1.02, set()
    if near or scene.close:
        unable.add("zoom in")
    if not near:
        unable.add("zoom out")
    able = [camera for camera in CAMERAS[1:] if camera not in unable]
    return rng.choice(able)


def draw_script(rng: random.Random, scene: Scene, cut: bool = False) -> Script:
    """What happens next in `scene`."""
    light = ("night" if scene.light > 0.5 else "day") if rng.random() < LIGHT else ""
    script = Script(
        tuple(draw_action(rng, subject, scene.aspect) for subject in scene.subjects), draw_camera(rng, scene), light
    )
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
