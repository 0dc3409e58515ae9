"""`svid demo --compare`: the same prompts by the last frame alone and by SVI 2.0 Pro, and how far each drifts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from svid.cli.open import store_of
from svid.home import Home
from svid.media.drift import MEASURES, Look, changes, drift, look_of
from svid.media.picking import frames_at
from svid.media.plot import Panel, draw_panels
from svid.media.sheet import Strip, draw_sheet
from svid.render.sheet import stored_clips, strips_of
from svid.store.blobs import Blobs
from svid.store.files import make_folder, publish, removed_on_error, write_whole
from svid.store.lineage import chain, resolve

RECIPES = ("i2v", "svi-2.0-pro")
IMAGE = "green-star.png"
"""In `watch/examples`: one that plain chaining drifts on neither much nor little (`mini/examples.py` has the rule)."""
PROMPTS = (
    "a big green star moves up slowly on a slate cloudy background",
    "a big green star moves down slowly on a slate cloudy background",
)
"""In turn. Subject, size and background stay, so whatever else changes is drift."""
FPS = 16
SCALE = 0.05
"""Change that a panel shows at least, so that a flat line looks flat."""


def manifest(recipe: str, segments: int) -> dict[str, Any]:
    """What is asked of a recipe: the same of each but for the conditioning and the recipe's LoRAs."""
    return {
        "name": recipe,
        "recipe": recipe,
        "model": "wan22-mini",
        "image": IMAGE,
        "prompts": [PROMPTS[number % len(PROMPTS)] for number in range(segments)],
        "seed": 7,
        "fps": FPS,
        "sample": {"sampler": "euler", "boundary": 0.9},
    }


def compare(home: Home, folder: Path) -> dict[str, float]:
    """Write what compares the videos that the manifests made into `folder`; returns the drift at the end, by recipe."""
    make_folder(folder)
    strips = {recipe: _strips(home, recipe) for recipe in RECIPES}
    first, second = strips.values()
    rows = [strip for both in zip(first, second, strict=True) for strip in both]
    write_whole(folder / "sheet.png", draw_sheet(" and ".join(RECIPES), rows), home.tmp)
    _film(home, first, second, folder / "side-by-side.mp4")
    found = {name: changes([_look(strip) for strip in some]) for name, some in strips.items()}
    write_whole(folder / "drift.png", plot(found), home.tmp)
    drifts = {name: [asdict(one) | {"drift": drift(one)} for one in some] for name, some in found.items()}
    write_whole(folder / "drift.json", (json.dumps(drifts, indent=2) + "\n").encode(), home.tmp)
    return {name: drift(some[-1]) for name, some in found.items()}


def plot(found: Mapping[str, Sequence[Look]]) -> bytes:
    """A PNG with a panel per measure and a line per recipe: the change since segment 1, from segment to segment."""
    panels = [
        Panel(measure, {name: [getattr(one, measure) for one in some] for name, some in found.items()}, -SCALE, SCALE)
        for measure in MEASURES
    ]
    return draw_panels("change since segment 1", panels)


def _strips(home: Home, recipe: str) -> list[Strip]:
    with store_of(home).read() as session:
        segments = chain(session, resolve(session, recipe).video.tip_id)
        clips = stored_clips(session, Blobs(home.blobs, home.tmp), segments)
        return strips_of(segments, clips, f"{recipe}   ")


def _look(strip: Strip) -> Look:
    return look_of(frames_at(strip.path, range(strip.frames)))


def _numbered(strips: Sequence[Strip], recipe: str) -> list[Strip]:
    """The strips under labels that are short enough for a film."""
    return [replace(strip, label=f"{recipe}, segment {number}") for number, strip in enumerate(strips, 1)]


def _film(home: Home, first: Sequence[Strip], second: Sequence[Strip], target: Path) -> None:
    import torch

    from svid.api import Encoding
    from svid.media.beside import pairs
    from svid.media.clips import write_clip

    part = Blobs(home.blobs, home.tmp).scratch(target.suffix)
    sides = [_numbered(some, recipe) for recipe, some in zip(RECIPES, (first, second), strict=True)]
    frames = (torch.from_numpy(pixels)[None] for pixels in pairs(*sides))
    with removed_on_error(part):
        write_clip(frames, part, FPS, Encoding())
        publish(part, target)
