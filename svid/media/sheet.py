"""Contact sheets: a row of frames per segment, so that a long video is seen at a glance and drift down a column."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from svid.errors import MediaError, Problem
from svid.media.lettering import INK, PALE, PAPER, fitted, font
from svid.media.picking import Pixels, evenly, frames_at

COLUMNS = 8
ROWS = 48
"""Of a longer video so many segments are shown, evenly spaced: a sheet takes some seconds and 40 MB at the most."""
BOX = 160
"""Pixels of the longer side of a frame on the sheet."""
GAP = 4
LINE = 18
SIZE = 12


@dataclass(frozen=True)
class Strip:
    """One row: the clip at `path`, of `frames` frames, under a label."""

    label: str
    path: Path
    frames: int


def draw_sheet(title: str, strips: Sequence[Strip]) -> bytes:
    """A PNG with up to 8 evenly spaced frames of up to 48 of the strips, the first and the last among both.

    Of each clip only what leads to the frames is decoded. The same strips give the same bytes. Raises MediaError where
    there is no strip, or a clip can't be read.
    """
    if not strips:
        raise MediaError(Problem(title, "", "expected at least one segment to show, found none"))
    chosen = [strips[place] for place in evenly(len(strips), ROWS)]
    rows = [_row(strip) for strip in chosen]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, LINE + GAP + sum(row.height for row in rows)), PAPER)
    shown = f"{len(chosen)} of {len(strips)} segments" if len(chosen) < len(strips) else ""
    _write(sheet, (GAP, GAP), f"{title}   {shown}".rstrip(), PALE)
    top = LINE + GAP
    for row, strip in zip(rows, chosen, strict=True):
        sheet.paste(row, (0, top))
        _write(sheet, (GAP, top), strip.label, INK)
        top += row.height
    return png(sheet)


def _row(strip: Strip) -> Image.Image:
    """The frames of a strip beside one another, with room for its label above them."""
    frames = [_small(pixels) for pixels in frames_at(strip.path, evenly(strip.frames, COLUMNS))]
    width, height = frames[0].size
    row = Image.new("RGB", (GAP + COLUMNS * (width + GAP), LINE + height + GAP), PAPER)
    for number, frame in enumerate(frames):
        row.paste(frame, (GAP + number * (width + GAP), LINE))
    return row


def _small(pixels: Pixels) -> Image.Image:
    """A frame in its box: scaled down, or, where it is tiny, every pixel as a square of pixels."""
    frame = Image.fromarray(pixels)
    longest = max(frame.size)
    if longest <= BOX:
        times = BOX // longest
        return frame.resize((frame.width * times, frame.height * times), Image.Resampling.NEAREST)
    size = tuple(max(1, round(side * BOX / longest)) for side in frame.size)
    return frame.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _write(sheet: Image.Image, at: tuple[int, int], text: str, colour: tuple[int, int, int]) -> None:
    line = fitted(text, sheet.width - 2 * GAP, SIZE)
    ImageDraw.Draw(sheet).text(at, line, colour, font(SIZE))


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file, without a date or anything else that changes."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()
