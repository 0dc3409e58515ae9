"""Manifests: text that a person may have written, and what a program makes of one."""

from __future__ import annotations

import functools
import json
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.kinds.kind import Kind
from tests.hostile.kinds.sensible import bundled, varied
from tests.hostile.mutate import mutated, mutated_text, scrambled

MANIFESTS = (
    'image = "a.png"\nprompts = ["one", "two"]\nseed = 5\n',
    'name = "x"\nimage = "a.png"\nprompts = ["a"]\nframes = 9\nwidth = 32\nheight = 32\n[sample]\nsteps = 2\n'
    'guidance = { high = 1.0, low = 2.0 }\n[[cuts]]\nsegment = 1\nprompt = "the camera makes a hard cut"\n',
    'clip = "a.mp4"\nprompts = ["a"]\nfps = 16.0\n[[loras]]\nname = "hard-cut"\nhigh = 0.5\nsteps = [1, 2]\n'
    "[conditioning]\nmotion_frames = 5\npad = 'zero_latent'\n[decode]\nstream = true\n",
    'image = "a.png"\nprompts = ["a", "b", "c"]\nanchors = ["b.png"]\nsegments = 3\n[[ends]]\nimage = "c.png"\n'
    '[encode]\ncodec = "h264"\nquality = 20\n[options.none]\nx = 1\n',
)
WORDS = (
    *("image", "clip", "extend", "branch", "prompts", "segments", "frames", "anchors", "cuts", "loras", "sample"),
    *("a.b.c.d.e.f.g.h.i", "nan", "inf", "-inf", "1e999", "9" * 400, "0x" + "f" * 400, "1979-05-27", "07:32:00"),
    *('"""', "'''", "[[", "]]", "{", "}", "=", ".", "\\ud800", "\\u0000", "\x00", "\x1b[2J", "\ufeff", "\u202e"),
    *("true", "null", "-1", "0", "9223372036854775808", '"../../etc/passwd"', '"asset:0"', "[" * 40, "a." * 40),
)


def _manifest(dice: random.Random) -> bytes:
    text = dice.choice(MANIFESTS)
    way = dice.random()
    if way < 0.3:
        data = tomllib.loads(text)
        for _ in range(dice.randint(1, 4)):
            data = varied(data, dice)
        return json.dumps(data).encode()
    if way < 0.6:
        data = tomllib.loads(text)
        for _ in range(dice.randint(1, 3)):
            data = scrambled(data, dice)
        text = json.dumps(data)
    if dice.random() < 0.7:
        text = mutated_text(text, WORDS, dice)
    data_ = text.encode("utf-8", "surrogatepass")
    return mutated(data_, dice) if dice.random() < 0.3 else data_


@dataclass(frozen=True)
class _House:
    config: Any


@functools.cache
def _house() -> tuple[Any, ...]:
    from svid.inbox.accept import known_names

    config, plugins = bundled()
    recipes = plugins.recipes()
    return config, recipes, plugins.option_models(), known_names(_House(config), recipes)  # type: ignore[arg-type]


def _read_manifest(data: bytes, folder: Path) -> None:
    from svid.inbox.pictures import named_pictures
    from svid.manifest.model import Manifest
    from svid.manifest.read import parse, validate
    from svid.plan.build import build_plan
    from svid.plan.settings import ClipRef, PictureRef

    config, recipes, options, known = _house()
    suffix = ".json" if data.lstrip().startswith(b"{") else ".toml"
    manifest = validate(parse(data, suffix, "m"), "m", options, known)
    again = Manifest.model_validate_json(manifest.model_dump_json(exclude_unset=True))
    assert again == manifest, "it reads back as another manifest"
    if manifest.image is None and manifest.clip is None:
        return
    ref = PictureRef(sha256="0" * 64, pixels="0" * 64, width=64, height=64)
    pictures = {place: ref for place, _ in named_pictures(manifest)}
    clip = ClipRef(sha256="0" * 64, frames=30, fps=16.0, width=64, height=64) if manifest.clip else None
    plan = build_plan(manifest, config, recipes, pictures, None, "m", clip)
    assert plan.segments


KIND = Kind(_manifest, _read_manifest, ready=_house)
