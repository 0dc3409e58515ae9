"""`svid retry`: the video of a failed job goes on from where the job left it, and what is asked for again is named by
number. `name` is for videos that are new."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from svid.api import Encoding
from svid.errors import ManifestError, Problem, Refused
from svid.media.clips import write_clip
from svid.render.watch import Watch
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, rows, run
from tests.unit.clips import moving


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("retry") / "home")
    (made.home.inbox / "gull.png").write_bytes((made.home.watch / "examples/gull.png").read_bytes())
    write_clip([moving(9, height=32, width=32)], made.home.inbox / "walk.mkv", 16.0, Encoding("ffv1"))
    return made


def ids(video: Mapping[str, Any]) -> list[str]:
    return [one["id"] for one in video["segments"]]


class Failed(NamedTuple):
    """A job and its video."""

    id: str
    video: str


def failed(bench: Workbench, manifest: Mapping[str, Any], after: int | None) -> Failed:
    """A job that is cancelled when it has put `after` segments in place, or, if None, when only the file is missing."""
    bench.accept(manifest)
    told = Counter[str]()

    def tell(event: Mapping[str, Any]) -> None:
        told.update([event["event"]])
        if told["joining"] if after is None else told["committed"] + told["reused"] == after:
            raise Refused(Problem("", "", "was cancelled"))

    with pytest.raises(Refused):
        bench.work(Watch(tell))
    ((id_, video),) = rows(bench.home, "SELECT id, video_id FROM job ORDER BY seq DESC LIMIT 1")
    return Failed(id_, video)


def retried(bench: Workbench, job: str) -> tuple[dict[str, Any], str]:
    """The manifest that `svid retry` writes, and what it says beside it."""
    said = run(bench.home, "retry", job)
    dropped = Path(said.stdout.strip())
    written: dict[str, Any] = json.loads(dropped.read_text())
    dropped.unlink()
    return written, said.stderr


def done(bench: Workbench, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """The video of a manifest, and how often what happened."""
    told = Counter[str]()
    return bench.run(manifest, Watch(lambda event: told.update([event["event"]]))), told


LORA = {"name": "svi-2.0-pro", "high": 0.5, "segments": [1, 3]}
CUT = {"segment": 2, "prompt": "the camera makes a hard cut", "strength": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "extension": {"extend": "{}", "prompts": ["three", "four", "five"]},
    "extension by number": {"extend": "{}@-1", "prompts": ["three"], "segments": 3, "seed": 8},
    "fork": {"extend": "{}@1", "name": "{} too", "prompts": ["three", "four", "five"]},
    "branch": {"branch": "{}@1", "name": "{} too", "prompts": ["three", "four", "five"], "sample": {"steps": 3}},
    "new": new("{}", "three", "four", "five", anchors=["harbour.png", "gull.png"]),
    "clip": {**new("{}", "three", "four", "five"), "clip": "walk.mkv", "image": None},
    "cut": {"extend": "{}", "prompts": ["three", "four", "five"], "cuts": [CUT], "ends": [{"image": "gull.png"}]},
    "cut at the end": {"extend": "{}", "prompts": ["three"], "segments": 3, "cuts": [CUT | {"segment": 3}]},
    "anchors and loras": {
        "extend": "{}",
        "prompts": ["three", "four"],
        "segments": 3,
        "priority": 2,
        "sample": {"steps": 3},
        "anchors": ["gull.png", "harbour.png", "gull.png"],
        "loras": [LORA],
        "negative": "blurred",
    },
}


def named(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    told = {key: one.format(name) if isinstance(one, str) else one for key, one in manifest.items()}
    return {key: one for key, one in told.items() if one is not None}


@pytest.mark.parametrize("after", [1, 2, None])
@pytest.mark.parametrize("kind", KINDS)
def test_the_video_goes_on_and_nothing_is_rendered_again(bench: Workbench, kind: str, after: int | None) -> None:
    name, manifest = f"{kind} {after}", KINDS[kind]
    starts = "image" in manifest
    if not starts:
        bench.run(new(name, "one", "two"))
    job = failed(bench, named(manifest, name), after)
    before = bench.show(job.video)
    written, said = retried(bench, job.id)
    assert said == ""
    video, told = done(bench, written)
    assert (video["id"], video["name"], video["forks"]) == (job.video, before["name"], [])
    assert ids(video)[: len(ids(before))] == ids(before)
    if after is None:
        assert (ids(video), told["reused"], told["committed"]) == (ids(before), 1, 0)
    else:
        left = 3 + (kind == "clip") - after
        assert len(ids(video)) - len(ids(before)) == told["reused"] + told["committed"] == left
    assert bench.show(video["name"])["id"] == job.video, "no other video has its name"
    # It is what the job would have made, had it not failed.
    if not starts:
        bench.run(new(f"{name} whole", "one", "two"))
    whole = bench.run(named(manifest, f"{name} whole"))
    assert ids(whole) == ids(video)
    assert whole["artifacts"][-1]["frames"] == video["artifacts"][-1]["frames"]


@pytest.mark.parametrize("kind", ["extension", "extension by number", "fork", "branch"])
def test_nor_is_a_second_branch_made_where_nothing_was_rendered(bench: Workbench, kind: str) -> None:
    name = f"{kind} at once"
    bench.run(new(name, "one", "two"))
    job = failed(bench, named(KINDS[kind], name), 0)
    before = bench.show(job.video)
    written, said = retried(bench, job.id)
    assert (written["extend"], said) == (job.video, "")
    video = bench.run(written)
    assert (video["id"], video["forks"]) == (job.video, [])
    assert len(bench.show(video["name"])["segments"]) == len(ids(before)) + 3


def test_a_job_that_rendered_nothing_of_a_new_video_is_asked_for_as_it_was(bench: Workbench) -> None:
    job = failed(bench, new("nothing", "one", "two"), 0)
    written, said = retried(bench, job.id)
    assert (written["name"], written["prompts"], said) == ("nothing", ["one", "two"], "")
    assert written["image"].startswith("asset:")
    assert len(bench.run(written)["segments"]) == 2
    assert len(bench.show("nothing")["segments"]) == 2


@pytest.mark.parametrize("waits", [False, True])
def test_a_video_that_has_moved_on_is_left_alone(bench: Workbench, waits: bool) -> None:
    name = f"moved on {waits}"
    begun = bench.run(new(name, "one"))
    job = failed(bench, {"extend": name, "prompts": ["two", "three"]}, 1)
    bench.accept({"extend": name, "prompts": ["four"]})
    if not waits:
        bench.work()
    written, said = retried(bench, job.id)
    if waits:
        bench.work()
    assert written == {"extend": f"{begun['id']}@1", "prompts": ["two", "three"]}, "no name that would be another's"
    assert f"{begun['id']} ({name}) can't go on from where {job.id} left it: this makes another video" in said
    fork = bench.run(written)
    assert (fork["parent"], len(fork["segments"])) == (begun["id"], 3)
    assert len(bench.show(begun["id"])["segments"]) == 3


def test_a_branch_is_asked_for_by_the_id_of_its_video(bench: Workbench) -> None:
    trunk = bench.run(new("trunk", "one", "two"))
    job = failed(bench, {"branch": "trunk@2", "prompts": ["three", "four"]}, 1)
    bench.run({"extend": job.video, "prompts": ["other"]})
    written, said = retried(bench, job.id)
    assert written == {"branch": f"{trunk['id']}@2", "prompts": ["three", "four"]}
    assert "this makes another video" in said
    assert len(bench.run(written)["segments"]) == 4


def test_another_take_is_asked_for_of_the_same_segment(bench: Workbench) -> None:
    video = bench.run(new("takes", "one", "two"))
    redo = failed(bench, {"redo": "takes", "name": "takes", "prompts": ["other"]}, 0).id
    ripple = failed(bench, {"redo": "takes@-2", "ripple": True, "prompts": ["other"]}, 1).id
    proof = failed(bench, {"reproduce": "takes", "priority": 1}, 1).id
    bench.run({"extend": "takes", "prompts": ["three"]})
    id_ = video["id"]
    assert retried(bench, redo) == ({"redo": f"{id_}@2", "prompts": ["other"]}, "")
    assert retried(bench, ripple) == ({"redo": f"{id_}@1", "ripple": True, "prompts": ["other"]}, "")
    written, said = retried(bench, proof)
    assert (written, said) == ({"reproduce": f"{id_}@2", "priority": 1}, "")
    assert len(ids(bench.run(written))) == 3
    with pytest.raises(ManifestError, match="expected the last segment, 3, or ripple, found 2"):
        bench.accept(retried(bench, redo)[0])


# Names


@pytest.mark.parametrize("base", [("redo", "{}"), ("redo", "{}@1"), ("reproduce", "{}@1"), ("extend", "{}")])
@pytest.mark.parametrize("queued", [True, False])
def test_a_name_that_nothing_would_have_is_refused(bench: Workbench, base: tuple[str, str], queued: bool) -> None:
    video = f"named {' '.join(base)} {queued}"
    job = bench.accept(new(video, "one"))
    if not queued:
        bench.work()
    manifest = {base[0]: base[1].format(job.video_id)}
    with pytest.raises(ManifestError) as caught:
        bench.accept({**manifest, "name": "another"})
    (problem,) = caught.value.problems
    message = f"expected no name, or the video's own, {video!r}, found 'another'"
    assert (problem.where, problem.message) == ("name", message)
    assert "branch" in problem.hint
    bench.accept({**manifest, "name": video})
    for _ in range(1 + queued):
        bench.work()


def test_what_else_is_wrong_is_said_beside_it(bench: Workbench) -> None:
    bench.run(new("both", "one"))
    with pytest.raises(ManifestError) as caught:
        bench.accept({"extend": "both", "name": "another", "width": 48})
    assert [one.where for one in caught.value.problems] == ["name", "width"]


def test_what_is_submitted_has_the_name_of_its_file_only_if_it_is_a_new_video(bench: Workbench, tmp_path: Path) -> None:
    bench.run(new("given", "one"))
    gull = {"prompts": ["a gull"], "ends": [{"image": str(bench.home.inbox / "gull.png")}]}
    for base, more in (("extend", ""), ("redo", ""), ("branch", "@1")):
        (tmp_path / "fly.json").write_text(json.dumps({base: f"given{more}", **gull}))
        file = Path(run(bench.home, "submit", str(tmp_path / "fly.json")).stdout.strip())
        written = json.loads(file.read_text())
        assert "name" not in written
        file.unlink()
        assert bench.run(written)["name"] == "given"
