"""Clips that exist: opened behind white-lists, counted, decoded, and their tags read. Nothing they say is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from svid.errors import MediaError, Problem
from svid.media.colour import to_rgb

MAX_PIXELS = 64_000_000
"""Of one frame of a clip that is read."""

# Without these a text file named .mp4 may be a playlist, and FFmpeg would open whatever file or address it lists.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}


def read_frames(path: Path, shown: str | None = None) -> Iterator[torch.Tensor]:
    """The frames of the clip at `path` in order, uint8 [H, W, 3] each. Raises MediaError, in which `shown` names the
    file."""
    convert = to_rgb()
    with opened(path, shown) as source:
        stream = source.streams.video[0]
        size = (stream.width, stream.height)
        stream.codec_context.thread_type = "AUTO"
        for number, frame in enumerate(source.decode(stream), 1):
            if frame.is_corrupt or (frame.width, frame.height) != size:
                found = "a damaged one" if frame.is_corrupt else f"{frame.width}x{frame.height}"
                message = f"expected a frame of {size[0]}x{size[1]}, found {found}"
                raise MediaError(Problem(shown or str(path), f"frame {number}", message))
            yield torch.from_numpy(convert(frame).to_ndarray())


def read_tags(path: Path, shown: str | None = None) -> dict[str, str]:
    """What `join_clips` wrote into the file as tags; empty where the file has none. Anybody may have written them."""
    with opened(path, shown) as source:
        return tags_of(source)


def probe(path: Path, shown: str | None = None) -> tuple[int, float, int, int]:
    """Frames (counted, not believed), frames a second, width and height of the clip at `path`. Raises MediaError."""
    with opened(path, shown) as source:
        stream = source.streams.video[0]
        frames = sum(1 for _ in packets_of(source))
        if not frames or not stream.average_rate:
            found = "no frame" if not frames else "no frame rate"
            raise MediaError(Problem(shown or str(path), "", f"expected a video with frames and a rate, found {found}"))
        return frames, float(stream.average_rate), stream.width, stream.height


@contextmanager
def opened(path: Path, shown: str | None = None) -> Iterator[InputContainer]:
    """The clip at `path`, known to have video of an acceptable size. FFmpeg's errors come out as MediaError."""
    file = shown or str(path)
    if not path.is_file():
        raise MediaError(Problem(file, "", "expected a video file, found none"))
    try:
        # "file:" keeps a name with a colon from being taken for a protocol.
        with av.open(f"file:{path}", "r", container_options=_OPTIONS, metadata_errors="replace") as source:
            if not source.streams.video:
                raise MediaError(Problem(file, "", "expected a video stream, found none"))
            stream = source.streams.video[0]
            if not 0 < stream.width * stream.height <= MAX_PIXELS:
                found = f"{stream.width}x{stream.height}"
                raise MediaError(Problem(file, "", f"expected 1 to {MAX_PIXELS:,} pixels a frame, found {found}"))
            yield source
    except av.FFmpegError as error:
        message = f"expected a whole MP4, MOV, MKV or WebM video: {error.strerror or error}"
        raise MediaError(Problem(file, "", message)) from error


def packets_of(source: InputContainer) -> Iterator[av.Packet[VideoStream]]:
    """The packets that show a picture, in decoding order."""
    for packet in source.demux(source.streams.video[0]):
        if packet.size and packet.pts is not None and not packet.is_discard:
            yield packet


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
