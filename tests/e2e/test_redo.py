"""Another take of a segment, with what follows it or without; a video that is proved; two asks that are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from svid.cli.open import desk_of
from svid.errors import ManifestError, NotReproduced
from svid.home import Home
from svid.plan.again import another_seed
from svid.store.recover import rebuild
from svid.workbench import Workbench
from tests.conftest import svid
from tests.e2e.tools import bench_in, data, ends, frames_of, killed_at_last, new, rows, start, value, wait_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("redo") / "home")
    for name in ("gull.png", "star.png"):
        (made.home.inbox / name).write_bytes((made.home.watch / "examples" / name).read_bytes())
    return made


def ids(video: dict[str, Any]) -> list[str]:
    return [one["id"] for one in video["segments"]]


def asks(bench: Workbench, video: dict[str, Any]) -> list[dict[str, Any]]:
    return [bench.show(id_)["ask"] for id_ in ids(video)]


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key in one if one[key] != other[key]}


def kept(bench: Workbench, video: dict[str, Any], *known: str) -> dict[str, Any]:
    """The one video that a redo has made of what was there."""
    (id_,) = set(bench.show(video["id"])["forks"]) - set(known)
    return bench.show(id_)


def test_a_redo_moves_the_tip_to_a_sibling_and_the_old_one_stays_a_video(bench: Workbench) -> None:
    video = bench.run(new("tip", "one", "two"))
    take = bench.run({"redo": "tip"})
    assert take["id"] == video["id"]
    assert ids(take)[0] == ids(video)[0]
    assert ids(take)[1] != ids(video)[1]
    old, fresh = (asks(bench, one)[1] for one in (video, take))
    assert differing(old, fresh) == {"seed"}, "nothing said means another seed, and nothing else"
    assert fresh["seed"] == another_seed(old["seed"])
    before = kept(bench, take)
    assert ids(before) == ids(video)
    assert before["name"] == f"tip before {take['jobs'][-1]['id']}"
    film, taken = frames_of(take["artifacts"][-1]["path"]), frames_of(video["artifacts"][-1]["path"])
    assert len(film) == len(taken) == 13
    assert torch.equal(film[:9], taken[:9])
    assert not torch.equal(film[9:], taken[9:])


def test_what_is_said_holds_for_that_segment_alone(bench: Workbench) -> None:
    video = bench.run(new("told", "one", "two"))
    take = bench.run({"redo": "told@2", "prompts": ["another"], "seed": 77, "sample": {"steps": 3}})
    old, fresh = (asks(bench, one)[1] for one in (video, take))
    assert differing(old, fresh) == {"prompt", "seed", "sampling"}
    assert (fresh["prompt"], fresh["seed"], fresh["sampling"]["steps"]) == ("another", 77, 3)
    more, untold = bench.run({"extend": "told"}), bench.run({"extend": kept(bench, take)["id"]})
    one, other = asks(bench, more)[2], asks(bench, untold)[2]
    assert differing(one, other) == {"parent"}, "who extends goes on as the video did"


def test_a_redo_back_to_the_old_seed_takes_the_old_segment_and_makes_no_third_video(bench: Workbench) -> None:
    video = bench.run(new("back", "one"))
    take = bench.run({"redo": "back", "seed": 99})
    before = kept(bench, take)["id"]
    committed = value(bench.home, "SELECT count(*) FROM segment")
    again = bench.run({"redo": "back", "seed": video["segments"][0]["seed"]})
    assert ids(again) == ids(video)
    assert value(bench.home, "SELECT count(*) FROM segment") == committed
    assert ids(kept(bench, again, before)) == ids(take), "the other take keeps a name, too"
    third = bench.run({"redo": "back", "seed": 99})
    assert ids(third) == ids(take)
    assert len(third["forks"]) == 2, "a video ends in each of them already"


def test_ripple_renders_the_children_on_top_with_their_own_asks(bench: Workbench) -> None:
    start = {"cuts": [{"segment": 2, "prompt": "the camera makes a hard cut, to a gull", "anchor": "gull.png"}]}
    bench.run(new("waves", "one", "two", "three", **start))
    fast = {"high": 0.5, "name": "svi-2.0-pro", "low": 0.25, "segments": [2]}
    video = bench.run({"extend": "waves", "prompts": ["four", "five"], "seed": 8, "loras": [fast]})
    take = bench.run({"redo": "waves@1", "ripple": True, "prompts": ["first"]})
    assert take["id"] == video["id"]
    assert not set(ids(take)) & set(ids(video))
    changed = [differing(*pair) for pair in zip(asks(bench, video), asks(bench, take), strict=True)]
    assert changed == [{"prompt"}] + [{"parent"}] * 4, "cuts, anchors, LoRAs and seeds are each segment's own"
    assert ids(kept(bench, take)) == ids(video)
    # What was rendered again can be rendered again.
    last = bench.run({"redo": "waves@3", "ripple": True})
    assert ids(last)[:2] == ids(take)[:2]
    changed = [differing(*pair) for pair in zip(asks(bench, take), asks(bench, last), strict=True)]
    assert changed == [set(), set(), {"seed"}, {"parent"}, {"parent"}]


def test_ripple_goes_through_what_a_fork_shares(bench: Workbench) -> None:
    trunk = bench.run(new("trunk", "one", "two"))
    fork = bench.run({"branch": "trunk@2", "name": "fork", "prompts": ["three"]})
    take = bench.run({"redo": "fork@2", "ripple": True})
    assert ids(take)[0] == ids(fork)[0]
    assert not set(ids(take)[1:]) & set(ids(fork)[1:])
    assert ids(bench.show(trunk["id"])) == ids(trunk)
    # Forked before the trunk was redone, a video keeps its beginning and goes on as it was.
    other = bench.run({"branch": "trunk@2", "name": "other"})
    bench.run({"redo": "trunk", "sample": {"steps": 3}})
    assert ids(bench.show(other["id"])) == ids(trunk)
    more = bench.run({"extend": other["id"], "prompts": ["three"]})
    assert ids(more) == ids(fork), "the same ask as before the trunk was redone"


def test_before_the_tip_ripple_has_to_be_said(bench: Workbench) -> None:
    video = bench.run(new("inner", "one", "two", "three"))
    with pytest.raises(ManifestError, match=r"expected the last segment, 3, or ripple, found 1.*branch \w+@1 and redo"):
        bench.run({"redo": "inner@1"})
    with pytest.raises(ManifestError, match="there is no segment 4"):
        bench.run({"redo": "inner@4"})
    assert bench.show(video["id"]) == video


def test_where_a_video_has_grown_in_the_queue_the_redo_fails_and_nothing_moves(bench: Workbench) -> None:
    bench.run(new("queue", "one"))
    bench.accept({"extend": "queue", "prompts": ["two"]})
    bench.accept({"redo": "queue@1"})
    video = bench.show(bench.work().video_id)
    with pytest.raises(ManifestError, match="expected the last segment, 2"):
        bench.work()
    after = bench.show(video["id"])
    assert (ids(after), after["forks"]) == (ids(video), [])


def test_a_branch_that_came_before_a_redo_is_of_the_video_as_it_was(bench: Workbench) -> None:
    video = bench.run(new("order", "one"))
    branch = bench.accept({"branch": "order@1", "name": "earlier", "priority": -5})
    redo = bench.accept({"redo": "order", "priority": 5})
    assert [bench.work().id, bench.work().id] == [branch.id, redo.id]
    assert ids(bench.show(branch.video_id)) == ids(video)


def test_a_redo_that_was_cut_off_leaves_the_video_as_it_was(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    video = bench.run(new("cut off", "one", "two"))
    bench.accept({"redo": "cut off@1", "ripple": True})
    call = bench.studio.plugins.call

    def failing(stage: str, *args: Any, **more: Any) -> Any:
        if stage == "svid_sample" and args[1].index == 1:
            raise ManifestError("enough")
        return call(stage, *args, **more)

    monkeypatch.setattr(bench.studio.plugins, "call", failing)
    with pytest.raises(ManifestError, match="enough"):
        bench.work()
    after = bench.show(video["id"])
    assert (after["tip"], after["forks"]) == (video["tip"], [])


def test_a_clip_is_not_redone_and_what_follows_it_is(bench: Workbench) -> None:
    clip = bench.run(new("source", "one", encode={"codec": "ffv1"}))["artifacts"][-1]["path"]
    (bench.home.inbox / "walk.mkv").write_bytes(Path(clip).read_bytes())
    manifest = {key: one for key, one in new("walk", "on").items() if key != "image"}
    video = bench.run({**manifest, "clip": "walk.mkv"})
    with pytest.raises(ManifestError, match="is the clip that the video began with"):
        bench.run({"redo": "walk@1", "ripple": True})
    take = bench.run({"redo": "walk@2"})
    assert ids(take)[0] == ids(video)[0]
    assert differing(asks(bench, video)[1], asks(bench, take)[1]) == {"seed"}
    assert bench.run({"reproduce": "walk"})["tip"] == take["tip"]


def test_the_same_asks_give_the_same_ids_in_another_home(bench: Workbench, tmp_path: Path) -> None:
    asked = [
        new("twin", "one", "two", "three"),
        {"redo": "twin@2", "ripple": True},
        {"redo": "twin", "prompts": ["other"]},
        {"extend": "twin"},
    ]
    other = bench_in(tmp_path / "home")
    here, there = ([one.run(manifest) for manifest in asked][-1] for one in (bench, other))
    assert (here["id"], ids(here), here["forks"]) == (there["id"], ids(there), there["forks"])
    assert [one["sha256"] for one in here["artifacts"]] == [one["sha256"] for one in there["artifacts"]]
    # Lost, the database is built again with every tip where it was, and with what the redos have left.
    other.home.database.unlink()
    report = rebuild(other.home, Path("db/migrations").resolve())
    assert report.lost == ["db/svid.db: is gone"]
    report.file.replace(other.home.database)
    found = rows(other.home, "SELECT id, tip_id FROM video ORDER BY id")
    expected = [(one["id"], one["tip"]) for one in (there, *(bench.show(id_) for id_ in here["forks"]))]
    assert found == sorted(expected)


def test_reproduce_renders_all_of_it_again_and_changes_nothing(bench: Workbench) -> None:
    bench.run(new("proof", "one", "two"))
    video = bench.run({"redo": "proof@1", "ripple": True, "prompts": ["first"]})
    job = bench.accept({"reproduce": "proof"}).id
    bench.work()
    after = bench.show(video["id"])
    assert (after["tip"], after["forks"], ids(after)) == (video["tip"], video["forks"], ids(video))
    result = json.loads((bench.home.done / job / "result.json").read_text())
    assert [(one["number"], one["was"], one["equal"]) for one in result["reproduced"]] == [
        (number, id_, True) for number, id_ in enumerate(ids(video), 1)
    ]
    assert rows(bench.home, "SELECT reused FROM job_segment WHERE job_id = ?", job) == [(0,), (0,)]
    again, before = (frames_of(one["artifacts"][-1]["path"]) for one in (after, video))
    assert torch.equal(again, before)


def test_what_can_not_be_reproduced_is_named(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    video = bench.run(new("drifts", "one", "two", "three"))
    call = bench.studio.plugins.call

    def noisy(stage: str, *args: Any, **more: Any) -> Any:
        found = call(stage, *args, **more)
        if stage == "svid_sample" and args[1].index == 1:
            return {name: tensor + 1e-3 for name, tensor in found.items()}
        return found

    monkeypatch.setattr(bench.studio.plugins, "call", noisy)
    job = bench.accept({"reproduce": "drifts"})
    with pytest.raises(NotReproduced, match="segment 2") as caught:
        bench.work()
    assert len(caught.value.problems) == 1, "each is asked for on top of what was there before"
    error = json.loads((bench.home.failed / job.id / "error.json").read_text())
    assert [one["equal"] for one in error["reproduced"]] == [True, False, True]
    other = error["reproduced"][1]["is"]
    after = bench.show(video["id"])
    assert (after["tip"], ids(after)) == (video["tip"], ids(video))
    shown = json.loads(svid(bench.home, "explain", "drifts@2", other, "--json").stdout)
    assert (shown["ask"], shown["same_ask"], shown["same_answer"]) == ([], True, False)
    assert svid(bench.home, "explain", "drifts@2", other).stdout == "the asks are equal, what came out is not\n"


def test_explain_names_every_key(bench: Workbench) -> None:
    bench.run(new("why", "one", "two"))
    bench.run({"redo": "why", "prompts": ["other"], "sample": {"steps": 3}})
    (before,) = (id_ for id_, name in rows(bench.home, "SELECT id, name FROM video") if name.startswith("why before"))
    shown = json.loads(svid(bench.home, "explain", before, "why@2", "--json").stdout)
    assert shown["ask"] == [
        {"key": "prompt", "a": "two", "b": "other"},
        {"key": "sampling.steps", "a": 2, "b": 3},
    ]
    assert shown["env"] == []
    assert (shown["same_ask"], shown["same_answer"]) == (False, False)
    lines = svid(bench.home, "explain", before, "why@2").stdout
    assert lines == 'asked: prompt: "two" -> "other"\nasked: sampling.steps: 2 -> 3\n'
    assert svid(bench.home, "explain", "why", shown["b"]).stdout == "one and the same\n"
    assert svid(bench.home, "explain", "why", "nowhere", check=False).returncode == 4


@pytest.mark.slow
def test_the_verbs_from_the_shell(bench: Workbench) -> None:
    video = bench.run(new("shell", "one", "two"))
    without = svid(bench.home, "reproduce", "shell", check=False)
    assert (without.returncode, "no daemon runs" in without.stderr) == (5, True)
    with killed_at_last(start(bench.home, "up")) as (daemon,):
        wait_for(lambda: not list(bench.home.inbox.glob("*.json")), daemon)
        told = json.loads(svid(bench.home, "reproduce", "shell", "--json").stdout)
        assert (told["state"], [one["equal"] for one in told["segments"]]) == ("done", [True, True])
        svid(bench.home, "redo", "shell@1", "--ripple", "--prompt", "other", "--seed", "4")
        wait_for(lambda: bench.show(video["id"])["tip"] != video["tip"], daemon)
        daemon.terminate()
        assert ends(daemon)[0] == 0
    take = bench.show(video["id"])
    assert [one["seed"] for one in take["segments"]] == [4, video["segments"][1]["seed"]]
    refused = svid(bench.home, "redo", "shell@1", check=False)
    assert (refused.returncode, list(bench.home.inbox.glob("*.json"))) == (3, [])


def test_another_take_may_leave_a_model_that_is_gone(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    video = bench.run(new("moved", "one"))
    file = bench.home.root / "svid.toml"
    file.write_text(file.read_text().replace("wan22-mini]", "wan22x]").replace("wan22-mini.", "wan22x."))
    file.write_text(file.read_text().replace('model = "wan22-mini"', 'model = "wan22x"'))
    moved = Workbench(Home(bench.home.root), desk_of(Home(bench.home.root)))
    with pytest.raises(ManifestError, match=r"reproduce: .*'wan22-mini', by which segment 1 was made"):
        moved.accept({"reproduce": "moved"})
    manifest = {"redo": "moved", "model": "wan22x", "prompts": ["another"]}
    (bench.home.root / "again.json").write_text(json.dumps(manifest))
    checked = data(moved.home, "check", str(bench.home.root / "again.json"))
    assert (checked["model"], checked["segments"][0]["prompt"]) == ("wan22x", "another")
    take = moved.run(manifest)
    assert take["id"] == video["id"]
    assert asks(moved, take)[0]["prompt"] == "another"


RECIPE = """
import svid
from svid.api import Recipe

@svid.hookimpl
def svid_recipes():
    return [Recipe(name="mine", variant="i2v", title="", source="", layout={"motion_frames": 1})]
"""


def test_another_take_may_leave_a_recipe_that_is_gone(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home", mine=RECIPE)
    video = bench.run(new("moved", "one", "two", recipe="mine"))
    (bench.home.plugins / "mine.py").unlink()
    left = Workbench(bench.home, desk_of(bench.home))
    with pytest.raises(ManifestError, match="expected a recipe of this home, found 'mine'"):
        left.accept({"redo": "moved"})
    take = left.run({"redo": "moved", "recipe": "svi-2.0-pro", "frames": 9, "sample": {"steps": 2}})
    assert take["id"] == video["id"]
    assert ids(take)[0] == ids(video)[0]
    assert [one["variant"] for one in asks(left, take)] == ["i2v", "svi-2.0-pro"]
