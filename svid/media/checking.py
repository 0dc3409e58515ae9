"""What is asked of an encoded clip: whether it is what it was to be, and whether it is lossless."""

from __future__ import annotations

from pathlib import Path

from svid.api import Clip
from svid.errors import MediaError, Problem
from svid.media.clips import survey
from svid.media.codecs import CODECS
from svid.media.reading import opened, video_of, whole_frames

SAME_RATE = 1e-3
"""Relative difference of two frame rates that are one: Matroska counts in whole milliseconds."""


def check_clip(clip: Clip, frames: int, size: tuple[int, int], fps: float) -> None:
    """Decode all of a clip that was just encoded. Raises MediaError where it is not one of `frames` frames of `size`
    (width, height) at `fps` a second that begins with a key frame, so that it can be joined with others."""
    file = str(clip.path)
    if clip.frames != frames:
        raise MediaError(Problem(file, "", f"expected a clip of {frames} frames, found one of {clip.frames}"))
    rate = float(survey(clip).rate)
    if abs(rate - fps) > SAME_RATE * fps:
        raise MediaError(Problem(file, "", f"expected {fps:g} frames a second, found {rate:g}"))
    count = sum(1 for _ in whole_frames(clip.path, file, size))
    if count != frames:
        raise MediaError(Problem(file, "", f"expected {frames} frames that can be decoded, found {count}"))


def is_lossless(path: Path) -> bool:
    """Whether the clip at `path` gives back the very frames that were encoded. Raises MediaError."""
    with opened(path) as source:
        context = video_of(source, str(path)).codec_context
        known = CODECS.get(context.codec.canonical_name)
        return known is not None and known.quality_option is None and context.pix_fmt == known.pixel_format
