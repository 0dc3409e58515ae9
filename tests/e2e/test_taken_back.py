"""A job that fails after its video has got its name leaves no video that looks finished."""

from __future__ import annotations

from typing import Any

import pytest

from svid.errors import Refused
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("taken") / "home")


def test_a_failed_job_leaves_no_video(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[list[str]] = []

    def refusing(session: Any, job: str, attempt: int) -> None:
        published.append(sorted(file.name for file in (bench.home.done / job).iterdir()))
        raise Refused("too late")

    monkeypatch.setattr("svid.render.video.finish", refusing)
    with pytest.raises(Refused, match="too late"):
        bench.run(new("late", "one"))
    assert published == [["late-sheet.png", "late.mp4"]]
    assert list(bench.home.done.iterdir()) == []
    (answer,) = bench.home.failed.iterdir()
    assert sorted(file.name for file in answer.iterdir()) == [
        "error.json",
        "error.txt",
        "manifest.json",
        "receipt.json",
    ]


def test_what_else_lies_there_stays(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(session: Any, job: str, attempt: int) -> None:
        (bench.home.done / job / "notes").mkdir()
        (bench.home.done / job / "take this one.txt").write_text("the second is better")
        raise Refused("too late")

    monkeypatch.setattr("svid.render.video.finish", refusing)
    with pytest.raises(Refused, match="too late"):
        bench.run(new("later", "one"))
    (folder,) = bench.home.done.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["notes", "take this one.txt"]
