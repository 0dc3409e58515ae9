"""Whether a video can go on from a clip: its frames counted, its rate told from their times, its end looked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from svid.errors import MediaError, Problem
from svid.media.reading import Decoded, decoded, opened, video_of

MAX_FRAMES = 250_000
"""Of a clip that a video goes on from: more than two hours at 30 frames a second. A file of half a gigabyte can hold a
hundred times as many empty ones, each of which takes its time."""
MAX_PACKETS = 20 * MAX_FRAMES
"""Of all streams of a file whose sound is looked through, too. The longest clip at 30 frames a second has an eighth
of that in pictures and one track of sound."""
RATES = (1, 240)
"""Frames a second, as in a manifest."""
ASPECTS = (Fraction(1, 16), Fraction(16))
"""Of one pixel, width to height."""

_CONSTANT = "ffmpeg -i CLIP -fps_mode cfr OUT.mp4 gives it a constant rate"
_LEFT_OUT = "ffmpeg -i CLIP OUT.mp4 leaves out what can't be decoded"
_CUT_SHORT = "the file is cut short: copy it again"


def probe(path: Path, shown: str | None = None) -> tuple[int, float, int, int]:
    """Frames (counted, not believed), frames a second, width and height (upright, in square pixels) of a clip that a
    video is to go on from.

    Raises MediaError where it is no video, holds fewer frames than its index or its duration says, has too many, shows
    them at varying times, or its first one can't be decoded.
    """
    file = shown or str(path)
    with opened(path, file) as source:
        stream = video_of(source, file)
        times, packets, end = _times(source, stream, file)
        rate = _rate(times, Fraction(stream.time_base or 0), Fraction(stream.average_rate or 0))
        if not rate:
            raise MediaError(Problem(file, "", "expected a video with a frame rate, found none"))
        if not RATES[0] <= rate <= RATES[1]:
            found = f"expected {RATES[0]} to {RATES[1]} frames a second, found {float(rate):g}"
            raise MediaError(Problem(file, "", found))
        _check_whole(path, source, stream, packets, end, rate, file)
        _check_times(times, rate * Fraction(stream.time_base or 0), file)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    if not ASPECTS[0] <= aspect <= ASPECTS[1]:
        message = f"expected pixels of {ASPECTS[0]} to {ASPECTS[1]} times their height, found {aspect}"
        raise MediaError(Problem(file, "", message))
    first = _first(path, times, file)
    height, width = first.pixels.shape[:2]
    if first.turn.transposed:
        height = max(1, round(height * aspect))
    else:
        width = max(1, round(width * aspect))
    return len(times), float(rate), width, height


def _times(source: InputContainer, stream: VideoStream, file: str) -> tuple[array[int], int, Fraction]:
    """When the frames are shown, in ticks and in decoding order; how many there are with those that an edit list leaves
    out; and the second at which whatever is in the file ends, as far as that was read: all of a Matroska file, whose
    header tells the length of that, and of an MP4, which counts its frames, the video."""
    times, packets, end = array("q"), 0, Fraction(0)
    read: Iterator[av.Packet[Any]] = source.demux(stream) if stream.frames else source.demux()
    for number, packet in enumerate(read):
        if number >= MAX_PACKETS:
            message = f"expected at most {MAX_PACKETS:,} packets of picture and sound, found more"
            raise MediaError(Problem(file, "", message, "cut it"))
        if packet.size and packet.pts is not None and packet.time_base:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream.index != stream.index or not packet.size:
            continue
        packets += 1
        if packets == 1 and not packet.is_keyframe:  # some decoders make a picture of it all the same
            message = "expected a key frame to begin with, found one that goes on from others"
            raise MediaError(Problem(file, "frame 1", message, _LEFT_OUT))
        if packets > MAX_FRAMES:
            raise MediaError(Problem(file, "", f"expected at most {MAX_FRAMES:,} frames, found more", "cut it"))
        if packet.is_corrupt:
            raise MediaError(Problem(file, f"frame {packets}", "expected all of it, found a part", _CUT_SHORT))
        if packet.pts is not None and not packet.is_discard:
            times.append(packet.pts)
    if not times:
        raise MediaError(Problem(file, "", "expected a video with frames, found no frame"))
    return times, packets, end


def _rate(times: array[int], tick: Fraction, said: Fraction) -> Fraction:
    """Frames a second. `said` is what the container says or, where it says nothing, what FFmpeg has guessed from the
    first frames, so it is taken only where it fits the times of all; else a whole rate or one of NTSC's that does, to
    the tick that times are rounded to; else the mean. 0 where there is none of these."""
    steps, span = len(times) - 1, max(times) - min(times)
    if not span or not tick:
        return said
    mean = steps / (span * tick)
    usual = {Fraction(round(mean)), Fraction(round(mean) * 1000, 1001)}

    def off(rate: Fraction) -> Fraction:
        return abs(steps / (rate * tick) - span) if rate else Fraction(span)

    if off(said) == 0 or (said in usual and off(said) <= 1):
        return said
    fitting = [rate for rate in sorted(usual, key=off) if off(rate) <= 1]
    return next(iter(fitting), said if off(said) <= 1 else mean)


def _check_times(times: array[int], per_tick: Fraction, file: str) -> None:
    """Raise MediaError where a frame is shown more than a frame's time from its place in the even row, which is where
    the finished video will show it."""
    ordered = sorted(times)
    for place, time in enumerate(ordered):
        if abs((time - ordered[0]) * per_tick - place) > 1:
            due = round((time - ordered[0]) * per_tick) + 1
            found = f"found a varying one: frame {place + 1} comes at the time of frame {due}"
            raise MediaError(Problem(file, "", f"expected a constant frame rate, {found}", _CONSTANT))


def _check_whole(
    path: Path, source: InputContainer, stream: VideoStream, packets: int, end: Fraction, rate: Fraction, file: str
) -> None:
    """Raise MediaError where the file was cut off: MP4 says how many frames there are, Matroska only how long it is."""
    if packets < stream.frames:
        # FFmpeg passes over what lies outside an edit list by whole groups of pictures; the index counts them too.
        with opened(path, file, ignore_editlist="1") as unedited:
            packets = sum(1 for packet in unedited.demux(video_of(unedited, file)) if packet.size)
        if packets < stream.frames:
            message = f"expected {stream.frames} frames, as its index says, found {packets}"
            raise MediaError(Problem(file, "", message, _CUT_SHORT))
    if stream.frames or not source.duration:
        return
    length = Fraction(source.duration, av.time_base)
    if length - end > max(Fraction(1, 10), 2 / rate):
        message = f"expected {float(length):.2f} seconds, as its header says, found {float(end):.2f}"
        raise MediaError(Problem(file, "", message, _CUT_SHORT))


def _first(path: Path, times: array[int], file: str) -> Decoded:
    """The first frame, decoded. Raises MediaError where that can't be done, or only from a later one on."""
    frames = decoded(path, file)
    first = next(frames, None)
    frames.close()  # type: ignore[attr-defined]
    if first is None:
        raise MediaError(Problem(file, "frame 1", "expected a picture, found none that can be decoded"))
    lost = sum(1 for time in times if first.time is not None and time < first.time)
    if lost:
        message = f"expected a picture, found that nothing before frame {lost + 1} can be decoded"
        raise MediaError(Problem(file, "frame 1", message, _LEFT_OUT))
    return first
