"""Clips that exist: opened behind white-lists, counted, decoded, and their tags read. Nothing they say is believed."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from svid.errors import MediaError, Problem
from svid.media.colour import check_colours, to_rgb
from svid.media.turning import UPRIGHT, Turn, turn_of

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 64_000_000
"""Of one frame of a clip that is read."""
MAX_FRAMES = 250_000
"""Of a clip that a video goes on from: more than two hours at 30 frames a second. A file of half a gigabyte can hold a
hundred times as many empty ones, each of which takes its time."""
RATES = (1, 240)
"""Frames a second, as in a manifest."""
ASPECTS = (Fraction(1, 16), Fraction(16))
"""Of one pixel, width to height."""
THREADS = 4
"""Of the decoder. Each holds a picture."""
CODECS = frozenset(
    [
        "av1",
        "cfhd",
        "dnxhd",
        "ffv1",
        "ffvhuff",
        "h263",
        "h264",
        "hevc",
        "huffyuv",
        "magicyuv",
        "mjpeg",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "png",
        "prores",
        "qtrle",
        "rawvideo",
        "theora",
        "utvideo",
        "v210",
        "vc1",
        "vp8",
        "vp9",
    ]
)
"""FFmpeg can decode some three hundred more, down to those of games of the nineties."""

# Without these a text file named .mp4 may be a playlist, and FFmpeg would open whatever file or address it lists.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_CONSTANT = "ffmpeg -i CLIP -fps_mode cfr OUT.mp4 gives it a constant rate"


def read_frames(path: Path, shown: str | None = None) -> Iterator[torch.Tensor]:
    """The frames of the clip at `path` in order, upright, uint8 [H, W, 3] each. Raises MediaError, in which `shown`
    names the file."""
    import torch  # here, so that the command line can count a clip's frames without loading torch

    for pixels in _arrays(path, shown or str(path)):
        yield torch.from_numpy(pixels)


def _arrays(path: Path, file: str) -> Iterator[npt.NDArray[np.uint8]]:
    convert = to_rgb()
    with opened(path, file) as source:
        stream = video_of(source, file)
        size, turn = (stream.width, stream.height), UPRIGHT
        stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        for number, frame in enumerate(source.decode(stream), 1):
            if frame.is_corrupt or (frame.width, frame.height) != size:
                found = "a damaged one" if frame.is_corrupt else f"{frame.width}x{frame.height}"
                message = f"expected a frame of {size[0]}x{size[1]}, found {found}"
                raise MediaError(Problem(file, f"frame {number}", message))
            turn = _same_turn(frame, turn, number, file)
            if number == 1:
                check_colours(frame, file)
            yield turn(np.asarray(convert(frame).to_ndarray(), np.uint8))


def _same_turn(frame: av.VideoFrame, before: Turn, number: int, file: str) -> Turn:
    turn = turn_of(frame, file)
    if number > 1 and turn != before:
        message = "expected all frames to be turned alike, found another orientation"
        raise MediaError(Problem(file, f"frame {number}", message, "encode it again, so that its pixels are turned"))
    return turn


def read_tags(path: Path, shown: str | None = None) -> dict[str, str]:
    """What `join_clips` wrote into the file as tags; empty where the file has none. Anybody may have written them."""
    with opened(path, shown) as source:
        return tags_of(source)


def probe(path: Path, shown: str | None = None) -> tuple[int, float, int, int]:
    """Frames (counted, not believed), frames a second, width and height (upright, in square pixels) of a clip that a
    video is to go on from.

    Raises MediaError where it is no video, holds fewer frames than its index or its duration says, has too many, shows
    them at another rate than it says or at varying ones, or its first one can't be decoded.
    """
    file = shown or str(path)
    with opened(path, file) as source:
        stream = video_of(source, file)
        if not stream.average_rate:
            raise MediaError(Problem(file, "", "expected a video with a frame rate, found none"))
        rate, times, packets = Fraction(stream.average_rate), array("q"), 0
        for packet in source.demux(stream):
            packets += bool(packet.size)
            if _is_shown(packet):
                times.append(packet.pts or 0)
            if packets > MAX_FRAMES:
                raise MediaError(Problem(file, "", f"expected at most {MAX_FRAMES:,} frames, found more", "cut it"))
        if not times:
            raise MediaError(Problem(file, "", "expected a video with frames, found no frame"))
        if not RATES[0] <= rate <= RATES[1]:
            found = f"expected {RATES[0]} to {RATES[1]} frames a second, found {float(rate):g}"
            raise MediaError(Problem(file, "", found))
        _check_whole(source, stream, packets, max(times), file)
        _check_times(times, rate * Fraction(stream.time_base or 0), file)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    if not ASPECTS[0] <= aspect <= ASPECTS[1]:
        message = f"expected pixels of {ASPECTS[0]} to {ASPECTS[1]} times their height, found {aspect}"
        raise MediaError(Problem(file, "", message))
    frames = _arrays(path, file)
    first = next(frames, None)
    frames.close()  # type: ignore[attr-defined]
    if first is None:
        raise MediaError(Problem(file, "frame 1", "expected a picture, found none that can be decoded"))
    height, width = first.shape[:2]
    if (width > height) == (stream.width > stream.height):
        width = max(1, round(width * aspect))
    else:
        height = max(1, round(height * aspect))
    return len(times), float(rate), width, height


def _check_times(times: array[int], per_tick: Fraction, file: str) -> None:
    """Raise MediaError where a frame is shown more than a frame's time from its place in the even row, which is where
    the finished video will show it."""
    ordered = sorted(times)
    for place, time in enumerate(ordered):
        if abs((time - ordered[0]) * per_tick - place) > 1:
            due = round((time - ordered[0]) * per_tick) + 1
            found = f"found a varying one: frame {place + 1} comes at the time of frame {due}"
            message = f"expected the constant frame rate that it says, {found}"
            raise MediaError(Problem(file, "", message, _CONSTANT))


def _check_whole(source: InputContainer, stream: VideoStream, packets: int, last: int, file: str) -> None:
    """Raise MediaError where the file was cut off: MP4 says how many frames there are, Matroska only how long it is."""
    if packets < stream.frames:
        message = f"expected {stream.frames} frames, as its index says, found {packets}"
        raise MediaError(Problem(file, "", message, "the file is cut short: copy it again"))
    alone = len(source.streams) == 1
    if stream.frames or not alone or not source.duration or not stream.average_rate:
        return
    length, end = Fraction(source.duration, av.time_base), (last + 1) * Fraction(stream.time_base or 0)
    if length - end > max(Fraction(1, 10), 3 / Fraction(stream.average_rate)):
        message = f"expected {float(length):.2f} seconds, as its header says, found {float(end):.2f}"
        raise MediaError(Problem(file, "", message, "the file is cut short: copy it again"))


@contextmanager
def opened(path: Path, shown: str | None = None) -> Iterator[InputContainer]:
    """The clip at `path`, known to have video of an acceptable size. FFmpeg's errors come out as MediaError."""
    file = shown or str(path)
    if not path.is_file():
        raise MediaError(Problem(file, "", "expected a video file, found none"))
    try:
        # "file:" keeps a name with a colon from being taken for a protocol.
        with av.open(f"file:{path}", "r", container_options=_OPTIONS, metadata_errors="replace") as source:
            stream = video_of(source, file)
            if not 0 < stream.width * stream.height <= MAX_PIXELS:
                found = f"{stream.width}x{stream.height}"
                raise MediaError(Problem(file, "", f"expected 1 to {MAX_PIXELS:,} pixels a frame, found {found}"))
            yield source
    except (av.FFmpegError, UnicodeDecodeError, OverflowError) as error:
        # the last two: PyAV reads some texts and numbers of the file before anybody asks for them
        said = getattr(error, "strerror", None) or error
        message = f"expected a whole MP4, MOV, MKV or WebM video: {said}"
        raise MediaError(Problem(file, "", message)) from error


def packets_of(source: InputContainer) -> Iterator[av.Packet[VideoStream]]:
    """The packets that show a picture, in decoding order."""
    for packet in source.demux(video_of(source, source.name)):
        if _is_shown(packet):
            yield packet


def _is_shown(packet: av.Packet[VideoStream]) -> bool:
    return bool(packet.size) and packet.pts is not None and not packet.is_discard


def video_of(source: InputContainer, file: str) -> VideoStream:
    """The first video stream that is no cover picture. Raises MediaError where there is none, or of no known codec."""
    moving = [stream for stream in source.streams.video if not stream.disposition & _STILLS]
    if not moving:
        found = "only a cover picture" if source.streams.video else "none"
        raise MediaError(Problem(file, "", f"expected a video stream, found {found}"))
    context = moving[0].codec_context
    name = context.codec.canonical_name if context is not None else "an unknown one"
    if name not in CODECS:
        raise MediaError(Problem(file, "", f"expected one of the codecs {', '.join(sorted(CODECS))}, found {name}"))
    return moving[0]


def tags_of(source: InputContainer) -> dict[str, str]:
    """The JSON object of strings in the key `comment`, or an empty one."""
    text = next((value for key, value in source.metadata.items() if key.lower() == "comment"), "")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return {}
    return found
