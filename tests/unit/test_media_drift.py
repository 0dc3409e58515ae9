"""What drift is measured by, on pictures whose measures are known; and the chart of it."""

from __future__ import annotations

import io
from dataclasses import astuple
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from svid.api import Encoding
from svid.media.beside import GAP, LINE, pairs
from svid.media.clips import write_clip
from svid.media.drift import MEASURES, Look, changes, drift, look_of, look_of_frame
from svid.media.plot import COLOURS, HEAD, HEIGHT, WIDTH, Panel, draw_panels
from svid.media.sheet import Strip


def flat(red: int, green: int, blue: int) -> npt.NDArray[np.uint8]:
    return np.full((4, 6, 3), (red, green, blue), np.uint8)


def test_a_flat_picture_has_its_luma_and_nothing_else() -> None:
    assert astuple(look_of_frame(flat(51, 51, 51))) == pytest.approx((0.2, 0, 0, 0), abs=1e-6)
    assert astuple(look_of_frame(flat(255, 0, 0))) == pytest.approx((0.299, 0, 1, 0), abs=1e-6)
    assert astuple(look_of_frame(flat(0, 255, 102))) == pytest.approx((0.587 + 0.4 * 0.114, 0, 1, 0), abs=1e-6)


def test_columns_of_black_and_white_have_known_contrast_and_sharpness() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, ::2] = 255
    look = look_of_frame(picture)
    assert look.brightness == pytest.approx(0.5)
    assert look.contrast == pytest.approx(0.5 * (24 / 23) ** 0.5)
    assert (look.saturation, look.sharpness) == pytest.approx((0, 1))
    assert look_of_frame(picture.transpose(1, 0, 2)).sharpness == pytest.approx(1)


def test_a_blurred_picture_is_less_sharp_and_has_less_contrast() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    soft = ((noise[:-1].astype(int) + noise[1:]) // 2).astype(np.uint8)
    before, after = look_of_frame(noise), look_of_frame(soft)
    assert after.sharpness < 0.9 * before.sharpness
    assert after.contrast < 0.9 * before.contrast


def test_a_segment_is_the_mean_of_its_frames() -> None:
    found = look_of(iter([flat(0, 0, 0), flat(255, 255, 255), flat(255, 0, 0)]))
    assert astuple(found) == pytest.approx((1.299 / 3, 0, 1 / 3, 0), abs=1e-6)
    with pytest.raises(ValueError, match="at least one frame"):
        look_of([])


def test_change_is_signed_and_drift_is_not() -> None:
    looks = [Look(0.5, 0.2, 0.3, 0.1), Look(0.4, 0.3, 0.3, 0.4)]
    first, second = changes(looks)
    assert astuple(first) == (0, 0, 0, 0)
    assert astuple(second) == pytest.approx((-0.1, 0.1, 0, 0.3))
    assert drift(first) == 0
    assert drift(second) == pytest.approx(100 * 0.2 / 3), "sharpness is shown, and is not part of the one number"
    assert MEASURES == ("brightness", "contrast", "saturation", "sharpness")


def coloured(picture: Image.Image, colour: tuple[int, int, int]) -> npt.NDArray[np.intp]:
    """The rows, from the top, of the pixels of a panel's plot that have a colour."""
    pixels = np.asarray(picture)[HEAD:].astype(int)
    return np.nonzero((np.abs(pixels - colour) < 40).all(-1))[0]


def test_a_chart_has_a_line_per_recipe_and_more_is_higher() -> None:
    lines = {"falls": [0.0, -0.1, -0.2], "rises": [0.0, 0.1, 0.2]}
    drawn = draw_panels("x", [Panel("brightness", lines)])
    assert draw_panels("x", [Panel("brightness", lines)]) == drawn
    picture = Image.open(io.BytesIO(drawn))
    assert picture.size == (WIDTH, HEAD + HEIGHT)
    falls, rises = (coloured(picture, colour) for colour in COLOURS[:2])
    assert len(falls) > 100
    assert len(rises) > 100
    assert rises.mean() < HEIGHT / 2 < falls.mean()


@pytest.mark.parametrize("line", [[0.0], [0.0, 0.0], [-1.0, -2.0], [3.0, 4.0]])
def test_a_chart_of_anything_can_be_drawn(line: list[float]) -> None:
    panels = [Panel(f"panel {number}", {"a": line}) for number in range(4)]
    assert Image.open(io.BytesIO(draw_panels("x", panels))).size == (2 * WIDTH, HEAD + 2 * HEIGHT)
    low, high = panels[0].bounds
    assert low <= 0 <= high
    assert low < high
    assert Panel("x", {"a": [0.01]}, -0.05, 0.05).bounds == (-0.05, 0.05)


def film(folder: Path, name: str, levels: list[int], height: int, width: int) -> Strip:
    frames = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, height, width, 3).contiguous()
    write_clip([frames], folder / name, 16.0, Encoding("ffv1"))
    return Strip(name, folder / name, len(levels))


def test_two_videos_go_beside_one_another_segment_by_segment(tmp_path: Path) -> None:
    left = [film(tmp_path, "l1", [10, 20, 30, 40, 50], 64, 48), film(tmp_path, "l2", [60, 70], 64, 48)]
    right = [film(tmp_path, "r1", [200, 210, 220], 64, 48), film(tmp_path, "r2", [230, 240], 64, 48)]
    frames = list(pairs(left, right))
    assert {frame.shape for frame in frames} == {(LINE + 4 * 64, 2 * 4 * 48 + GAP, 3)}
    found = [(int(frame[-1, 0, 0]), int(frame[-1, -1, 0])) for frame in frames]
    assert found == [(10, 200), (30, 210), (50, 220), (60, 230), (70, 240)]
    assert len({frame[:LINE].tobytes() for frame in frames}) == 2, "each segment has its own heading"


def test_an_odd_size_is_made_even(tmp_path: Path) -> None:
    left, right = film(tmp_path, "l", [1], 241, 301), film(tmp_path, "r", [2], 241, 300)
    (frame,) = pairs([left], [right])
    assert frame.shape == (LINE + 242, 301 + GAP + 301, 3)
