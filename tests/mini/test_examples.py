"""What `svid demo` shows is of the miniature's world: its picture, and every one of its prompts."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain import MEASURED, held_out_streams
from draw import draw, quantized
from examples import FOLDER, SCENES, SIDE, TYPICAL, main
from grammar import caption
from PIL import Image
from world import CLOSE_UP, SIZES, Action, Scene, Script, Subject

from svid.cli import compare, demo

STAR = SCENES["star.png"]
GREEN = SCENES["green-star.png"]
SQUARE = Scene((Subject("square", "blue", "", 0.5, 0.5, 0.0, CLOSE_UP),), "sand", "plain", close=True)
RIGHT, LEFT, UP, DOWN = (Action(way, "slowly") for way in ("right", "left", "up", "down"))


def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["examples.py", str(tmp_path)])
    main()
    for name, scene in SCENES.items():
        expected = quantized(draw([scene], SIDE, SIDE)[0]).numpy()
        for folder in (tmp_path, FOLDER):
            with Image.open(folder / name) as picture:
                # One level may be the rounding of another processor.
                assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1


def test_the_demo_speaks_the_miniatures_language() -> None:
    manifest = tomllib.loads((FOLDER / "star.toml").read_text())
    star = [caption(STAR, Script((action,))) for action in (RIGHT, LEFT, RIGHT)]
    assert manifest["prompts"] == [*star, caption(SQUARE, Script((Action(),)))]
    (cut,) = manifest["cuts"]
    assert cut["prompt"] == caption(STAR, Script((RIGHT,), cut=SQUARE, after=(Action(),)))
    extension = tomllib.loads(demo.EXTENSION)
    assert extension["prompts"] == [
        caption(SQUARE, Script((Action(),), light="night")),
        caption(replace(SQUARE, light=0.0), Script((Action(),), light="day")),
    ]


def test_the_comparison_speaks_it_too() -> None:
    assert compare.IMAGE in SCENES
    assert list(compare.PROMPTS) == [caption(GREEN, Script((action,))) for action in (UP, DOWN)]
    assert GREEN.subjects[0].radius == SIZES["big"]


def test_its_prompts_are_those_that_the_measured_stream_begins_with() -> None:
    (stream,) = held_out_streams(1, 4, 1.0, MEASURED + TYPICAL)
    assert stream.scene == GREEN
    assert stream.captions() == [*compare.PROMPTS, *compare.PROMPTS]
