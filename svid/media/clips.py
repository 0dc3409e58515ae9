"""Clips: frames into a file, and files into one longer file without encoding again. All of it streams."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path

import av
import torch
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from svid.api import Artifact, Clip, Encoding
from svid.errors import MediaError, Problem
from svid.media.codecs import Codec, codec, codec_of, encoder_options
from svid.media.colour import rgb_frame, tag, to_codec
from svid.media.probing import probe
from svid.media.reading import opened, packets_of, read_frames, read_tags, tags_of

__all__ = ["exact_rate", "join_clips", "probe", "read_frames", "read_tags", "survey", "write_clip"]


def write_clip(frames: Iterable[torch.Tensor], out: Path, fps: float, encoding: Encoding) -> int:
    """Encode `frames`, tensors of uint8 [n, H, W, 3], to `out` at `fps` frames a second; returns how many there were.

    The file begins with an IDR frame and no group of pictures is open, so that `join_clips` can put it beside others.
    The same frames give the same bytes. One tensor is held at a time. Where this raises, what `out` holds is worthless.

    Raises MediaError where there is no frame, where a tensor is of another type or size, or `out` can't be written, and
    ManifestError for a codec or a quality that svid does not have.
    """
    chosen = codec(encoding.codec)
    options = encoder_options(chosen, encoding.quality)
    pictures = _pictures(frames, chosen, str(out))
    first = next(pictures, None)
    if first is None:
        raise MediaError(Problem(str(out), "", "expected at least one frame to encode, found none"))
    with _created(out, chosen) as sink:
        stream = _encoder(sink, chosen, first, exact_rate(fps), options)
        shown, coded = count(), count()
        for picture in chain([first], pictures, [None]):
            if picture is not None:
                picture.pts, picture.time_base = next(shown), stream.codec_context.time_base
            for packet in stream.encode(picture):
                # The encoder's own decoding times are no good: x265 leaves them unset in a clip of one or two frames.
                packet.dts = next(coded) - chosen.delay
                sink.mux(packet)
    return next(shown)


def join_clips(clips: Sequence[Clip], out: Path, tags: Mapping[str, str]) -> Artifact:
    """Join `clips` into the file `out` by copying their packets, with `tags` as a JSON object in the key `comment`.

    Nothing is decoded, so the pictures of the joined file are those of the clips; what is held in memory is one packet
    and the container's index. The clips must be of one codec, size and rate. Frames are counted and the tags read back
    before this returns. Raises MediaError, naming the clip or `out`.
    """
    parts = [survey(clip) for clip in clips]
    if not parts:
        raise MediaError(Problem(str(out), "", "expected at least one clip to join, found none"))
    for part in parts:
        _same_kind(parts[0], part)
    # A decoding time is the packet's place less the depth of reordering, the deepest of all clips: a clip of one frame
    # is less deep than others, and the times that each clip brought along would run backwards at the joint.
    delay = max(part.delay for part in parts)
    rate, chosen = parts[0].rate, codec_of(parts[0].codec, str(clips[0].path))
    text = json.dumps(dict(tags), ensure_ascii=not _is_text(tags), sort_keys=True)
    with opened(clips[0].path) as template, _created(out, chosen) as sink:
        sink.metadata["comment"] = text
        stream = _copy_of(template, sink, rate, chosen)
        done = 0
        for part in parts:
            with opened(part.path) as source:
                for place, packet in enumerate(packets_of(source)):
                    packet.pts = done + _index(packet, rate)
                    packet.dts = done + place - delay
                    packet.duration = 1
                    packet.time_base = 1 / rate
                    packet.stream = stream
                    sink.mux(packet)
            done += part.frames
    check_joined(out, done, dict(tags))
    return Artifact(out, done, float(rate), chosen.name)


def exact_rate(fps: float) -> Fraction:
    """The rate that `fps` stands for: 24 is 24, 12.5 is 25/2, and 23.976 is NTSC's 24000/1001."""
    ntsc = Fraction(round(fps) * 1000, 1001)
    close = fps != round(fps) and abs(fps - ntsc) < 0.001
    return ntsc if close else Fraction(fps).limit_denominator(1001)


@dataclass(frozen=True)
class Part:
    """What has to be known of a clip before it is joined; `delay` is by how many frames decoding runs ahead of
    showing."""

    path: Path
    codec: str
    kind: str
    rate: Fraction
    head: bytes | None
    frames: int
    delay: int


def survey(clip: Clip) -> Part:
    """What of a clip has to be known before it is joined. Raises MediaError where it can't be."""
    file = str(clip.path)
    with opened(clip.path) as source:
        stream = source.streams.video[0]
        rate = Fraction(stream.average_rate or 0)
        if not rate:
            raise MediaError(Problem(file, "", "expected a frame rate, found none"))
        frames, delay, last = 0, 0, -1
        for packet in packets_of(source):
            if frames == 0 and not packet.is_keyframe:
                raise MediaError(Problem(file, "frame 1", "expected a key frame, found another"))
            index = _index(packet, rate)
            delay, last = max(delay, frames - index), max(last, index)
            frames += 1
        if frames != clip.frames:
            raise MediaError(Problem(file, "", f"expected {clip.frames} frames, found {frames}"))
        if last != frames - 1:
            message = f"expected {frames} frames evenly spaced from 0 on, found the last one in place {last + 1}"
            raise MediaError(Problem(file, "", message))
        context = stream.codec_context
        name = context.codec.canonical_name
        kind = f"{name} {context.width}x{context.height} {context.pix_fmt} at {float(rate):g} fps"
        return Part(clip.path, name, kind, rate, context.extradata, frames, delay)


def _same_kind(first: Part, part: Part) -> None:
    hint = "clips are joined as they are; encode this one again"
    if part.kind != first.kind:
        message = f"expected {first.kind} as in {first.path.name}, found {part.kind}"
        raise MediaError(Problem(str(part.path), "", message, hint))
    if part.head != first.head:
        # A container holds one header for all packets; those of another encoder would decode to rubbish under it.
        message = f"expected the encoder settings of {first.path.name}, found others"
        raise MediaError(Problem(str(part.path), "", message, hint))


def check_joined(out: Path, frames: int, tags: dict[str, str]) -> None:
    """Raise MediaError where the file `out` does not hold as many frames and these tags."""
    with opened(out) as source:
        found, back = sum(1 for _ in packets_of(source)), tags_of(source)
    if found != frames:
        raise MediaError(Problem(str(out), "", f"expected {frames} frames after joining, found {found}"))
    if back != tags:
        lost = ", ".join(sorted(key for key in tags if back.get(key) != tags[key]))
        raise MediaError(Problem(str(out), "comment", f"expected to read the tags back, found these missing: {lost}"))


def _pictures(frames: Iterable[torch.Tensor], chosen: Codec, file: str) -> Iterator[av.VideoFrame]:
    """Every frame in the codec's pixel format."""
    convert, size = to_codec(chosen), None
    for tensor in frames:
        found = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[3] != 3:
            raise MediaError(Problem(file, "", f"expected frames of uint8 [n, H, W, 3], found {found}"))
        height, width = tensor.shape[1:3]
        size = size or (height, width)
        if (height, width) != size:
            raise MediaError(Problem(file, "", f"expected frames of {size[1]}x{size[0]} as before, found {found}"))
        if not chosen.is_rgb and (width % 2 or height % 2):
            message = f"expected an even width and height for {chosen.name}, found {width}x{height}"
            raise MediaError(Problem(file, "", message, "ffv1 takes any size"))
        for pixels in tensor.cpu().contiguous().numpy():
            yield convert(rgb_frame(pixels))


def _encoder(
    sink: OutputContainer, chosen: Codec, first: av.VideoFrame, rate: Fraction, options: dict[str, str]
) -> VideoStream:
    for key, value in chosen.environment.items():
        os.environ.setdefault(key, value)
    stream = sink.add_stream(chosen.encoder, rate=rate)
    if not isinstance(stream, VideoStream):
        raise MediaError(Problem("", "codec", f"expected {chosen.encoder} to encode video, found {stream.type}"))
    # "bitexact" keeps FFmpeg's version out of the stream; "cgop" closes every group of pictures.
    context = stream.codec_context
    context.options = {**options, "flags": "+bitexact+cgop"}
    context.width, context.height, context.pix_fmt = first.width, first.height, chosen.pixel_format
    context.time_base = stream.time_base = 1 / rate
    context.thread_count = chosen.threads
    context.thread_type = "FRAME"  # PyAV's own default, SLICE, makes x264 cut each picture up and compress worse
    tag(context, chosen)
    if chosen.tag:
        context.codec_tag = chosen.tag
    return stream


def _copy_of(template: InputContainer, sink: OutputContainer, rate: Fraction, chosen: Codec) -> VideoStream:
    stream = sink.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = 1 / rate
    stream.codec_context.framerate = rate  # the muxer writes it, and PyAV does not copy the template's
    if chosen.tag:
        stream.codec_context.codec_tag = chosen.tag
    return stream


def _index(packet: av.Packet[VideoStream], rate: Fraction) -> int:
    """The place of a packet's frame in its clip, from 0. Rounded, because Matroska counts in whole milliseconds."""
    return round((packet.pts or 0) * packet.time_base * rate)


def _is_text(tags: Mapping[str, str]) -> bool:
    """Whether the tags can be written as UTF-8; half a surrogate pair can't, and goes in as an escape."""
    try:
        "".join([*tags, *tags.values()]).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _created(out: Path, chosen: Codec) -> Iterator[OutputContainer]:
    """A new file at `out` in the codec's container. FFmpeg's errors come out as MediaError."""
    options = {"fflags": "+bitexact"}  # no dates, no library version, no random ids
    if chosen.container_format == "mp4":
        options["movflags"] = "+faststart"
    elif chosen.container_format == "mov":
        # QuickTime's own comment counts its bytes in 16 bits and loses what is longer; a tag under a key does not.
        options["movflags"] = "+faststart+use_metadata_tags"
    try:
        with av.open(f"file:{out}", "w", format=chosen.container_format, container_options=options) as sink:
            yield sink
    except av.FFmpegError as error:
        raise MediaError(Problem(str(out), "", f"can't be written: {error.strerror or error}")) from error
