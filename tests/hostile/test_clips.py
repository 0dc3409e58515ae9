"""Clips that a video is to go on from, as phones and adversaries make them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.filter import Graph

from svid.errors import MediaError
from svid.media import probing
from svid.media.images import open_picture
from svid.media.probing import probe
from svid.media.reading import read_frames
from tests.hostile.clips import film


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_what_a_phone_turned_is_turned_back(tmp_path: Path, rotation: int, suffix: str) -> None:
    plain = list(read_frames(film(tmp_path / f"plain.{suffix}")))
    turned = film(tmp_path / f"turned.{suffix}", rotation=rotation)
    for frame, upright in zip(plain, read_frames(turned), strict=True):
        assert torch.equal(upright, torch.rot90(frame, rotation // 90))
    assert probe(turned) == (12, 12.0, *((64, 48) if rotation == 180 else (48, 64)))


def test_what_is_mirrored_is_mirrored_back(tmp_path: Path) -> None:
    path = tmp_path / "mirror.mp4"
    film(path, codec="libx264")
    plain = list(read_frames(path))
    data = path.read_bytes()
    matrix = b"\0\1\0\0" + b"\0" * 12 + b"\0\1\0\0" + b"\0" * 12 + b"\x40\0\0\0"
    at = data.rindex(matrix)  # the track's, behind the movie's
    path.write_bytes(data[:at] + b"\xff\xff\0\0" + data[at + 4 :])
    assert torch.equal(next(iter(read_frames(path))), plain[0].flip(1))


def test_any_other_matrix_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^x: expected a rotation by quarter turns, found the display matrix"):
        probe(film(tmp_path / "a.mp4", rotation=30), "x")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("primaries", "curve", "found"),
    [
        (9, 16, "PQ with primaries of BT.2020"),
        (9, 18, "HLG with primaries of BT.2020"),
        (1, 8, "linear light"),
        (12, 1, "primaries of Display P3"),
    ],
)
def test_colours_that_would_come_out_pale_are_refused(
    tmp_path: Path, primaries: int, curve: int, found: str, suffix: str
) -> None:
    path = film(tmp_path / f"phone.{suffix}", colours=(primaries, curve))
    with pytest.raises(MediaError) as refused:
        probe(path, "phone")
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"phone: frame 1: expected the colours of BT.709 or sRGB, found {found}")
    assert ("tonemap" in str(problem)) == (curve > 15)


@pytest.mark.parametrize("matrix", [1, 2, 9])
@pytest.mark.parametrize("tags", [(12, 1), (12, 13), (9, 14), (1, 8)])
def test_the_filter_that_is_named_gives_colours_that_are_taken(
    tmp_path: Path, tags: tuple[int, int], matrix: int
) -> None:
    """As far as PyAV's FFmpeg has the filter: it has none of those for HDR."""
    path = film(tmp_path / "a.mp4", colours=tags, matrix=matrix)
    with pytest.raises(MediaError) as refused:
        probe(path)
    named = re.search(r"-vf colorspace=(\S+)", str(refused.value))
    assert named
    with av.open(str(path)) as source:
        frame = next(source.decode(video=0))
    graph = Graph()
    picture = f"video_size=64x48:pix_fmt=yuv420p:time_base=1/12:colorspace={int(frame.colorspace)}:range=1"
    graph.link_nodes(
        graph.add("buffer", picture), graph.add("colorspace", named[1]), graph.add("buffersink")
    ).configure()
    graph.vpush(frame)
    done = graph.vpull()
    assert (done.color_primaries, done.color_trc, done.colorspace) == (1, 1, 1)


@pytest.mark.parametrize("tags", [(1, 9), (10, 17)])
def test_curves_that_no_filter_knows_get_no_command(tmp_path: Path, tags: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="with a program that knows that curve"):
        probe(film(tmp_path / "a.mp4", colours=tags))


@pytest.mark.parametrize("tags", [(1, 1), (2, 2), (6, 6), (5, 6), (1, 13), (1, 14), (1, 4)])
def test_colours_of_standard_range_are_taken(tmp_path: Path, tags: tuple[int, int]) -> None:
    assert probe(film(tmp_path / "a.mp4", colours=tags))[0] == 12


def test_a_varying_rate_is_refused_and_a_trembling_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="varying one: frame 3 comes at the time of frame 2"):
        probe(film(tmp_path / "vfr.mp4", times=[0, 1, 2, 3, 10, 11, 12, 13, 40, 41, 42, 43]))
    times = [0, 10, 21, 29, 40, 51, 59, 70, 80, 91, 100, 110]
    assert probe(film(tmp_path / "phone.mp4", rate=120, times=times))[0] == 12


@pytest.mark.parametrize("rate", [1, 240])
def test_rates_within_bounds(tmp_path: Path, rate: int) -> None:
    assert probe(film(tmp_path / "a.mp4", rate=rate, frames=5))[1] == rate


def test_rates_out_of_bounds(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="expected 1 to 240 frames a second, found 1000"):
        probe(film(tmp_path / "a.mp4", rate=1000, frames=5))


@pytest.mark.parametrize(("suffix", "options"), [("mp4", {"movflags": "faststart"}), ("mp4", {}), ("mkv", {})])
def test_a_clip_that_was_cut_off_is_refused(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    data = film(tmp_path / f"a.{suffix}", frames=48, **options).read_bytes()
    for kept in (0.99, 0.9, 0.6, 0.3, 0.01) if options else (0.9, 0.6, 0.3, 0.01):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(MediaError, match=r"cut short|whole MP4|found no frame|expected a video"):
            probe(tmp_path / "cut")


def test_too_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MAX_FRAMES", 11)
    with pytest.raises(MediaError, match="expected at most 11 frames, found more"):
        probe(film(tmp_path / "a.mp4"))


def _with_cover(path: Path, *, moving: bool) -> Path:
    source = film(path.with_suffix(".src.mp4"), frames=5)
    with av.open(str(source)) as given, av.open(str(path), "w") as sink:
        cover: Any = sink.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound: Any = sink.add_stream("aac", rate=48000)
        video = sink.add_stream_from_template(given.streams.video[0]) if moving else None
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        sink.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        sink.mux(cover.encode(None))
        sink.mux(sound.encode(frame))
        sink.mux(sound.encode(None))
        for packet in given.demux(given.streams.video[0]) if video else ():
            if packet.dts is not None:
                packet.stream = video
                sink.mux(packet)
    return path


def test_a_song_s_cover_is_no_video_and_does_not_hide_one(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="expected a video stream, found only a cover picture"):
        probe(_with_cover(tmp_path / "song.mp4", moving=False))
    path = _with_cover(tmp_path / "film.mp4", moving=True)
    assert probe(path)[0] == 5
    assert {tuple(frame.shape) for frame in read_frames(path)} == {(48, 64, 3)}


def test_frames_of_changing_size_are_refused(tmp_path: Path) -> None:
    film(tmp_path / "b.mkv", "mjpeg", frames=3, size=(32, 32), pixels="yuvj420p")
    film(tmp_path / "a.mkv", "mjpeg", frames=3, pixels="yuvj420p")
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as sink:
        stream: Any = None
        for number, name in enumerate(("a.mkv", "b.mkv")):
            with av.open(str(tmp_path / name)) as source:
                stream = stream or sink.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.dts is not None:
                        packet.pts = packet.dts = (packet.pts or 0) + number * 250
                        packet.stream = stream
                        sink.mux(packet)
    with pytest.raises(MediaError, match="frame 4: expected a frame of 64x48, found 32x32"):
        list(read_frames(path))


def test_a_codec_of_a_game_is_refused(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", "msmpeg4v3", frames=3)
    with pytest.raises(MediaError, match=r"expected one of the codecs .*, found msmpeg4v3"):
        probe(tmp_path / "a.mkv")


def test_a_container_that_lies_about_the_size_gets_nowhere(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "mpeg4", frames=2, size=(64, 64))
    data = path.read_bytes()
    at = data.index(b"mp4v") + 28  # the sample entry's width and height
    path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    try:
        count, _, width, height = probe(path)
    except MediaError:
        return
    assert (count, width, height) == (2, 64, 64), "the codec knows better than the container"


def test_memory_is_flat_over_a_long_clip(tmp_path: Path) -> None:
    path = film(tmp_path / "long.mp4", frames=250, size=(320, 240), preset="ultrafast")

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    assert probe(path)[0] == 250
    most, before = 0.0, 0.0
    for number, _ in enumerate(read_frames(path)):
        if number == 50:
            before = resident()
        most = max(most, resident() if number > 50 else 0.0)
    assert most - before < 25, "250 frames are 55 MiB"


def _jpeg(scans: int, kind: str = "JPEG") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from PIL import Image

        picture = Image.new("RGB", (64, 64))
        more = {"save_all": True, "append_images": [picture.copy()]} if kind == "MPO" else {}
        picture.save(path, kind, progressive=True, **more)
        data = path.read_bytes()
        end = data.index(b"\xff\xd9")
        start = data.rindex(b"\xff\xda", 0, end)
        path.write_bytes(data[:start] + data[start:end] * scans + data[end:])

    return write


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path: Path, kind: str) -> None:
    _jpeg(1, kind)(tmp_path / "few.jpg")
    assert open_picture(tmp_path / "few.jpg").size == (64, 64)
    _jpeg(20_000, kind)(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match="at most 500 scans"):
        open_picture(tmp_path / "a.jpg")
