"""Branches, hard cuts, segments taken as they are (promise 5) and other codecs, with one warm model."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from svid.errors import ManifestError
from svid.media.images import pixel_digest
from svid.workbench import Workbench
from tests.e2e.tools import SMALL, bench_in, frames_of, new, rows, value

OVERLAP = 5


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("branch") / "home")
    (made.home.inbox / "gull.png").write_bytes((made.home.watch / "examples/gull.png").read_bytes())
    return made


@pytest.fixture(scope="module")
def trunk(bench: Workbench) -> dict[str, Any]:
    """A video of three segments; tests branch it, and none extends it."""
    return bench.run(new("trunk", "one", "two", "three"))


@pytest.fixture
def calls(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each stage is asked for."""
    counted: Counter[str] = Counter()
    call = bench.studio.plugins.call

    def counting(stage: str, *args: Any, **kwargs: Any) -> Any:
        counted[stage.removeprefix("svid_")] += 1
        return call(stage, *args, **kwargs)

    monkeypatch.setattr(bench.studio.plugins, "call", counting)
    return counted


def segment(bench: Workbench, video: dict[str, Any], number: int) -> dict[str, Any]:
    return bench.show(video["segments"][number - 1]["id"])


def ids(video: dict[str, Any]) -> list[str]:
    return [one["id"] for one in video["segments"]]


def film(video: dict[str, Any]) -> torch.Tensor:
    """The frames of a video's newest file."""
    return frames_of(video["artifacts"][-1]["path"])


def last_frame(bench: Workbench, one: dict[str, Any]) -> str:
    """The digest of what the last frame of a segment shows."""
    tail = bench.studio.blobs.get_tensors(one["tail"])["tail"]
    return pixel_digest(Image.fromarray(tail[-1].numpy()))


def picture(bench: Workbench, name: str) -> str:
    return pixel_digest(Image.open(bench.home.inbox / name).convert("RGB"))


def test_a_branch_shares_the_beginning_frame_for_frame(bench: Workbench, trunk: dict[str, Any]) -> None:
    branch = bench.run({"branch": "trunk@2", "name": "in fog", "prompts": ["fog"]})
    assert branch["id"] != trunk["id"]
    assert (branch["name"], branch["parent"], branch["fork_length"]) == ("in fog", trunk["id"], 2)
    assert ids(branch)[:2] == ids(trunk)[:2]
    assert len(ids(branch)) == 3
    assert ids(branch)[2] != ids(trunk)[2]
    assert segment(bench, branch, 3)["ask"]["prompt"] == "fog"
    assert bench.show(trunk["id"])["tip"] == trunk["tip"]
    assert branch["id"] in bench.show(trunk["id"])["forks"]
    ours, theirs = film(branch), film(trunk)
    assert len(ours) == len(theirs) == 17
    assert torch.equal(ours[:13], theirs[:13])
    assert not torch.equal(ours[13:], theirs[13:])


def test_a_branch_alone_renders_nothing(bench: Workbench, trunk: dict[str, Any], calls: Counter[str]) -> None:
    before = value(bench.home, "SELECT count(*) FROM segment")
    branch = bench.run({"branch": "trunk@2", "name": "short"})
    assert ids(branch) == ids(trunk)[:2]
    assert value(bench.home, "SELECT count(*) FROM segment") == before
    assert calls == {"join": 1}
    assert torch.equal(film(branch), film(trunk)[:13])
    # It is a video like any other.
    more = bench.run({"extend": branch["id"], "prompts": ["fog"]})
    assert ids(more)[:2] == ids(branch)
    assert len(ids(more)) == 3


def test_a_branch_without_a_name_has_its_parents(bench: Workbench) -> None:
    parent = bench.run(new("namesake", "one"))
    assert bench.run({"branch": f"{parent['id']}@1"})["name"] == "namesake"


def test_extending_before_the_tip_forks_and_at_the_tip_extends(bench: Workbench) -> None:
    video = bench.run(new("grows", "one", "two"))
    fork = bench.run({"extend": "grows@1", "name": "another", "prompts": ["other"]})
    assert fork["id"] != video["id"]
    assert fork["parent"] == video["id"]
    assert ids(fork)[:1] == ids(video)[:1]
    same = bench.run({"extend": "grows@2", "prompts": ["three"]})
    assert same["id"] == video["id"]
    assert ids(same)[:2] == ids(video)
    assert len(ids(same)) == 3
    before_last = bench.run({"extend": "grows@-2", "name": "yet another", "prompts": ["other"]})
    assert before_last["parent"] == video["id"]
    assert ids(before_last)[:2] == ids(same)[:2]
    assert bench.run({"extend": "grows@-1", "prompts": ["four"]})["id"] == video["id"]
    with pytest.raises(ManifestError, match="there is no segment 5"):
        bench.accept({"extend": "grows@5", "prompts": ["x"]})


def weights(bench: Workbench) -> str:
    """A hash of every value of both experts."""
    warm = bench.studio._warm
    assert warm is not None
    hashed = hashlib.sha256()
    for expert in ("high", "low"):
        for name, parameter in sorted(warm[1].experts[expert].state_dict().items()):
            hashed.update(name.encode())
            hashed.update(parameter.contiguous().view(torch.uint8).numpy())
    return hashed.hexdigest()


CUT = {"segment": 2, "prompt": "the camera makes a hard cut, to the gull", "strength": 0.7}


def loras(bench: Workbench, video: dict[str, Any], number: int) -> dict[str, list[tuple[str, float]]]:
    report = segment(bench, video, number)["env"]["loras"]
    return {expert: [(use["name"], use["strength"]) for use in uses] for expert, uses in report.items()}


def test_a_cut_is_made_in_its_segment_on_the_high_expert_alone(bench: Workbench, trunk: dict[str, Any]) -> None:
    before = weights(bench)
    video = bench.run(new("cut", "one", "two", "three", cuts=[{**CUT, "anchor": "gull.png"}]))
    assert weights(bench) == before
    always = [("svi-2.0-pro", 1.0)]
    assert loras(bench, video, 1) == {"high": always, "low": always}
    assert loras(bench, video, 2) == {"high": [*always, ("hard-cut", 0.7)], "low": always}
    assert loras(bench, video, 3) == {"high": always, "low": always}
    for use in segment(bench, video, 2)["env"]["loras"]["high"]:
        assert use["modules"] > 0

    asks = [segment(bench, video, number)["ask"] for number in (1, 2, 3)]
    assert [ask["prompt"] for ask in asks] == ["one", CUT["prompt"], "three"]
    assert [ask["cut"] is not None for ask in asks] == [False, True, False]
    assert asks[1]["cut"]["lora"].keys() == {"high", "steps"}
    # The segment with the cut begins in the old shot; the next one is held to the new.
    harbour, gull = picture(bench, "harbour.png"), picture(bench, "gull.png")
    assert harbour != gull
    assert [ask["anchor"] for ask in asks] == [harbour, harbour, gull]
    assert ids(video)[0] == ids(trunk)[0], "what comes before the cut is as without it"

    plain = bench.run(new("no cut", "one", CUT["prompt"], "three"))
    assert plain["segments"][1]["latents"] != video["segments"][1]["latents"], "the cut's LoRA changes something"


def test_after_a_cut_without_a_picture_its_last_frame_is_the_anchor(bench: Workbench) -> None:
    video = bench.run(new("cut to nowhere", "one", "two", "three", cuts=[CUT]))
    shot = last_frame(bench, segment(bench, video, 2))
    assert segment(bench, video, 3)["ask"]["anchor"] == shot
    # Later, and in a video that was forked at the cut.
    more = bench.run({"extend": video["id"], "prompts": ["four"]})
    assert segment(bench, more, 4)["ask"]["anchor"] == shot
    assert segment(bench, more, 4)["ask"]["cut"] is None
    fork = bench.run({"branch": f"{video['id']}@2", "prompts": ["other"]})
    assert segment(bench, fork, 3)["ask"]["anchor"] == shot
    earlier = bench.run({"branch": f"{video['id']}@1", "prompts": ["other"]})
    assert segment(bench, earlier, 2)["ask"]["anchor"] == picture(bench, "harbour.png")


def test_a_cut_may_be_the_last_segment_of_an_extension(bench: Workbench) -> None:
    bench.run(new("cut later", "one"))
    cut = bench.run({"extend": "cut later", "prompts": ["two"], "cuts": [{**CUT, "segment": 1}]})
    assert [name for name, _ in loras(bench, cut, 2)["high"]] == ["svi-2.0-pro", "hard-cut"]
    more = bench.run({"extend": "cut later", "prompts": ["three"]})
    assert segment(bench, more, 3)["ask"]["anchor"] == last_frame(bench, segment(bench, more, 2))


def test_the_same_manifest_takes_segments_as_they_are_or_proves_them(
    bench: Workbench, trunk: dict[str, Any], calls: Counter[str]
) -> None:
    again = bench.run(new("trunk again", "one", "two", "three"))
    assert calls == {"join": 1}
    assert again["id"] != trunk["id"]
    assert ids(again) == ids(trunk)
    assert again["artifacts"][0]["frames"] == 17
    assert torch.equal(film(again), film(trunk))

    calls.clear()
    proof = bench.run(new("trunk once more", "one", "two", "three", reuse=False))
    assert (calls["sample"], calls["decode"], calls["encode"]) == (3, 3, 3)
    assert ids(proof) == ids(trunk)
    reused = rows(
        bench.home,
        "SELECT v.id, s.reused FROM job_segment s JOIN job j ON j.id = s.job_id JOIN video v ON v.id = j.video_id",
    )
    assert [taken for video, taken in reused if video == again["id"]] == [1, 1, 1]
    assert [taken for video, taken in reused if video == proof["id"]] == [0, 0, 0]

    calls.clear()
    other = bench.run(new("another seed", "one", seed=6))
    assert calls["sample"] == 1
    assert ids(other)[0] != ids(trunk)[0]


def decoded(bench: Workbench, video: dict[str, Any]) -> torch.Tensor:
    """The frames of a video straight from its latents, without overlaps."""
    from svid.wan.vae import decode_frames

    warm = bench.studio._warm
    assert warm is not None
    parts = []
    for place, one in enumerate(video["segments"]):
        latents = bench.studio.blobs.get_tensors(one["latents"])["latents"]
        frames = torch.cat(list(decode_frames(warm[1].vae, latents)))
        parts.append(frames[OVERLAP if place else 0 :])
    return torch.cat(parts)


def test_another_codec_encodes_old_segments_again_from_their_latents(bench: Workbench, calls: Counter[str]) -> None:
    lossy = bench.run(new("lossy", "one", "two", seed=9, decode={"stream": False}))
    calls.clear()
    exact = bench.run({"extend": "lossy", "prompts": ["three"], "encode": {"codec": "ffv1"}})
    assert (calls["sample"], calls["decode"], calls["encode"], calls["join"]) == (1, 3, 3, 1)
    assert ids(exact)[:2] == ids(lossy)
    file = Path(exact["artifacts"][-1]["path"])
    assert (file.suffix, exact["artifacts"][-1]["codec"]) == (".mkv", "ffv1")
    assert torch.equal(frames_of(file), decoded(bench, exact))
    assert len(frames_of(file)) == 17
    # The old file is where it was, as it was.
    assert exact["artifacts"][0] == lossy["artifacts"][0]
    assert len(film(lossy)) == 13
    calls.clear()
    bench.run({"extend": "lossy", "prompts": ["four"]})
    assert (calls["decode"], calls["encode"]) == (1, 1), "the codec stays, and so do the clips"


def test_plain_image_to_video_chains_by_its_last_frame(bench: Workbench) -> None:
    small = {**SMALL, "sample": {"steps": 2, "guidance": 1.0}, "recipe": "i2v"}
    whole = bench.run(new("plain", "one", "two", "three", **small))
    assert [one["frames"] for one in whole["segments"]] == [9, 8, 8]
    assert whole["artifacts"][0]["frames"] == len(film(whole)) == 25
    ask = segment(bench, whole, 2)["ask"]
    assert (ask["variant"], ask["layout"]["motion_frames"], ask["overlap"], ask["loras"]) == ("i2v", 1, 1, [])
    assert loras(bench, whole, 2) == {"high": [], "low": []}
    bench.run(new("plain parts", "one", reuse=False, **small))
    parts = bench.run({"extend": "plain parts", "prompts": ["two", "three"], "reuse": False})
    assert ids(parts) == ids(whole)


def test_what_would_show_no_new_frame_is_refused(bench: Workbench) -> None:
    with pytest.raises(ManifestError, match="frames: expected more than 5, which every segment repeats"):
        bench.accept(new("too short", "one", "two", frames=5))
    one = bench.run(new("short", "one", frames=5))
    assert one["artifacts"][0]["frames"] == 5
    assert len(bench.run({"branch": f"{one['id']}@1"})["segments"]) == 1
    with pytest.raises(ManifestError, match="expected more than 5"):
        bench.accept({"extend": one["id"], "prompts": ["two"]})
    longer = bench.run({"extend": one["id"], "prompts": ["two"], "frames": 9})
    assert [segment["frames"] for segment in longer["segments"]] == [5, 4]
