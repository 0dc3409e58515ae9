"""Extending from disk, in other processes, equals never having stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from svid.home import Home
from svid.media.clips import read_frames, read_tags
from tests.conftest import quick_home, svid

PROMPTS = [f"scene {number}" for number in range(6)]
SMALL = {"frames": 17, "width": 32, "height": 32, "sample": {"steps": 3}}


def drop(home: Home, name: str, manifest: dict[str, Any]) -> None:
    (home.inbox / name).write_text(json.dumps(manifest))


def show(home: Home, video: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(svid(home, "show", video, "--json").stdout)
    return shown


def frames(path: str) -> torch.Tensor:
    return torch.stack(list(read_frames(Path(path))))


@pytest.mark.slow
def test_six_at_once_are_two_and_two_and_two(tmp_path: Path) -> None:
    whole, parts = quick_home(tmp_path / "whole"), quick_home(tmp_path / "parts")
    new = {"name": "a", "image": "harbour.png", "seed": 3, **SMALL}
    drop(whole, "a.json", {**new, "prompts": PROMPTS})
    svid(whole, "up", "--once")
    at_once = show(whole, "a")

    drop(parts, "a.json", {**new, "prompts": PROMPTS[:2]})
    svid(parts, "up", "--once")
    video = show(parts, "a")["id"]
    for number, some in enumerate((PROMPTS[2:4], PROMPTS[4:])):
        drop(parts, f"more-{number}.json", {"extend": video, "prompts": some})
        svid(parts, "up", "--once")
    in_parts = show(parts, video)

    timeless = [[{**one, "seconds": 0} for one in shown["segments"]] for shown in (at_once, in_parts)]
    assert len(timeless[0]) == 6
    assert timeless[0] == timeless[1]
    assert [one["seed"] for one in in_parts["segments"]] == [3 + 42 * number for number in range(6)]
    assert [one["frames"] for one in in_parts["segments"]] == [17, 12, 12, 12, 12, 12]

    first, second, third = in_parts["artifacts"]
    long = frames(third["path"])
    assert torch.equal(long, frames(at_once["artifacts"][0]["path"]))
    assert len(long) == third["frames"] == 17 + 5 * 12
    for shorter in (first, second):
        assert torch.equal(frames(shorter["path"]), long[: shorter["frames"]])
    assert read_tags(Path(third["path"]))["video"] == video
    result = json.loads((Path(third["path"]).parent / "result.json").read_text())
    assert result["segments"] == in_parts["segments"]
    assert result["artifact"]["sha256"] == third["sha256"]
    assert {"job", "video", "artifact", "segments"} <= result.keys()
