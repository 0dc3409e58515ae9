"""Options that a job takes over from the video that it goes on with, of a plugin that is gone or has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.errors import ManifestError, NotReproduced
from svid.home import Home
from svid.plan.again import another_seed
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import bench_in, new, run, value

PLUGIN = """
from pydantic import BaseModel, ConfigDict
import svid

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    KEY: int = 0

@svid.hookimpl
def svid_options():
    return Options
"""

DECIDES = """
@svid.hookimpl
def svid_ask(job, segment):
    return {} if job.options["gone"].level else None

@svid.hookimpl(wrapper=True)
def svid_decode(job):
    return (yield)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One with a video whose options were a plugin's that has another key by now, and another's that is gone."""
    root = tmp_path_factory.mktemp("handed") / "home"
    quick_home(root)
    for name in ("gone", "changed"):
        (root / f"plugins/{name}.py").write_text(PLUGIN.replace("KEY", "level"))
    home = Home(root)
    made = Workbench(home, desk_of(home))
    for name, seed in (("old", 5), ("spare", 6)):
        made.run({**new(name, "one", options={"gone": {"level": 1}, "changed": {"level": 2}}), "seed": seed})
    made.run({"branch": "spare@1", "name": "fork"})
    (root / "plugins/gone.py").unlink()
    (root / "plugins/changed.py").write_text(PLUGIN.replace("KEY", "amount"))
    return home


@pytest.fixture(scope="module")
def bench(home: Home) -> Workbench:
    return Workbench(home, desk_of(home))


@pytest.mark.parametrize("manifest", [{"extend": "old"}, {"branch": "old@1", "prompts": ["two"]}, {"redo": "old"}])
def test_it_is_refused_when_it_is_accepted(bench: Workbench, manifest: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as caught:
        bench.accept(manifest)
    gone, changed = sorted(caught.value.problems, key=lambda problem: problem.where, reverse=True)
    assert gone.where == "options.gone"
    assert gone.message.startswith('expected a plugin that has options, found "gone"; the video')
    assert gone.hint == 'drop_options = ["gone"] leaves out what it hands on'
    assert changed.where == "options.changed.level"
    assert changed.message.startswith("unknown key; the video that is gone on with")


def test_a_reproduction_is_refused_as_well(bench: Workbench) -> None:
    with pytest.raises(ManifestError, match=r"options\.gone: expected a plugin that has options"):
        bench.accept({"reproduce": "old"})


def test_a_reproduction_without_them_proves_what_they_did_not_decide_and_drops_nothing(bench: Workbench) -> None:
    for name in ("spare", "fork"):
        old = bench.show(name)
        job = bench.accept({"reproduce": name, "drop_options": ["gone", "changed"]}).id
        bench.work()
        result = json.loads((bench.home.done / job / "result.json").read_text())
        assert [(one["was"], one["equal"]) for one in result["reproduced"]] == [(old["tip"], True)]
        for verb in ("extend", "redo", "reproduce"):
            with pytest.raises(ManifestError, match=r"options\.gone: expected a plugin that has options"):
                bench.accept({verb: name})


def test_a_reproduction_names_what_a_plugin_that_is_gone_has_decided(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home", gone=PLUGIN.replace("KEY", "level") + DECIDES)
    bench.run(new("plain", "one"))
    video = bench.run({"extend": "plain", "prompts": ["two"], "options": {"gone": {"level": 1}}})
    (bench.home.plugins / "gone.py").unlink()
    left = Workbench(bench.home, desk_of(bench.home))
    with pytest.raises(NotReproduced, match="segment 2") as caught:
        left.run({"reproduce": "plain", "drop_options": ["gone"]})
    assert len(caught.value.problems) == 1
    assert left.show("plain")["tip"] == video["tip"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            {"extend": "old", "drop_options": ["other"]},
            r"drop_options\[0\]: would change nothing: the video hands on no",
        ),
        (new("fresh", "one", drop_options=["gone"]), "drop_options: would change nothing: a new video is handed no"),
        ({"reproduce": "old", "drop_options": ["other"]}, r"drop_options\[0\]: would change nothing: the video hands"),
        ({"reproduce": "old", "drop_options": ["gone"]}, r"options\.changed\.level: unknown key; the video that"),
    ],
)
def test_dropping_that_would_change_nothing_is_refused(
    bench: Workbench, manifest: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        bench.accept(manifest)


@pytest.mark.parametrize(
    "verb",
    [["extend", "old"], ["branch", "old@1", "--prompt", "two"], ["redo", "old"], ["reproduce", "old", "--no-wait"]],
)
def test_the_command_line_drops_them_too(home: Home, verb: list[str]) -> None:
    dropped = [f"--drop-options={plugin}" for plugin in ("gone", "changed")]
    assert "options.gone: expected a plugin" in run(home, *verb, dropped[1], code=3).stderr
    file = Path(run(home, *verb, *dropped).stdout.strip())
    assert json.loads(file.read_text())["drop_options"] == ["gone", "changed"]


def test_new_options_take_the_place_of_dropped_ones(bench: Workbench) -> None:
    more = {"drop_options": ["gone", "changed"], "options": {"changed": {"amount": 3}}}
    video = bench.run({"branch": "old@1", "name": "other", "prompts": ["two"], **more})
    settings = value(bench.home, "SELECT settings FROM job_segment WHERE segment_id = ?", video["segments"][-1]["id"])
    assert json.loads(settings)["options"] == {"changed": {"amount": 3}}


def test_dropped_options_are_left_out_for_good(bench: Workbench) -> None:
    dropped = ["gone", "changed"]
    taken = bench.run({"redo": "old", "seed": 7, "drop_options": dropped})
    longer = bench.run({"extend": taken["id"], "prompts": ["two"]})
    assert len(longer["segments"]) == 2


def test_dropping_alone_is_another_take_and_holds_for_good(bench: Workbench) -> None:
    old = bench.show("spare")
    taken = bench.run({"redo": "spare", "drop_options": ["gone", "changed"]})
    assert taken["segments"][0]["seed"] == another_seed(old["segments"][0]["seed"])
    assert taken["tip"] != old["tip"]
    longer = bench.run({"extend": "spare", "prompts": ["two"]})
    assert longer["segments"][0] == taken["segments"][0]
    assert len(longer["segments"]) == 2
