"""What is no clip, what can't be written or joined, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from svid.api import Clip, Encoding
from svid.errors import ManifestError, MediaError
from svid.media import codecs
from svid.media.clips import join_clips, probe, read_frames, read_tags, write_clip
from svid.media.codecs import codec
from tests.unit.clips import moving, write


@pytest.mark.parametrize("frames", [[], [torch.zeros(0, 16, 16, 3, dtype=torch.uint8)]])
def test_no_frames_is_an_error(tmp_path: Path, frames: list[torch.Tensor]) -> None:
    with pytest.raises(MediaError, match=r"clip\.mp4: expected at least one frame"):
        write_clip(iter(frames), tmp_path / "clip.mp4", 16.0, Encoding())
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([torch.zeros(1, 16, 16, 3)], "found float32"),
        ([torch.zeros(16, 16, 3, dtype=torch.uint8)], r"uint8 \[n, H, W, 3\]"),
        ([torch.zeros(1, 3, 16, 16, dtype=torch.uint8)], r"found uint8 \[1, 3, 16, 16\]"),
        ([torch.zeros(1, 16, 15, 3, dtype=torch.uint8)], "even width and height"),
        ([torch.zeros(1, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 16, 32, 3, dtype=torch.uint8)], "16x16 as bef"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, frames: list[torch.Tensor], words: str) -> None:
    with pytest.raises(MediaError, match=words):
        write_clip(frames, tmp_path / "clip.mp4", 16.0, Encoding())


def test_what_the_source_raises_passes(tmp_path: Path) -> None:
    def broken() -> Iterator[torch.Tensor]:
        yield moving(3)
        raise KeyError("the decoder's own")

    with pytest.raises(KeyError, match="the decoder's own"):
        write_clip(broken(), tmp_path / "clip.mp4", 16.0, Encoding())


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nowhere.*can't be written"):
        write_clip([moving(1)], tmp_path / "nowhere" / "clip.mp4", 16.0, Encoding())


def test_clips_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one = write(tmp_path, "h264", moving(3), 1)
    other = tmp_path / "other.mp4"
    for frames, encoding, fps in (
        (moving(3, width=64), Encoding(), 16.0),
        (moving(3), Encoding("vp9"), 16.0),
        (moving(3), Encoding(), 24.0),
    ):
        write_clip([frames], other, fps, encoding)
        with pytest.raises(MediaError, match=r"other\.mp4: expected h264 96x64 yuv420p at 16 fps"):
            join_clips([one, Clip(other, 3)], tmp_path / "video", {})


def test_a_clip_of_another_header_is_named(tmp_path: Path) -> None:
    """Its packets would be decoded by the first clip's header, to rubbish, without an error."""
    one, other = write(tmp_path, "h264", moving(3), 1), tmp_path / "other.mp4"
    with av.open(str(other), "w") as sink:
        stream = sink.add_stream("libx264", rate=16, options={"profile": "baseline"})
        stream.width, stream.height = 96, 64
        for frame in moving(3):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        sink.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"other\.mp4: expected the encoder settings"):
        join_clips([one, Clip(other, 3)], tmp_path / "video", {})


def test_a_wrong_count_is_found_before_anything_is_written(tmp_path: Path) -> None:
    clip = write(tmp_path, "h264", moving(3))
    with pytest.raises(MediaError, match="expected 4 frames, found 3"):
        join_clips([Clip(clip.path, 4)], tmp_path / "video", {})
    assert not (tmp_path / "video").exists()


def test_nothing_to_join_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="at least one clip"):
        join_clips([], tmp_path / "video", {})


@pytest.mark.parametrize("read", [probe, read_tags, lambda path, shown: list(read_frames(path, shown))])
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4.part\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile clip.mp4.part\n",
        "<html></html>",
        "\x80\x04\x95\x10",
        "",
    ],
)
def test_playlists_and_others_are_not_followed(tmp_path: Path, read: object, content: str) -> None:
    write(tmp_path, "h264", moving(1))
    path = tmp_path / "film.mp4"
    path.write_text(content, "latin-1")
    with pytest.raises(MediaError, match=r"^film: expected a whole MP4"):
        read(path, "film")  # type: ignore[operator]


@pytest.mark.parametrize("name", ["concat:clip.mp4.part", "subfile,,start,0,end,9,,:clip.mp4.part", "http://x/y.mp4"])
def test_an_address_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write(tmp_path, "h264", moving(1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError, match="found none"):
        probe(Path(name))


@pytest.mark.parametrize("name", ["h264", "vp9", "ffv1"])
def test_a_truncated_clip_never_passes_for_whole(tmp_path: Path, name: str) -> None:
    clip = write(tmp_path, name, moving(20))
    content = clip.path.read_bytes()
    for kept in (0.05, 0.5, 0.9):
        path = tmp_path / "cut"
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(MediaError):
            join_clips([Clip(path, 20)], tmp_path / "video", {})


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as sink:
        stream = sink.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    with pytest.raises(MediaError, match="expected a video stream"):
        probe(tmp_path / "sound.mp4")


def test_a_giant_picture_is_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write(tmp_path, "h264", moving(1))
    monkeypatch.setattr("svid.media.reading.MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(MediaError, match="6,143 pixels a frame, found 96x64"):
        list(read_frames(clip.path))


def test_an_unknown_codec_gets_a_suggestion() -> None:
    with pytest.raises(ManifestError, match=r"found 'h265' \(did you mean 'h264'\?\)"):
        codec("h265")
    with pytest.raises(ManifestError, match=r"one of h264, hevc, av1, vp9, prores, ffv1, found 'xyz'$"):
        codec("xyz")


def test_a_missing_encoder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs.av, "codecs_available", {"libx264"})
    with pytest.raises(ManifestError, match="libsvtav1, which the installed PyAV"):
        codec("av1")


@pytest.mark.parametrize(
    ("name", "quality", "words"),
    [
        ("h264", 52, "a number from 0 to 51 for h264, found 52"),
        ("h264", float("nan"), "found nan"),
        ("vp9", 17.5, "a whole number from 0 to 63"),
        ("prores", 4, "from 0 to 3"),
        ("ffv1", 1, "lossless"),
    ],
)
def test_a_quality_out_of_range_is_refused(tmp_path: Path, name: str, quality: float, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        write_clip([moving(1)], tmp_path / "clip", 16.0, Encoding(name, quality))
