"""A clip that an encoder gives is looked at before it is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from svid.cli.open import desk_of
from svid.errors import StageError
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, value

ENCODER = """
from itertools import islice
from svid import hookimpl
from svid.api import Clip
from svid.media.clips import write_clip

CACHE_VERSION = 1

@hookimpl
def svid_encode(job, frames, out):
    def written(frames, fps=job.fps):
        return write_clip(frames, out, fps, job.encoding)
    {body}
"""
BAD = {
    "return Clip(out, written(islice(frames, 2)))": "expected a clip of 9 frames, found one of 5",
    "return Clip(out, written(islice(frames, 2)) + 4)": "expected 9 frames, found 5",
    "return Clip(out, written(one[:, ::2, ::2] for one in frames))": "frame 1: expected a frame of 32x32, found 16x16",
    "return Clip(out, written(frames, 2 * job.fps))": "expected 15 frames a second, found 30",
    "return Clip(out, out.write_bytes(b'clip' * len(list(frames))) * 0 + 9)": "expected a whole MP4",
    "return Clip(out, len(list(frames)) * 0 + 9)": "expected a video file, found none",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("bad") / "home")


def encoding(bench: Workbench, body: str) -> tuple[Workbench, Path]:
    """The home with an encoder, and where that is."""
    file = bench.home.root / "plugins/coder.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(ENCODER.format(body=body))
    return Workbench(bench.home, desk_of(bench.home)), file


@pytest.mark.parametrize(("body", "said"), BAD.items())
def test_a_bad_clip_is_refused_and_its_segment_is_not_spoilt(bench: Workbench, body: str, said: str) -> None:
    name, count = f"bad {len(said)}", value(bench.home, "SELECT count(*) FROM segment")
    manifest = new(name, "one", seed=list(BAD).index(body))
    bad, file = encoding(bench, body)
    with pytest.raises(StageError) as caught:
        bad.run(manifest)
    assert str(caught.value).startswith(f"segment 1: encode: {said}")
    assert str(caught.value).endswith("(encoders: coder, encoder)")
    assert value(bench.home, "SELECT count(*) FROM segment") == count
    file.unlink()
    assert bench.run(manifest)["artifacts"][0]["frames"] == 9


def test_an_encoder_may_leave_frames_that_are_not_shown(bench: Workbench) -> None:
    """What a segment leaves for the next one are its last frames, whatever the encoder takes of them."""
    film = new("frugal", "one", "two", recipe="i2v", conditioning={"motion_frames": 4, "seam": "tail"}, reuse=False)
    whole = bench.run(film)
    frugal, file = encoding(bench, "return Clip(out, written(islice(frames, 2 + calls.pop())))")
    file.write_text(file.read_text() + "\n\ncalls = [1, 0]\n")
    frugal = Workbench(bench.home, desk_of(bench.home))
    again = frugal.run({**film, "name": "again"})
    file.unlink()
    assert [one["id"] for one in again["segments"]] == [one["id"] for one in whole["segments"]]
