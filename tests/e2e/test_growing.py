"""What is asked of a video while its jobs wait or run is done to the video as they leave it, whenever it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from svid.errors import Cancelled, ManifestError
from svid.render.watch import Watch
from svid.store import queue
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("growing") / "home")


MOMENTS = ("queued", "two segments of three", "done")
"""How far a video is when something is asked of it."""


def asked_at(bench: Workbench, moment: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A video of three segments, of which more is asked at that moment. What both jobs have come to, in words that are
    the same for all such videos of this home."""
    trunk = bench.accept(new(moment, "one", "two", "three"))
    asked = {key: one.format(trunk.video_id) if isinstance(one, str) else one for key, one in manifest.items()}
    jobs, said = [], []

    def ask() -> None:
        try:
            jobs.append(bench.accept(asked))
        except ManifestError as error:
            said.extend(error.problems)

    def tell(event: Mapping[str, Any]) -> None:
        if moment == MOMENTS[1] and event["event"] in ("committed", "reused") and event["segment"] == 2:
            ask()

    if moment == "queued":
        ask()
    assert bench.work(Watch(tell)).id == trunk.id
    if moment == "done":
        ask()
    try:
        assert said or bench.work().id == jobs[0].id
    except ManifestError as error:
        said.extend(error.problems)
    video = bench.show(trunk.video_id)
    forks = [fork for fork in map(bench.show, video["forks"]) if fork["tip"]]  # one without is no video for anybody
    return {
        "said": [(one.where, one.message.split(": ")[-1].replace(trunk.video_id, "the trunk")) for one in said],
        "video": [one["id"] for one in video["segments"]],
        "forks": [([part["id"] for part in one["segments"]], one["fork_length"], len(one["jobs"])) for one in forks],
        "frames": [one["frames"] for one in video["artifacts"]],
    }


ASKED: list[dict[str, Any]] = [
    {"redo": "{}"},
    {"redo": "{}@3", "prompts": ["another"]},
    {"redo": "{}@-2", "ripple": True},
    {"redo": "{}@1", "ripple": True, "seed": 7},
    {"branch": "{}@2", "name": "branch", "prompts": ["another"]},
    {"extend": "{}", "prompts": ["four"]},
    {"extend": "{}@3", "prompts": ["four"]},
    {"extend": "{}@-1", "prompts": ["four"]},
    {"extend": "{}@2", "name": "extension", "prompts": ["another"]},
    {"extend": "{}@-3", "name": "extension", "prompts": ["another"]},
]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"redo": "{}@2"}, "redo", "expected the last segment, 3, or ripple, found 2"),
    ({"redo": "{}@4"}, "redo", "the trunk has 3 segments; there is no segment 4"),
    ({"redo": "{}@-4", "ripple": True}, "redo", "there is no segment -4"),
    ({"extend": "{}", "width": 48}, "width", "expected 32"),
    ({"branch": "{}@4", "prompts": ["another"]}, "branch", "there is no segment 4"),
]


@pytest.mark.parametrize("manifest", ASKED, ids=str)
def test_it_does_not_matter_how_far_the_video_is(bench: Workbench, manifest: dict[str, Any]) -> None:
    found = [asked_at(bench, moment, manifest) for moment in MOMENTS]
    assert found[0]["said"] == []
    assert len(found[0]["video"]) == 4 or found[0]["forks"], "something has happened"
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(("manifest", "where", "message"), REFUSED, ids=str)
def test_nor_for_what_can_not_be_done(bench: Workbench, manifest: dict[str, Any], where: str, message: str) -> None:
    found = [asked_at(bench, moment, manifest) for moment in MOMENTS]
    ((place, said),) = found[0]["said"]
    assert (place, message in said) == (where, True)
    assert len(found[0]["video"]) == 3
    assert all(one == found[0] for one in found)


def test_what_no_job_can_change_is_said_at_once(bench: Workbench) -> None:
    bench.accept(new("at once", "one"))
    with pytest.raises(ManifestError, match="there is no segment 0"):
        bench.accept({"redo": "at once@0"})
    bench.work()


def test_a_proof_that_waits_changes_nothing_and_so_nobody_waits_to_be_refused(bench: Workbench) -> None:
    bench.run(new("proved", "one"))
    bench.accept({"reproduce": "proved"})
    with pytest.raises(ManifestError, match="there is no segment 2"):
        bench.accept({"redo": "proved@2"})
    bench.work()


def test_an_extension_that_became_a_branch_stays_one_when_it_is_interrupted(bench: Workbench) -> None:
    trunk = bench.accept(new("forks late", "one", "two"))
    job = bench.accept({"extend": "forks late@1", "name": "late", "prompts": ["three", "four"]})
    assert job.video_id == trunk.video_id, "nobody knows yet"
    bench.work()

    def tell(event: Mapping[str, Any]) -> None:
        watch.stop_after_segment |= event["event"] in ("committed", "reused")

    watch = Watch(tell)
    with pytest.raises(Cancelled):
        bench.work(watch)
    queue.release(bench.store, job.id, 1, "stopped")
    late = bench.show(bench.work().video_id)
    assert (late["name"], late["parent"], len(late["segments"])) == ("late", trunk.video_id, 3)
    assert [len(one["segments"]) for one in (bench.show(trunk.video_id), bench.show("late"))] == [2, 3]
    again = bench.run({"extend": "late@1", "name": "in time", "prompts": ["three", "four"]})
    assert again["tip"] == late["tip"]
