"""Clips that exist: opened behind white-lists, decoded, and their tags read. Nothing they say is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


def read_frames(path: Path, shown: str | None = None) -> Iterator[torch.Tensor]:
    """The frames of the clip at `path` in order, upright, uint8 [H, W, 3] each. Raises MediaError, in which `shown`
    names the file."""
    import torch  # here, so that the command line can count a clip's frames without loading torch

    for one in decoded(path, shown or str(path)):
        yield torch.from_numpy(one.pixels)


@dataclass(frozen=True)
class Decoded:
    """A frame: its pixels, uint8 [H, W, 3], upright; the time that it is shown at, in ticks of its stream (None where
    the file does not say); and how it was turned."""

    pixels: npt.NDArray[np.uint8]
    time: int | None
    turn: Turn


def decoded(path: Path, file: str) -> Iterator[Decoded]:
    """The frames of the clip at `path` in order. Raises MediaError, in which `file` names it."""
    convert, turn = to_rgb(), UPRIGHT
    for number, frame in enumerate(whole_frames(path, file), 1):
        turn = _same_turn(frame, turn, number, file)
        if number == 1:
            check_colours(frame, file)
        yield Decoded(turn(np.asarray(convert(frame).to_ndarray(), np.uint8)), frame.pts, turn)


def whole_frames(path: Path, file: str, size: tuple[int, int] | None = None) -> Iterator[av.VideoFrame]:
    """The frames of the clip at `path` as they are stored. Raises MediaError, in which `file` names it, for one that is
    damaged or not of `size` (width, height), that of the stream if None."""
    with opened(path, file) as source:
        stream = video_of(source, file)
        width, height = size or (stream.width, stream.height)
        stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        for number, frame in enumerate(source.decode(stream), 1):
            if frame.is_corrupt or (frame.width, frame.height) != (width, height):
                found = "a damaged one" if frame.is_corrupt else f"{frame.width}x{frame.height}"
                message = f"expected a frame of {width}x{height}, found {found}"
                raise MediaError(Problem(file, f"frame {number}", message))
            yield frame


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


@contextmanager
def opened(path: Path, shown: str | None = None, **options: str) -> Iterator[InputContainer]:
    """The clip at `path`, known to have video of an acceptable size; `options` are the demuxer's. FFmpeg's errors come
    out as MediaError."""
    file = shown or str(path)
    if not path.is_file():
        raise MediaError(Problem(file, "", "expected a video file, found none"))
    try:
        # "file:" keeps a name with a colon from being taken for a protocol.
        with av.open(f"file:{path}", "r", container_options=_OPTIONS | options, metadata_errors="replace") as source:
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
        if packet.size and packet.pts is not None and not packet.is_discard:
            yield packet


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
