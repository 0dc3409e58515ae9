"""What is said of clips before a video goes on from them: whether they are whole, at what rate, of what size."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import pytest

from svid.errors import MediaError
from svid.media import probing
from svid.media.probing import probe
from svid.media.reading import read_frames
from tests.hostile.clips import film

# Whole or cut off


@pytest.mark.parametrize(("suffix", "codec", "sound"), [("mkv", "libx264", "aac"), ("webm", "libvpx", "libopus")])
def test_a_matroska_with_sound_that_was_cut_off_is_refused(tmp_path: Path, suffix: str, codec: str, sound: str) -> None:
    whole = film(tmp_path / f"a.{suffix}", codec, frames=60, group=10, sound=sound)
    assert probe(whole)[0] == 60, "its sound is longer than its pictures"
    data = whole.read_bytes()
    for kept in (0.4, 0.6, 0.8):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(MediaError, match=r"seconds, as its header says.*cut short"):
            probe(tmp_path / "cut")


@pytest.mark.parametrize("options", [{"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_a_last_frame_of_which_a_part_is_there_is_refused(tmp_path: Path, options: dict[str, str]) -> None:
    data = film(tmp_path / "a.mp4", frames=24, group=6, **options).read_bytes()
    end = data.rindex(b"mfra") - 4 if b"mfra" in data else len(data)
    (tmp_path / "cut.mp4").write_bytes(data[: end - 1])
    with pytest.raises(MediaError, match=r"x: frame 24: expected all of it, found a part \(the file is cut short"):
        probe(tmp_path / "cut.mp4", "x")


def _without_its_beginning(source: Path, out: Path, packets: int) -> Path:
    with av.open(str(source)) as given, av.open(str(out), "w") as sink:
        stream = sink.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(given.streams.video[0])):
            if packet.size and number >= packets:
                packet.stream = stream
                sink.mux(packet)
    return out


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "mpeg4")])
def test_a_clip_that_begins_between_key_frames_is_refused(tmp_path: Path, suffix: str, codec: str) -> None:
    source = film(tmp_path / f"a.{suffix}", codec, frames=30, group=10)
    cut = _without_its_beginning(source, tmp_path / f"b.{suffix}", 4)
    with pytest.raises(MediaError, match="frame 1: expected a key frame to begin with"):
        probe(cut)
    with av.open(str(source)) as given:
        keys = [number for number, packet in enumerate(given.demux(video=0)) if packet.size and packet.is_keyframe]
    cut = _without_its_beginning(source, tmp_path / f"c.{suffix}", keys[1])
    assert probe(cut)[0] == len(list(read_frames(cut))) == 30 - keys[1]


def test_a_clip_whose_first_frames_can_not_be_decoded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those before the key frame of an open group, where a file was cut there."""
    path = film(tmp_path / "a.mp4", frames=6)
    whole = probing.decoded
    monkeypatch.setattr(probing, "decoded", lambda path, file: (one for one in islice(whole(path, file), 2, None)))
    with pytest.raises(MediaError, match="frame 1: expected a picture, found that nothing before frame 3 can be dec"):
        probe(path)


def _edited(path: Path, start: int, frames: int, rate: int) -> Path:
    """The clip with an edit list that shows `frames` of its frames from the one at `start` on."""
    data = bytearray(path.read_bytes())
    scale = struct.unpack(">I", data[(at := data.index(b"mdhd") + 16) : at + 4])[0]
    at = data.index(b"elst") + 12
    data[at : at + 8] = struct.pack(">Ii", frames * 1000 // rate, start * scale // rate)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(("start", "frames"), [(0, 10), (7, 8), (12, 5), (20, 10)])
def test_a_clip_that_an_edit_list_trims_is_whole(tmp_path: Path, start: int, frames: int, suffix: str) -> None:
    path = film(tmp_path / f"a.{suffix}", frames=30, rate=10, group=10)
    plain = list(read_frames(path))
    path = _edited(path, start, frames, 10)
    assert probe(path)[:2] == (frames, 10.0)
    found = list(read_frames(path))
    assert len(found) == frames
    assert all(one.equal(other) for one, other in zip(found, plain[start:], strict=False))


def test_a_trimmed_clip_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = _edited(film(tmp_path / "a.mp4", frames=30, rate=10, group=10, movflags="faststart"), 0, 10, 10)
    with av.open(str(path)) as source:
        at = [packet.pos for packet in source.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: at[-1]])
    with pytest.raises(MediaError, match=r"cut short"):
        probe(path)


def test_a_clip_with_packets_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mkv", sound="aac")
    monkeypatch.setattr(probing, "MAX_PACKETS", 40)
    with pytest.raises(MediaError, match="expected at most 40 packets of picture and sound, found more"):
        probe(path)
    assert probe(film(tmp_path / "b.mkv"))[0] == 12


# The rate


def _unsaid(path: Path) -> Path:
    """The Matroska file without its DefaultDuration, as many programs write it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83")
    data[at : at + 2] = bytes([0xEC, 0x80 | (data[at + 3] & 0x7F) + 2])  # EBML's Void, of its length
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001), 24, 25, 120])
def test_a_rate_that_the_file_does_not_say_is_told_from_its_times(tmp_path: Path, rate: Fraction | int) -> None:
    path = film(tmp_path / "a.mkv", frames=300, size=(16, 16), rate=rate)
    assert probe(_unsaid(path))[:2] == (300, float(rate))


@pytest.mark.parametrize(
    ("count", "per_frame", "found"), [(30, 80, 12.5), (5, 80, 12.5), (3, 42, 24000 / 1001), (2, 33, 30.0)]
)
def test_a_rate_is_never_further_off_than_the_times_are_rounded(
    tmp_path: Path, count: int, per_frame: int, found: float
) -> None:
    path = tmp_path / "a.mkv"
    film(path, "libx264", count, (16, 16), 1000, times=[number * per_frame for number in range(count)])
    rate = probe(_unsaid(path))[1]
    assert abs((count - 1) / rate - (count - 1) * per_frame / 1000) <= 0.001
    assert rate == pytest.approx(found, rel=0.02)


# The size


@pytest.mark.parametrize("size", [(64, 64), (64, 48), (48, 64)])
def test_pixels_that_are_not_square_are_turned_with_the_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    aspect = Fraction(16, 9)
    upright = film(tmp_path / "a.mp4", size=size, aspect=aspect)
    turned = film(tmp_path / "b.mp4", size=size, aspect=aspect, rotation=90)
    width, height = round(size[0] * aspect), size[1]
    assert probe(upright)[2:] == (width, height)
    assert probe(turned)[2:] == (height, width)
