"""What is asked of an encoded clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from svid.api import Clip, Encoding
from svid.errors import MediaError
from svid.media.checking import check_clip, is_lossless
from svid.media.clips import write_clip
from svid.media.codecs import CODECS
from svid.testing import tiny_frames

RATES = (16.0, 23.976, 12.5)


def written(out: Path, fps: float = 16.0, codec: str = "h264") -> Clip:
    return Clip(out, write_clip(tiny_frames(9, 96, 96).split(4), out, fps, Encoding(codec)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fps", RATES)
def test_what_is_written_is_what_is_wanted(tmp_path: Path, codec: str, fps: float) -> None:
    clip = written(tmp_path / "clip", fps, codec)
    check_clip(clip, 9, (96, 96), fps)
    assert is_lossless(clip.path) == (codec == "ffv1")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ((8, (96, 96), 16.0), "expected a clip of 8 frames, found one of 9"),
        ((9, (96, 64), 16.0), "frame 1: expected a frame of 96x64, found 96x96"),
        ((9, (96, 96), 24.0), "expected 24 frames a second, found 16"),
    ],
)
def test_what_is_something_else_is_told(tmp_path: Path, wanted: tuple[int, tuple[int, int], float], said: str) -> None:
    with pytest.raises(MediaError, match=said):
        check_clip(written(tmp_path / "clip.mp4"), *wanted)


@pytest.mark.parametrize("codec", ["h264", "ffv1", "vp9"])
def test_a_clip_that_is_cut_off_or_overwritten_is_none(tmp_path: Path, codec: str) -> None:
    clip = written(tmp_path / "clip", codec=codec)
    data = clip.path.read_bytes()
    for part in (data[: len(data) // 2], data[:400] + bytes(len(data) - 400), b""):
        clip.path.write_bytes(part)
        with pytest.raises(MediaError):
            check_clip(clip, 9, (96, 96), 16.0)
