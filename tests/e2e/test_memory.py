"""A render that runs out of memory is tried again with the next smaller plan, says so, and is recorded; one that dies
but gets further each time is no job that kills its process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from svid.home import Home
from tests.conftest import quick_home, svid
from tests.e2e.tools import drop, new, rows, value

HUNGRY = '''"""Fits into memory under the plans that a prompt names, and nowhere else, unless MEMORY_FOR_ALL is set."""

import os

import torch

import svid


@svid.hookimpl(wrapper=True)
def svid_sample(job, segment):
    if job.model.memory not in segment.prompt.split() and "MEMORY_FOR_ALL" not in os.environ:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return (yield)
'''

EARLY = '''"""Has no room to begin with, once for the process and then under every plan but the smallest."""

from pathlib import Path

import svid.render.job
from svid.memory import ANY, PLANS
from svid.render.studio import Studio

made, begun, marker = Studio.__init__, svid.render.job.begin, Path(__file__).with_name("began")


def make(self, *given):
    if not marker.exists():
        marker.touch()
        raise MemoryError
    made(self, *given)


def begin(studio, *given):
    if studio.plans.get(ANY) != PLANS[-1].name:
        raise MemoryError
    return begun(studio, *given)


Studio.__init__, svid.render.job.begin = make, begin
'''

DEADLY = '''"""Dies once after each step that it has not died after before."""

import os
import signal
from pathlib import Path

import svid


@svid.hookimpl
def svid_event(event):
    if event["event"] == "step":
        marker = Path(__file__).with_name(f"died-after-{event['step']}")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''


def home_with(root: Path, plugin: str, *changes: tuple[str, str]) -> Home:
    home = quick_home(root)
    (home.plugins / "moody.py").write_text(plugin)
    text = (home.root / "svid.toml").read_text().replace("settle = 0.2", "settle = 0.2\nmax_attempts = 1")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (home.root / "svid.toml").write_text(text)
    return Home(home.root)


def attempts(home: Home, file: str) -> list[tuple[Any, ...]]:
    """The attempts at a job: outcome, memory plan, committed segments."""
    chosen = "SELECT outcome, memory, committed FROM attempt JOIN job ON job.id = job_id WHERE file = ? ORDER BY n"
    return rows(home, chosen, file)


def segments(home: Home, file: str) -> list[tuple[str, str]]:
    """The segments of a job: id, and the plan that their model was placed by."""
    chosen = (
        "SELECT segment.id, json_extract(env, '$.memory') FROM segment JOIN job_segment ON segment_id = segment.id "
        "JOIN job ON job.id = job_id WHERE file = ? ORDER BY segment.[index]"
    )
    return rows(home, chosen, file)


def error(home: Home, file: str) -> dict[str, str]:
    """What a job was refused with."""
    told = [json.loads(one.read_text())["errors"] for one in home.failed.glob("*/error.json")]
    found: list[dict[str, str]] = [problem for problems in told for problem in problems if problem["file"] == file]
    return found[0]


@pytest.mark.slow
def test_a_job_steps_down_until_it_fits_and_nothing_else_changes(tmp_path: Path) -> None:
    everywhere, last = "fits resident one-expert streamed", "fits streamed"
    roomy = home_with(tmp_path / "roomy", HUNGRY)
    drop(roomy, "a.json", new("a", everywhere, last))
    svid(roomy, "up", "--once", MEMORY_FOR_ALL="1")
    expected = segments(roomy, "a.json")
    assert {plan for _, plan in expected} == {"resident"}

    home = home_with(tmp_path / "home", HUNGRY)
    drop(home, "a.json", new("a", everywhere, last))
    drop(home, "b.json", new("b", everywhere, seed=6))
    once = svid(home, "up", "--once")
    tried = [("out of memory", "resident", 1), ("out of memory", "one-expert", 0), ("done", "streamed", 1)]
    assert attempts(home, "a.json") == tried
    assert segments(home, "a.json") == [(expected[0][0], "resident"), (expected[1][0], "streamed")]
    assert attempts(home, "b.json") == [("done", "streamed", 1)], "the daemon remembers what the model needs"
    for before, after in (("resident", "one-expert"), ("one-expert", "streamed")):
        said = f"out of memory with wan22-mini as {before}: torch.OutOfMemoryError: CUDA out of memory"
        assert said in once.stderr
        assert f"trying again as {after}" in once.stderr
    job = value(home, "SELECT id FROM job WHERE file = 'a.json'")
    shown = json.loads(svid(home, "show", job, "--json").stdout)["attempts"]
    assert [one["memory"] for one in shown] == ["resident", "one-expert", "streamed"]


@pytest.mark.slow
def test_what_fits_nowhere_is_refused_with_every_plan_named(tmp_path: Path) -> None:
    home = home_with(tmp_path / "home", HUNGRY)
    drop(home, "a.json", new("a", "fits nowhere"))
    once = svid(home, "up", "--once", check=False)
    assert once.returncode == 1
    plans = ["resident", "one-expert", "streamed"]
    assert attempts(home, "a.json") == [("out of memory", plan, 0) for plan in plans]
    met = error(home, "a.json")
    assert met["message"].startswith(
        "out of memory under the memory plan resident, then one-expert, then streamed, at "
    )
    assert "at 32 x 32, 9 frames: torch.OutOfMemoryError: CUDA out of memory" in met["message"]
    assert met["hint"] == "ask for fewer frames or a smaller width and height, or close what else uses this memory"


@pytest.mark.slow
def test_a_plan_that_svid_toml_names_is_the_only_one(tmp_path: Path) -> None:
    home = home_with(tmp_path / "home", HUNGRY, ('memory = "auto"', 'memory = "one-expert"'))
    drop(home, "a.json", new("a", "fits one-expert"))
    drop(home, "b.json", new("b", "fits streamed"))
    assert svid(home, "up", "--once", check=False).returncode == 1
    assert attempts(home, "a.json") == [("done", "one-expert", 1)]
    assert attempts(home, "b.json") == [("out of memory", "one-expert", 0)]
    assert '[render] memory = "auto" in svid.toml tries smaller plans' in error(home, "b.json")["hint"]


@pytest.mark.slow
def test_a_segment_that_gets_further_each_time_is_not_given_up(tmp_path: Path) -> None:
    """With one attempt, of which none counts: each death comes a step later than the one before."""
    home = home_with(tmp_path / "home", DEADLY, ("snapshot_seconds = 30.0", "snapshot_seconds = 0"))
    drop(home, "a.json", new("a", "one", sample={"steps": 3}))
    svid(home, "up", "--once")
    assert [outcome for outcome, *_ in attempts(home, "a.json")] == ["crashed", "crashed", "crashed", "done"]
    steps = rows(home, "SELECT json_extract(reached, '$.step') FROM attempt ORDER BY n")
    assert steps == [(1,), (2,), (3,), (None,)]


@pytest.mark.slow
def test_one_that_dies_without_a_snapshot_is(tmp_path: Path) -> None:
    home = home_with(tmp_path / "home", DEADLY, ("snapshot_seconds = 30.0", "snapshot_seconds = inf"))
    drop(home, "a.json", new("a", "one", sample={"steps": 3}))
    assert svid(home, "up", "--once", check=False).returncode == 1
    assert [outcome for outcome, *_ in attempts(home, "a.json")] == ["crashed"]
    assert "died 1 times in a row without finishing a segment or getting further" in error(home, "a.json")["message"]


@pytest.mark.slow
def test_memory_that_runs_out_before_a_job_has_begun_is_tried_again_likewise(tmp_path: Path) -> None:
    home = home_with(tmp_path / "home", EARLY)
    drop(home, "a.json", new("a", "one"))
    once = svid(home, "up", "--once")
    tried = [("out of memory", "resident", 0), ("out of memory", "one-expert", 0), ("done", "streamed", 1)]
    assert attempts(home, "a.json") == tried
    assert "out of memory with any model as resident: MemoryError; trying again as one-expert" in once.stderr
