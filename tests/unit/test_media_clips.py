"""Clips come back as they were written, and join without a seam, to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from svid.api import Encoding
from svid.errors import MediaError
from svid.media import codecs
from svid.media.clips import exact_rate, join_clips, probe, read_frames, read_tags, write_clip
from svid.media.codecs import CODECS, codec
from tests.unit.clips import moving, write

ALL = [entry.name for entry in CODECS.values() if entry.encoder in av.codecs_available]
LENGTHS = (12, 1, 1, 7, 2)
BIG = {"manifest": '[[prüfung]] 漢字 😀 "quoted" \\ \n' * 5500, "id": "a\x00\x01z", "empty": ""}


def times(path: Path) -> tuple[list[int], list[int], set[int]]:
    """The showing times in order, the decoding times as stored, and the durations of all packets, in ticks."""
    with av.open(str(path)) as source:
        packets = [packet for packet in source.demux(video=0) if packet.size]
    shown, decoded = [packet.pts for packet in packets], [packet.dts for packet in packets]
    assert all(time is not None for time in shown + decoded)
    return sorted(shown), decoded, {packet.duration for packet in packets}


@pytest.mark.parametrize("name", ALL)
def test_frames_come_back(tmp_path: Path, name: str) -> None:
    frames = moving(11)
    clip = write(tmp_path, name, frames)
    assert clip.frames == 11
    assert probe(clip.path) == (11, 16.0, 96, 64)
    back = torch.stack(list(read_frames(clip.path)))
    assert (back.dtype, back.shape) == (torch.uint8, frames.shape)
    error = back.float() - frames.float()
    assert error.abs().mean() < 1.5
    assert error.mean((0, 1, 2)).abs().max() < 0.75


@pytest.mark.parametrize("name", [name for name in ALL if not CODECS[name].is_rgb])
def test_no_colour_is_shifted(tmp_path: Path, name: str) -> None:
    """At the best quality only the conversions are left; a wrong matrix, range or siting would show in the mean."""
    best = 3 if name == "prores" else CODECS[name].quality_range[0]  # type: ignore[index]
    frames = moving(5)
    out = tmp_path / "clip"
    write_clip([frames], out, 16.0, Encoding(name, best))
    error = torch.stack(list(read_frames(out))).float() - frames.float()
    assert error.abs().mean() < 0.8
    assert error.mean((0, 1, 2)).abs().max() < 0.2


def test_flat_colours_are_stored_by_the_matrix_of_bt709(tmp_path: Path) -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]])
    frames = colours.to(torch.uint8)[:, None, None, :].expand(-1, 32, 32, -1)
    write_clip([frames], tmp_path / "clip", 16.0, Encoding("h264", 0))
    weights = torch.tensor([0.2126, 0.7152, 0.0722])
    with av.open(str(tmp_path / "clip")) as source:
        for colour, frame in zip(colours, source.decode(video=0), strict=True):
            luma = float((colour / 255 * weights).sum())
            wanted = (
                16 + 219 * luma,
                128 + 224 * (float(colour[2]) / 255 - luma) / 1.8556,
                128 + 224 * (float(colour[0]) / 255 - luma) / 1.5748,
            )
            stored = frame.to_ndarray()
            found = stored[:32].mean(), stored[32:40].mean(), stored[40:48].mean()
            assert found == pytest.approx(wanted, abs=1.0)


def test_colour_samples_sit_on_the_left(tmp_path: Path) -> None:
    """Players assume it; in the middle, a ramp of red would come out half a pixel off."""
    x = torch.arange(64, dtype=torch.float32)
    red = (x * 4).to(torch.uint8)[None, None, :].expand(2, 32, -1)
    write_clip([torch.stack([red, red * 0, red * 0], -1)], tmp_path / "clip", 16.0, Encoding("h264", 0))
    with av.open(str(tmp_path / "clip")) as source:
        stored = next(source.decode(video=0)).to_ndarray()
    second = stored[40:48].reshape(16, 32)[8, 4:28].astype(np.float64)  # Cr, without the edges
    sited = x.numpy()[::2][4:28] * 4 / 255
    assert abs((second - (128 + 224 * sited * 0.5)).mean()) < 0.25


@pytest.mark.parametrize("name", [name for name in ALL if not CODECS[name].is_rgb])
def test_the_tags_say_bt709_before_and_after_joining(tmp_path: Path, name: str) -> None:
    clip = write(tmp_path, name, moving(2))
    join_clips([clip, clip], tmp_path / "joined", {})
    for path in (clip.path, tmp_path / "joined"):
        with av.open(str(path)) as source:
            frame = next(source.decode(video=0))
            assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", [name for name in ALL if CODECS[name].is_rgb])
@pytest.mark.parametrize("size", [(64, 96), (37, 51)])
def test_lossless_is_bit_exact(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    noise = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    clip = write(tmp_path, name, noise)
    join_clips([clip, clip], tmp_path / "joined", {})
    assert torch.equal(torch.stack(list(read_frames(tmp_path / "joined"))), torch.cat([noise, noise]))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, name: str, frames: int) -> None:
    one = write(tmp_path, name, moving(frames), 1, by=1)
    two = write(tmp_path, name, moving(frames), 2, by=5)
    assert one.path.read_bytes() == two.path.read_bytes()


@pytest.mark.parametrize("name", ALL)
def test_a_joined_file_shows_its_clips_frame_for_frame(tmp_path: Path, name: str) -> None:
    clips = [write(tmp_path, name, moving(frames, label), label) for label, frames in enumerate(LENGTHS)]
    out = tmp_path / "video.part"
    made = join_clips(clips, out, {"id": "1"})
    assert (made.path, made.frames, made.fps, made.codec) == (out, sum(LENGTHS), 16.0, name)
    apart = [frame for clip in clips for frame in read_frames(clip.path)]
    together = list(read_frames(out))
    assert len(together) == sum(LENGTHS)
    assert all(torch.equal(one, two) for one, two in zip(apart, together, strict=True))
    again = tmp_path / "again.part"
    join_clips(clips, again, {"id": "1"})
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("name", ["h264", "hevc"])
@pytest.mark.parametrize("fps", [15.0, 16.0, 24.0, 23.976, 12.5, 29.97])
def test_times_are_uniform_over_every_joint(tmp_path: Path, name: str, fps: float) -> None:
    clips = [write(tmp_path, name, moving(frames, label), label, fps) for label, frames in enumerate(LENGTHS)]
    join_clips(clips, tmp_path / "video", {})
    shown, decoded, durations = times(tmp_path / "video")
    step = shown[1] - shown[0]
    assert shown == [step * place for place in range(sum(LENGTHS))]
    assert decoded == [step * (place - CODECS[name].delay) for place in range(sum(LENGTHS))]
    assert durations == {step}
    with av.open(str(tmp_path / "video")) as source:
        stream = source.streams.video[0]
        assert step * stream.time_base == 1 / exact_rate(fps)
        assert stream.average_rate == exact_rate(fps)


@pytest.mark.parametrize("name", ["vp9", "ffv1"])
def test_matroska_times_are_as_near_as_milliseconds_get(tmp_path: Path, name: str) -> None:
    clip = write(tmp_path, name, moving(7), fps=23.976)
    made = join_clips([clip] * 5, tmp_path / "video", {})
    shown, _, _ = times(tmp_path / "video")
    assert made.fps == pytest.approx(24000 / 1001)
    assert all(abs(time - place * 1001 / 24) <= 0.5 for place, time in enumerate(shown))


def test_every_clip_begins_with_a_key_frame_that_can_be_seeked_to(tmp_path: Path) -> None:
    clips = [write(tmp_path, "h264", moving(5, label), label) for label in range(3)]
    join_clips(clips, tmp_path / "video", {})
    with av.open(str(tmp_path / "video")) as source:
        stream = source.streams.video[0]
        keys = [packet.pts * packet.time_base * 16 for packet in source.demux(stream) if packet.is_keyframe]
        source.seek(int(Fraction(5, 16) / stream.time_base), stream=stream)
        frame = next(source.decode(stream))
    assert keys == [0, 5, 10]
    assert frame.pts * stream.time_base == Fraction(5, 16)


@pytest.mark.parametrize("name", ALL)
def test_long_tags_survive(tmp_path: Path, name: str) -> None:
    assert len(BIG["manifest"].encode()) > 200_000
    clip = write(tmp_path, name, moving(2))
    join_clips([clip], tmp_path / "video", BIG)
    assert read_tags(tmp_path / "video") == BIG
    assert probe(tmp_path / "video")[0] == 2


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    clip = write(tmp_path, "h264", moving(1))
    join_clips([clip], tmp_path / "video", {"name": "\ud800 ü"})
    assert read_tags(tmp_path / "video") == {"name": "\ud800 ü"}


def test_lost_tags_are_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write(tmp_path, "h264", moving(1))
    monkeypatch.setattr("svid.media.clips.tags_of", lambda source: {})
    with pytest.raises(MediaError, match=r"video: comment: .*name"):
        join_clips([clip], tmp_path / "video", {"name": "x"})


@pytest.mark.parametrize("comment", ["", "hello", "[1]", '{"a": 1}', "[" * 50_000])
def test_foreign_comments_are_no_tags(tmp_path: Path, comment: str) -> None:
    with av.open(str(tmp_path / "foreign.mp4"), "w") as sink:
        sink.metadata["comment"] = comment
        stream = sink.add_stream("libx264", rate=5)
        stream.width = stream.height = 16
        sink.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        sink.mux(stream.encode(None))
    assert read_tags(tmp_path / "foreign.mp4") == {}


def test_the_index_of_an_mp4_stands_before_its_pictures(tmp_path: Path) -> None:
    clip = write(tmp_path, "h264", moving(3))
    join_clips([clip, clip], tmp_path / "video.mp4.part", {"id": "1"})
    content = (tmp_path / "video.mp4.part").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"Lavf" not in content


def test_one_tensor_is_asked_for_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    def produce() -> Iterator[torch.Tensor]:
        for label in range(30):
            alive.append(label)
            yield moving(2, label)

    frames = produce()
    first = next(frames)
    assert write_clip(frames, tmp_path / "clip", 16.0, Encoding()) == 58
    assert alive == list(range(30))
    assert first.shape[0] == 2


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip([moving(1)], Path("http:clip.mp4"), 16.0, Encoding())
    assert probe(Path("http:clip.mp4"))[0] == 1


@pytest.mark.parametrize(
    ("fps", "rate"), [(15.0, "15"), (16.0, "16"), (23.976, "24000/1001"), (23.98, "1199/50"), (12.5, "25/2"), (1, "1")]
)
def test_rates_are_exact(fps: float, rate: str) -> None:
    assert exact_rate(fps) == Fraction(rate)


@pytest.mark.parametrize("name", ALL)
def test_the_encoder_takes_every_option(name: str) -> None:
    """FFmpeg ignores what it does not know; an option with a slip in it would change nothing, silently."""
    chosen = codec(name)
    context = av.CodecContext.create(chosen.encoder, "w")
    context.width, context.height, context.pix_fmt = 64, 64, chosen.pixel_format  # type: ignore[attr-defined]
    context.time_base = Fraction(1, 16)
    context.options = codecs.encoder_options(chosen, None)
    context.open()
    assert context.options == {}


def test_tags_are_one_json_object_in_the_comment(tmp_path: Path) -> None:
    clip = write(tmp_path, "ffv1", moving(1))
    join_clips([clip], tmp_path / "video", {"b": "2", "a": "ü"})
    with av.open(str(tmp_path / "video")) as source:
        metadata = {key.lower(): value for key, value in source.metadata.items()}
    assert json.loads(metadata["comment"]) == {"a": "ü", "b": "2"}
