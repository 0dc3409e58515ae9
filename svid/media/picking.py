"""Single frames of a clip that svid has encoded, without decoding more of it than has to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from svid.errors import MediaError, Problem
from svid.media.colour import to_rgb
from svid.media.reading import MAX_PIXELS, THREADS, opened, video_of

Pixels = npt.NDArray[np.uint8]
"""A frame, uint8 [H, W, 3] RGB."""

FAR = 300
"""Frames from which on jumping to the key frame before a place is cheaper than decoding up to it: encoders put one at
least every 250 frames."""


def frames_at(path: Path, places: Iterable[int]) -> Iterator[Pixels]:
    """The frames of the clip at `path` in these places, counted from 0 and ascending. One is held at a time.

    Raises MediaError where the clip can't be read or has no frame in a place.
    """
    convert, file, here = to_rgb(), str(path), -1
    with opened(path) as source:
        stream = video_of(source, file)
        rate, tick = Fraction(stream.average_rate or 0), Fraction(stream.time_base or 0)
        if not rate or not tick:
            raise MediaError(Problem(file, "", "expected a frame rate, found none"))
        stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        coming = _counted(source, stream, rate * tick)
        for place in places:
            if place - here > FAR:
                source.seek(int(place / (rate * tick)), stream=stream)
                coming = _counted(source, stream, rate * tick)
            frame = None
            while here < place:
                here, frame = next(coming, (place, None))
            if frame is None or here != place:
                raise MediaError(Problem(file, f"frame {place + 1}", "expected a frame here, found none"))
            yield np.asarray(convert(frame).to_ndarray(), np.uint8)


def _counted(source: InputContainer, stream: VideoStream, per_tick: Fraction) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames that come next, each with its place in the clip, which its time tells."""
    for frame in source.decode(stream):
        yield round((frame.pts or 0) * per_tick), frame


def evenly(total: int, count: int) -> list[int]:
    """At most `count` of `total` places, the first and the last among them, as evenly spaced as whole numbers are."""
    if total <= count:
        return list(range(total))
    if count == 1:
        return [0]
    return [round(number * (total - 1) / (count - 1)) for number in range(count)]
