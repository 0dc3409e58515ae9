"""The contact sheet beside every video, and `svid sheet`."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from svid.api import Encoding
from svid.cli import main
from svid.errors import StorageError
from svid.media.clips import write_clip
from svid.media.picking import Pixels, frames_at
from svid.media.sheet import ROWS
from svid.render import sheet as render_sheet
from svid.store import queue
from svid.store.files import sha256_of, sheet_beside
from svid.store.lineage import chain
from svid.store.scratch import sweep_own
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, rows, value


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("sheet") / "home")
    made.run(new("harbour at dawn", "boats", "gulls", "sun"))
    return made


def svid(bench: Workbench, *arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["--home", str(bench.home.root), *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_a_job_lays_a_sheet_beside_its_video_and_names_it(bench: Workbench) -> None:
    (artifact,) = bench.show("harbour at dawn")["artifacts"]
    video, sheet = Path(artifact["path"]), Path(artifact["sheet"])
    assert sheet == video.with_name("harbour-at-dawn-sheet.png") == sheet_beside(video)
    result = json.loads((video.parent / "result.json").read_text())
    assert result["artifact"]["sheet"] == str(sheet)
    one = bench.run(new("one segment", "boats"))["artifacts"][0]
    assert size(sheet)[1] > 2 * size(Path(one["sheet"]))[1], "a row per segment"


def test_an_extension_has_a_sheet_of_the_whole_video_and_leaves_the_first_one(bench: Workbench) -> None:
    before = bench.run(new("to be extended", "boats", seed=9))["artifacts"][0]
    digest = sha256_of(Path(before["sheet"]))
    first, second = bench.run({"extend": "to be extended", "prompts": ["gulls"]})["artifacts"]
    assert first == before
    assert sha256_of(Path(first["sheet"])) == digest
    assert size(Path(second["sheet"]))[1] > size(Path(first["sheet"]))[1]


@pytest.mark.parametrize("seam", ["head", "tail", "blend"])
def test_svid_sheet_draws_the_very_same_again(bench: Workbench, seam: str) -> None:
    video = bench.run(new(f"again {seam}", "boats", "gulls", conditioning={"seam": seam}, frames=13))
    sheet = Path(video["artifacts"][0]["sheet"])
    digest = sha256_of(sheet)
    sheet.unlink()
    assert bench.show(video["id"])["artifacts"][0]["sheet"] is None
    assert svid(bench, "sheet", video["id"][:8]).stdout == f"{sheet}\n"
    assert sha256_of(sheet) == digest
    sweep_own(bench.home.tmp)
    assert list(bench.home.tmp.iterdir()) == []


def test_svid_sheet_writes_the_first_segments_elsewhere(bench: Workbench, tmp_path: Path) -> None:
    out = tmp_path / "two.png"
    assert svid(bench, "sheet", "harbour at dawn@2", "--out", out).stdout == f"{out}\n"
    whole = Path(bench.show("harbour at dawn")["artifacts"][0]["sheet"])
    assert size(out)[1] < size(whole)[1]
    assert [file.name for file in tmp_path.iterdir()] == ["two.png"]


def test_what_svid_sheet_can_t_do_it_says(bench: Workbench, tmp_path: Path) -> None:
    assert "no video has this id or name" in svid(bench, "sheet", "nothing like it", code=4).stderr
    said = svid(bench, "sheet", "harbour at dawn@2", code=4).stderr
    assert "there is no file that a sheet could lie beside (--out names a place)" in said
    said = svid(bench, "sheet", "harbour at dawn", "--out", tmp_path / "gone/x.png", code=2).stderr
    assert "found no such folder" in said
    waiting = bench.accept(new("waits", "boats"))
    assert "has no segment yet" in svid(bench, "sheet", waiting.video_id, code=4).stderr
    bench.work()


def test_a_sheet_that_can_t_be_drawn_costs_the_sheet_and_not_the_job(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> bytes:
        raise ValueError("no such letter")

    monkeypatch.setattr(render_sheet, "draw_sheet", broken)
    with caplog.at_level(logging.WARNING, "svid.sheet"):
        video = bench.run(new("without a sheet", "boats"))
    (artifact,) = video["artifacts"]
    assert Path(artifact["path"]).is_file()
    assert artifact["sheet"] is None
    assert not sheet_beside(Path(artifact["path"])).exists()
    assert [record.getMessage() for record in caplog.records] == [
        "without-a-sheet-sheet.png can't be made, the video can: no such letter"
    ]
    assert json.loads((Path(artifact["path"]).parent / "result.json").read_text())["artifact"]["sheet"] is None


def test_a_full_disk_makes_the_job_wait_and_not_go_without(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = bench.accept(new("full", "boats"))
    with monkeypatch.context() as patched:
        patched.setattr("svid.render.video.write_whole", full)
        with pytest.raises(StorageError, match="No space left"):
            bench.work()
    assert value(bench.home, "SELECT state FROM job WHERE id = ?", job.id) == "running"
    assert rows(bench.home, "SELECT 1 FROM artifact WHERE job_id = ?", job.id) == []
    queue.release(bench.store, job.id, 1, "storage", "full")
    bench.work()
    (artifact,) = bench.show("full")["artifacts"]
    assert size(Path(artifact["sheet"]))[0] > 0


def test_a_long_video_has_a_bounded_sheet(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def watching(path: Path, places: Iterable[int]) -> Iterator[Pixels]:
        read.append(path)
        return frames_at(path, places)

    monkeypatch.setattr("svid.media.sheet.frames_at", watching)
    video = bench.run(new("long", "boats", segments=ROWS + 2, sample={"steps": 1}))
    assert len(read) == ROWS
    assert Path(video["artifacts"][0]["sheet"]).is_file()


def test_a_segment_that_came_from_a_clip_says_so(bench: Workbench) -> None:
    frames = torch.arange(11, dtype=torch.uint8)[:, None, None, None].expand(11, 32, 32, 3).contiguous()
    write_clip([frames], bench.home.inbox / "walk.mkv", 16.0, Encoding("ffv1"))
    manifest = {key: value for key, value in new("from a clip", "she walks on").items() if key != "image"}
    video = bench.run({**manifest, "clip": "walk.mkv"})
    with bench.store.read() as session:
        segments = chain(session, video["tip"])
        strips = render_sheet.strips_of(segments, render_sheet.stored_clips(session, bench.studio.blobs, segments))
    ids = [one["id"][:8] for one in video["segments"]]
    assert [strip.label for strip in strips] == [f"1   {ids[0]}   from a clip", f"2   {ids[1]}   she walks on"]
    assert [strip.frames for strip in strips] == [one["frames"] for one in video["segments"]]
