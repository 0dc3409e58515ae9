"""Two videos beside one another, segment by segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from svid.media.lettering import INK, PAPER, fitted, font
from svid.media.picking import Pixels, evenly, frames_at
from svid.media.sheet import Strip

GAP = 8
LINE = 24
SIZE = 14
SMALLEST = 240
"""Frames that are less high are shown enlarged, each pixel as a square of pixels."""


def pairs(left: Sequence[Strip], right: Sequence[Strip]) -> Iterator[Pixels]:
    """Frames, uint8 [H, W, 3] of even size, with the videos that `left` and `right` are the segments of beside one
    another under their labels. One is held at a time.

    Segments begin together, so that both sides follow the same prompt. Where one has more frames than the other, some
    of them are left out, evenly spaced.
    """
    for one, other in zip(left, right, strict=True):
        count = min(one.frames, other.frames)
        heading = None
        sides = (frames_at(strip.path, evenly(strip.frames, count)) for strip in (one, other))
        for first, second in zip(*sides, strict=True):
            first, second = _enlarged(first), _enlarged(second)
            if heading is None:
                heading = _heading((one.label, other.label), (first.shape[1], second.shape[1]))
            yield _even(np.concatenate([heading, _row(first, second)]))


def _enlarged(frame: Pixels) -> Pixels:
    times = -(-SMALLEST // frame.shape[0]) if frame.shape[0] < SMALLEST else 1
    return frame.repeat(times, axis=0).repeat(times, axis=1)


def _row(first: Pixels, second: Pixels) -> Pixels:
    gap = np.full((first.shape[0], GAP, 3), PAPER, np.uint8)
    return np.concatenate([first, gap, second], axis=1)


def _heading(labels: tuple[str, str], widths: tuple[int, int]) -> Pixels:
    strip = Image.new("RGB", (widths[0] + GAP + widths[1], LINE), PAPER)
    pen = ImageDraw.Draw(strip)
    for label, width, left in zip(labels, widths, (0, widths[0] + GAP), strict=True):
        pen.text((left + 4, 4), fitted(label, width - 8, SIZE), INK, font(SIZE))
    return np.asarray(strip, np.uint8)


def _even(frame: Pixels) -> Pixels:
    """Encoders want an even number of pixels each way."""
    down, across = frame.shape[0] % 2, frame.shape[1] % 2
    return np.pad(frame, ((0, down), (0, across), (0, 0)), mode="edge")
