"""Contact sheets and the frames that are picked for them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svid.api import Encoding
from svid.errors import MediaError
from svid.media import picking
from svid.media.clips import write_clip
from svid.media.lettering import fitted, font
from svid.media.picking import evenly, frames_at
from svid.media.sheet import BOX, COLUMNS, GAP, LINE, PAPER, ROWS, Strip, draw_sheet


def grey(levels: list[int], height: int = 16, width: int = 32) -> torch.Tensor:
    """Frames of one level each."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, height, width, 3).contiguous()


def film(folder: Path, levels: list[int], codec: str = "ffv1", height: int = 16, width: int = 32) -> Path:
    out = folder / f"{len(levels)}-{height}x{width}.{codec}"
    write_clip(grey(levels, height, width).split(50), out, 16.0, Encoding(codec))
    return out


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode, picture.info) == ("PNG", "RGB", {})
    return picture


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(1, 8, [0]), (3, 8, [0, 1, 2]), (8, 8, list(range(8))), (81, 5, [0, 20, 40, 60, 80]), (9, 1, [0])],
)
def test_places_are_spread_from_the_first_to_the_last(total: int, count: int, expected: list[int]) -> None:
    assert evenly(total, count) == expected


@pytest.mark.parametrize("total", range(1, 40))
def test_no_place_comes_twice(total: int) -> None:
    places = evenly(total, 8)
    assert places == sorted(set(places))
    assert (places[0], places[-1], len(places)) == (0, total - 1, min(total, 8))


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_the_frame_that_is_picked_is_the_one_in_that_place(tmp_path: Path, codec: str) -> None:
    levels = [(7 * number) % 256 for number in range(30)]
    clip = film(tmp_path, levels, codec)
    places = [0, 1, 13, 29]
    found = [frame.mean() for frame in frames_at(clip, places)]
    assert found == pytest.approx([levels[place] for place in places], abs=2)


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_a_place_far_on_is_jumped_to(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [number * 250 // 1400 for number in range(1400)]
    clip = film(tmp_path, levels, codec)
    seen: list[int] = []
    counted = picking._counted

    def watching(*given: object) -> object:
        for place, frame in counted(*given):  # type: ignore[arg-type]
            seen.append(place)
            yield place, frame

    monkeypatch.setattr(picking, "_counted", watching)
    places = [0, 400, 650, 1399]
    found = [frame.mean() for frame in frames_at(clip, places)]
    assert found == pytest.approx([levels[place] for place in places], abs=2)
    assert not {100, 1000} & set(seen), "between two key frames that nobody needs"


def test_a_frame_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    clip = film(tmp_path, [1, 2, 3])
    with pytest.raises(MediaError, match="frame 4: expected a frame here, found none"):
        list(frames_at(clip, [0, 3]))


def test_a_sheet_has_a_row_per_segment_and_its_frames_in_order(tmp_path: Path) -> None:
    first, second = film(tmp_path, list(range(0, 240, 3))), film(tmp_path, [200, 100, 50])
    picture = opened(draw_sheet("harbour", [Strip("1 boats", first, 80), Strip("2 gulls", second, 3)]))
    cell, high = BOX + GAP, BOX // 2
    row = LINE + high + GAP
    assert picture.size == (GAP + COLUMNS * cell, LINE + GAP + 2 * row)
    pixels = np.asarray(picture)
    middle = [[LINE + GAP + number * row + LINE + high // 2] for number in range(2)]
    across = [GAP + number * cell + BOX // 2 for number in range(COLUMNS)]
    levels = pixels[middle, across, 0].astype(int)
    assert levels[0] == pytest.approx([3 * place for place in evenly(80, COLUMNS)], abs=2)
    assert levels[1] == pytest.approx([200, 100, 50, *[PAPER[0]] * 5], abs=2)
    for top in (0, LINE + GAP, LINE + GAP + row):
        assert pixels[top : top + LINE].max() > 100, "there are letters"


def test_the_same_strips_give_the_same_bytes_and_a_label_shows(tmp_path: Path) -> None:
    clip = film(tmp_path, [10, 200])
    drawn = draw_sheet("harbour", [Strip("boats", clip, 2)])
    assert draw_sheet("harbour", [Strip("boats", clip, 2)]) == drawn
    assert draw_sheet("harbour", [Strip("gulls", clip, 2)]) != drawn
    assert draw_sheet("harbor", [Strip("boats", clip, 2)]) != drawn


def test_a_long_video_has_a_bounded_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, read = film(tmp_path, [1, 2, 3, 4]), []

    def watching(path: Path, places: list[int]) -> object:
        read.append(path.name)
        return frames_at(clip, places)

    monkeypatch.setattr("svid.media.sheet.frames_at", watching)
    strips = [Strip(str(number), tmp_path / str(number), 4) for number in range(1000)]
    picture = opened(draw_sheet("long", strips))
    assert picture.height == LINE + GAP + ROWS * (LINE + BOX // 2 + GAP)
    assert len(read) == ROWS
    assert (read[0], read[-1]) == ("0", "999")


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(832, 480, (92, 160)), (480, 832, (160, 92)), (160, 96, (96, 160))]
)
def test_frames_fit_their_box_in_their_own_shape(
    tmp_path: Path, height: int, width: int, shown: tuple[int, int]
) -> None:
    clip = film(tmp_path, [90], "h264", height, width)
    picture = opened(draw_sheet("x", [Strip("y", clip, 1)]))
    assert picture.size == (GAP + COLUMNS * (shown[0] + GAP), LINE + GAP + LINE + shown[1] + GAP)


def test_nothing_to_show_and_a_clip_that_is_gone_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="expected at least one segment"):
        draw_sheet("x", [])
    with pytest.raises(MediaError, match="gone"):
        draw_sheet("x", [Strip("y", tmp_path / "gone", 4)])


@pytest.mark.parametrize("text", ["a boat", "", "word " * 4000, "漢字 " * 50, "two\nlines\x1b[31m", "i" * 500])
def test_a_line_fits_whatever_it_says(text: str) -> None:
    for width in (0, 5, 60, 400):
        line = fitted(text, width, 12)
        assert font(12).getlength(line) <= width
        assert line.isprintable()
    assert fitted("a boat", 400, 12) == "a boat"
    assert fitted("a boat and a gull", 60, 12).endswith("...")
