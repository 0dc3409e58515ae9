"""How a clip is turned. Phones store what their sensor saw and write beside it how to hold it: the display matrix."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideData, Type

from svid.errors import MediaError, Problem

ONE = 1 << 16
"""1.0 in the matrix, whose numbers have 16 bits behind the point."""


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a picture: its axes exchanged, then turned around top to bottom and left to
    right."""

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 [H, W, 3] as it is to be seen; the same array where nothing is to be done."""
        if self == UPRIGHT:
            return pixels
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.upside_down:
            pixels = pixels[::-1]
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


UPRIGHT = Turn()


def turn_of(frame: av.VideoFrame, file: str) -> Turn:
    """How `frame` is to be turned. Raises MediaError where its matrix does more than quarter turns and mirroring.

    The matrix takes column p and row q to the column a p + c q and the row b p + d q (libavutil/display.h).
    """
    raw = next((bytes(data) for data in _side_data(frame) if data.type == Type.DISPLAYMATRIX), None)
    if raw is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", raw[:20]) if len(raw) >= 20 else (0, 0, 0, 0, 0)
    if (abs(a), abs(d), b, c) == (ONE, ONE, 0, 0):
        return Turn(upside_down=d < 0, mirrored=a < 0)
    if (a, d, abs(b), abs(c)) == (0, 0, ONE, ONE):
        return Turn(transposed=True, upside_down=b < 0, mirrored=c < 0)
    found = [number / ONE for number in (a, b, c, d)]
    message = f"expected a rotation by quarter turns, found the display matrix {found}"
    raise MediaError(Problem(file, "", message, "encode it again, so that its pixels are turned"))


def _side_data(frame: av.VideoFrame) -> Iterable[SideData]:
    # PyAV's container iterates over its values, though its stub calls it a mapping.
    return cast("Iterable[SideData]", frame.side_data)
