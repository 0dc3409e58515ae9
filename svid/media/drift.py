"""What drift is measured by: how bright, rich in contrast, colourful and sharp a segment is, and how far from the first
one. Values are those of sRGB as stored, from 0 (black) to 1 (white)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601's weights of red, green and blue."""


@dataclass(frozen=True)
class Look:
    """The four measures of a segment, each averaged over its frames; or differences of them."""

    brightness: float
    """The mean of the luma."""
    contrast: float
    """The standard deviation of the luma within a frame (n - 1 in the denominator)."""
    saturation: float
    """The mean distance of a pixel's largest colour channel from its smallest."""
    sharpness: float
    """The mean step of the luma to the next pixel to the right, plus that to the next one below."""


MEASURES = tuple(field.name for field in fields(Look))


def look_of_frame(pixels: npt.NDArray[np.uint8]) -> Look:
    """The measures of one frame, uint8 [H, W, 3], of at least two pixels each way."""
    values = pixels.astype(np.float32) / 255
    luma = values @ LUMA
    chroma = values.max(-1) - values.min(-1)
    steps = np.abs(np.diff(luma, axis=1)).mean() + np.abs(np.diff(luma, axis=0)).mean()
    return Look(float(luma.mean()), float(luma.std(ddof=1)), float(chroma.mean()), float(steps))


def look_of(frames: Iterable[npt.NDArray[np.uint8]]) -> Look:
    """The measures of a segment; one frame is held at a time. Raises ValueError where there is none."""
    total, count = np.zeros(len(MEASURES)), 0
    for pixels in frames:
        total += astuple(look_of_frame(pixels))
        count += 1
    if not count:
        raise ValueError("expected at least one frame, found none")
    return Look(*(total / count).tolist())


def changes(looks: Sequence[Look]) -> list[Look]:
    """How far each segment is from the first one: its measures less the first one's, so the first of these is 0."""
    return [Look(*(np.subtract(astuple(look), astuple(looks[0]))).tolist()) for look in looks]


def drift(change: Look) -> float:
    """One number for a change: the mean size of those of brightness, contrast and saturation, in hundredths of the
    range."""
    return 100 * (abs(change.brightness) + abs(change.contrast) + abs(change.saturation)) / 3
