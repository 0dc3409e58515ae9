"""`svid demo` from beginning to end, with segments of a tenth of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from svid.cli import compare, main
from svid.cli import demo as module
from svid.home import Home
from svid.media.clips import probe
from svid.media.drift import MEASURES
from tests.conftest import quick_home
from tests.e2e.tools import SMALL, rows

pytestmark = pytest.mark.slow


def small_home(root: Path) -> Home:
    """A home whose example is as small as can be."""
    home = quick_home(root.absolute())
    example = home.watch / "examples/star.toml"
    before, after = example.read_text().split("[sample]", 1)
    small = "frames = 9\nwidth = 32\nheight = 32\n\n[sample]\nsteps = 1\n"
    example.write_text(before + small + after.split("\n", 1)[1])
    return home


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> Result:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(module, "make_home", small_home)
    result = CliRunner().invoke(main, ["demo", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_demo_renders_extends_by_id_and_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "svid-demo").mkdir()
    result = run(monkeypatch, tmp_path)
    assert result.exit_code == 0, result.output
    home = Home(tmp_path / "svid-demo-2")
    *tree, first, first_sheet, second, second_sheet = result.stdout.splitlines()
    assert [probe(Path(path)) for path in (first, second)] == [(9 + 3 * 8, 16.0, 32, 32), (9 + 5 * 8, 16.0, 32, 32)]
    for path in (first_sheet, second_sheet):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
    assert len(tree) == 6
    assert ["cut" in line.split(":")[0] for line in tree] == [False, False, True, False, False, False]
    ((video,),) = rows(home, "SELECT id FROM video")
    assert f"the video {video} is extended by its ID" in result.stderr
    (extension,) = rows(home, "SELECT text FROM job WHERE file = 'more.toml'")
    assert f'extend = "{video}"' in extension[0]
    assert rows(home, "SELECT DISTINCT state FROM job") == [("done",)]
    asks = [json.loads(ask) for (ask,) in rows(home, 'SELECT ask FROM segment ORDER BY "index"')]
    assert [one["sampling"]["guidance"] for one in asks] == [{"high": 1.5, "low": 1.5}] * 6
    assert len({one["prompt"] for one in asks[:4]}) == 4


def test_a_comparison_is_a_film_a_sheet_and_a_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = compare.manifest

    def small(recipe: str, segments: int) -> dict[str, Any]:
        asked = ask(recipe, segments)
        return {**asked, **SMALL, "sample": {**asked["sample"], "steps": 1}}

    monkeypatch.setattr(compare, "manifest", small)
    result = run(monkeypatch, tmp_path, "x", "--compare", "--segments", "3")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "x/compare"
    files = [folder / name for name in ("drift.json", "drift.png", "sheet.png", "side-by-side.mp4")]
    assert result.stdout.splitlines() == [str(file) for file in files]
    home = Home(tmp_path / "x")
    prompts = {
        recipe: [
            json.loads(ask)["prompt"]
            for (ask,) in rows(
                home,
                "SELECT ask FROM segment JOIN job_segment ON segment_id = segment.id JOIN job ON job.id = job_id"
                ' JOIN video ON video.id = video_id WHERE video.name = ? ORDER BY job_segment."index"',
                recipe,
            )
        ]
        for recipe in compare.RECIPES
    }
    assert prompts["i2v"] == prompts["svi-2.0-pro"] == [*compare.PROMPTS, compare.PROMPTS[0]]
    assert probe(files[3])[:2] == (9 + 4 + 4, 16.0)
    with Image.open(files[2]) as sheet, Image.open(files[1]) as chart:
        assert sheet.height > chart.height / 2
    drifts = json.loads(files[0].read_text())
    assert drifts.keys() == set(compare.RECIPES)
    for recipe, some in drifts.items():
        assert len(some) == 3
        assert all(some[0][name] == 0 for name in (*MEASURES, "drift"))
        said = next(line for line in result.stderr.splitlines() if line.strip().startswith(f"{recipe} "))
        assert float(said.split()[-1]) == pytest.approx(some[-1]["drift"], abs=0.005)
    assert [file for file in home.tmp.iterdir() if file.is_file()] == []


def test_segments_without_a_comparison_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(monkeypatch, tmp_path, "--segments", "3")
    assert result.exit_code == 2
    assert "--segments is for --compare" in result.stderr
    assert list(tmp_path.iterdir()) == []
