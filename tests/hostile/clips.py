"""Clips as others make them: phones, cameras, converters."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def film(
    path: Path,
    codec: str = "libx264",
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = 12,
    rotation: float | None = None,
    times: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    colours: tuple[int, int] | None = None,
    matrix: int = 2,
    group: int | None = None,
    aspect: Fraction | None = None,
    sound: str | None = None,
    **options: str,
) -> Path:
    """A clip of a gradient that moves; `times` are the frames' own, in units of 1 / rate, `colours` the tags of its
    primaries and its curve, `matrix` that of its matrix (2: none), `group` the frames from one key frame to the next,
    without any that are stored in another order, `aspect` that of its pixels, `sound` the codec of a second of silence
    more than it lasts."""
    width, height = size
    with av.open(str(path), "w", options=options) as sink:
        # x264's lookahead gives other bits on every run otherwise
        fixed = {"x264-params": "cpu-independent=1"} if codec == "libx264" else {}
        stream: Any = sink.add_stream(codec, rate=rate, options=fixed)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if group is not None:
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = group, 0
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        heard = _silence(sink.add_stream(sound, rate=48000, layout="mono"), float(frames / rate) + 1) if sound else None
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if colours is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_primaries, stream.codec_context.color_trc = colours
        y, x = np.mgrid[0:height, 0:width]
        for number in range(frames):
            ramp = np.stack([x * 3 + number * 5, y * 4, x + y], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(ramp, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else number, 1 / Fraction(rate)
            sink.mux(stream.encode(frame))
            if heard:
                sink.mux(next(heard))
        sink.mux([*stream.encode(None), *(packet for rest in heard or () for packet in rest)])
    return path


def _silence(stream: Any, seconds: float) -> Iterator[list[Any]]:
    """The packets of a tenth of a second after the other."""
    kind, size = ("fltp", 1024) if stream.codec_context.name == "aac" else ("flt", 960)
    resampler = av.AudioResampler(kind, "mono", 48000, size)
    for number in range(round(seconds * 10)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, number * 4800, Fraction(1, 48000)
        yield [packet for piece in resampler.resample(frame) for packet in stream.encode(piece)]
    yield [packet for piece in [*resampler.resample(None), None] for packet in stream.encode(piece)]


@functools.cache
def corpus() -> tuple[bytes, ...]:
    """Small clips of several containers and codecs."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        made = (
            film(at / "a.mp4", frames=6),
            film(at / "b.mp4", frames=6, rotation=90, movflags="faststart"),
            film(at / "c.mp4", frames=6, movflags="frag_keyframe+empty_moov"),
            film(at / "d.mkv", frames=6),
            film(at / "e.mkv", "ffv1", frames=3),
            film(at / "f.webm", "libvpx-vp9", frames=4),
            film(at / "g.mov", "mjpeg", frames=3, pixels="yuvj420p"),
            film(at / "h.mov", "rawvideo", frames=2, size=(16, 16)),
        )
        return tuple(path.read_bytes() for path in made)
