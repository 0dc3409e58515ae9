"""What a manifest may ask of conditioning, LoRAs, and seams, from the file to the frames."""

from __future__ import annotations

import json
from typing import Any

import av
import pytest
import torch

from svid.api import Clip, Encoding
from svid.errors import ManifestError, Refused
from svid.media.clips import write_clip
from svid.plan.build import Planned
from svid.plan.show import plan_as_dict
from svid.workbench import Workbench
from tests.e2e.tools import BY_CLIP, LOSSLESS, SMALL, asks, bench_in, latents_of, new, picture, rows, shown
from tests.hostile.clips import film


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = bench_in(tmp_path_factory.mktemp("options") / "home")
    (made.home.inbox / "gull.png").write_bytes((made.home.root / "watch/examples/gull.png").read_bytes())
    return made


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("svi-2.0-pro", {"motion_latents": 2}),
    ("svi-2.0-pro", {"motion_latents": 0}),
    ("svi-2.0-pro", {"pad": "grey"}),
    ("svi-2.0-pro", {"pad": "black"}),
    ("svi-2.0-pro", {"pad": "reference"}),
    ("svi-2.0-pro", {"mask": "all-given"}),
    ("svi-2.0-pro", {"anchor_strength": 0.5}),
    ("svi-2.0-pro", {"motion_amplitude": 1.3}),
    ("svi-2.0-wan22", {"motion_frames": 5}),
    ("svi-2.0-wan22", {"motion_frames": 3, "mask": "given-frames"}),
    ("svi-2.0-wan22", {"motion_frames": 3, "repeat_first": True}),
    ("svi-2.0-wan22", {"pad": "zero_latent"}),
    ("svi-2.0-wan22", {"pad": "black"}),
    ("svi-2.0-wan22", {"pad_copies": 2}),
    ("svi-2.0-wan22", {"reference_strength": 0.75}),
    ("svi-2.0-wan22", {"motion_amplitude": 1.3, "amplitude_from": 2}),
]


@pytest.mark.parametrize(("recipe", "options"), CHANGES)
def test_every_option_of_conditioning_changes_what_it_is_for(
    bench: Workbench, recipe: str, options: dict[str, Any]
) -> None:
    """And nothing that comes before it: the same seeds give another second segment."""
    plain = shown(bench, new("plain", "one", "two", recipe=recipe, frames=13))
    changed = shown(bench, new("changed", "one", "two", recipe=recipe, frames=13, conditioning=options))
    assert not torch.equal(latents_of(bench, plain, 2), latents_of(bench, changed, 2))
    assert {key: asks(bench, changed)[1]["layout"][key] for key in options} == options
    longer = shown(bench, {"extend": changed["id"], "prompts": ["three"]})
    assert asks(bench, longer)[2]["layout"] == asks(bench, changed)[1]["layout"], "an extension goes on as it was"


@pytest.mark.parametrize(
    ("recipe", "options", "where", "message"),
    [
        ("svi-2.0-pro", {"motion_frames": 3}, "conditioning.motion_frames", "hands over latents"),
        ("svi-2.0-pro", {"reference_strength": 2.0}, "conditioning.reference_strength", "zeros for padding"),
        ("svi-2.0-pro", {"end_mask": "last-latent"}, "conditioning.end_mask", "no end picture"),
        ("svi-2.0-pro", {"amplitude_from": 2}, "conditioning.amplitude_from", "which is off"),
        ("svi-2.0-wan22", {"motion_latents": 1}, "conditioning.motion_latents", "hands over frames"),
        ("svi-2.0-wan22", {"anchor_strength": 0.5}, "conditioning.anchor_strength", "has the anchor in the padding"),
        ("i2v", {"pad_copies": 3}, "conditioning.pad_copies", "no reference"),
        ("i2v", {"anchor_strength": 2.0}, "conditioning.anchor_strength", "has no anchor"),
        ("i2v", {"mask": "all-given"}, "conditioning.mask", "is given one frame"),
        ("i2v", {"repeat_first": True}, "conditioning.repeat_first", "one frame of a segment"),
        ("i2v", {"pad": "zero_latent", "motion_frames": 2}, "conditioning.pad", "4m + 1 motion frames"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    bench: Workbench, recipe: str, options: dict[str, Any], where: str, message: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        bench.accept(new("no", "one", recipe=recipe, conditioning=options))
    assert [(problem.where, message in problem.message) for problem in caught.value.problems] == [(where, True)]


HARD = {"segment": 1, "prompt": "the camera makes a hard cut, to a close up of a star"}


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"negative": "blurred", "sample": {"guidance": {"high": 1, "low": 1}}}, "negative"),
        ({"cuts": [HARD], "sample": {"sigmas": [0.8, 0.5]}}, "cuts[0]"),
        ({"sample": {"sigmas": [1.0, 0.5], "shift": 8}}, "sample.shift"),
    ],
)
def test_what_no_step_would_look_at_is_refused(bench: Workbench, asked: dict[str, Any], where: str) -> None:
    with pytest.raises(ManifestError) as caught:
        bench.accept(new("no", "one", **asked))
    assert [problem.where for problem in caught.value.problems] == [where]


def test_what_the_rest_of_a_video_would_not_look_at_is_refused(bench: Workbench) -> None:
    asked = {"sample": {"sigmas": [1.0, 0.5]}, "recipe": "svi-2.0-wan22", "conditioning": {"motion_frames": 3}}
    video = shown(bench, new("fixed", "one", **asked))
    for more, where in (
        ({"sample": {"shift": 8}}, "sample.shift"),
        ({"conditioning": {"repeat_first": True}}, "conditioning.repeat_first"),
    ):
        with pytest.raises(ManifestError) as caught:
            bench.accept({"extend": video["id"], "prompts": ["two"], **more})
        assert [problem.where for problem in caught.value.problems] == [where]
    shown(bench, {"extend": video["id"], "prompts": ["two"], "sample": {"shift": 8, "steps": 2}})


def test_an_anchor_per_segment(bench: Workbench) -> None:
    video = shown(bench, new("shots", "one", segments=3, anchors=["harbour.png", "gull.png"]))
    first, second, third = (ask["anchor"] for ask in asks(bench, video))
    assert first != second == third
    longer = shown(bench, {"extend": video["id"]})
    assert asks(bench, longer)[3]["anchor"] == third


@pytest.mark.parametrize("recipe", ["svi-2.0-pro", "svi-2.0-wan22"])
def test_a_segment_may_end_with_a_picture(bench: Workbench, recipe: str) -> None:
    plain = shown(bench, new("open", "one", segments=2, recipe=recipe))
    masks = [
        shown(
            bench,
            new("end", "one", segments=2, recipe=recipe, ends=[{"image": "gull.png"}], conditioning={"end_mask": mask}),
        )
        for mask in ("last-frame", "last-latent")
    ]
    two = [latents_of(bench, video, 2) for video in (plain, *masks)]
    assert [ask["end_image"] is not None for ask in asks(bench, masks[0])] == [False, True]
    assert not torch.equal(two[0], two[1])
    assert not torch.equal(two[1], two[2])


def test_a_lora_for_some_segments_and_some_steps(bench: Workbench) -> None:
    off = [{"name": "svi-2.0-pro", "high": 0.0, "low": 0.0, "segments": [1]}]
    plain, video = shown(bench, new("on", "one", segments=2)), shown(bench, new("off", "one", segments=2, loras=off))
    strengths = [ask["loras"][0]["high"]["strength"] for ask in asks(bench, video)]
    assert strengths == [0.0, 1.0]
    assert not torch.equal(latents_of(bench, plain, 1), latents_of(bench, video, 1))
    none = [{"name": "svi-2.0-pro", "high": 1.0, "low": 1.0, "steps": [1, 1]}]
    some = shown(bench, new("some", "one", segments=1, loras=none, sample={"steps": 4}))
    every = shown(bench, new("every", "one", segments=1, sample={"steps": 4}))
    env = bench.show(some["segments"][0]["id"])["env"]["loras"]
    assert env["high"][0]["steps"] == [1, 1]
    assert not torch.equal(latents_of(bench, some, 1), latents_of(bench, every, 1))
    whole = [{"name": "svi-2.0-pro", "steps": [1, 2]}, {"name": "svi-2.0-pro", "steps": [3, 4]}]
    parts = shown(bench, new("parts", "one", segments=2, loras=whole, sample={"steps": 4}))
    again = shown(bench, new("again", "one", segments=2, sample={"steps": 4}))
    for number in (1, 2):
        assert torch.equal(latents_of(bench, parts, number), latents_of(bench, again, number)), "the same at every step"


def test_steps_that_there_are_not_are_refused(bench: Workbench) -> None:
    with pytest.raises(ManifestError, match=r"loras\[0\]\.steps: expected at most 2, the steps of a segment, found 3"):
        bench.accept(new("no", "one", loras=[{"name": "svi-2.0-pro", "steps": [1, 3]}]))


def test_a_blended_seam_mixes_the_frames_that_both_have(bench: Workbench) -> None:
    cut, blend, tail = (
        shown(bench, new(seam, "one", "two", frames=13, conditioning={"seam": seam}, **BY_CLIP, **LOSSLESS))
        for seam in ("head", "blend", "tail")
    )
    assert [torch.equal(latents_of(bench, cut, n), latents_of(bench, blend, n)) for n in (1, 2)] == [True, True]
    old, new_, mixed = picture(cut).float(), picture(tail).float(), picture(blend)
    assert len(old) == len(new_) == len(mixed) == 21
    same = torch.ones(21, dtype=torch.bool)
    same[8:13] = False
    assert torch.equal(old[same], new_[same])
    assert torch.equal(mixed[same].float(), old[same])
    for place in range(5):
        share = (place + 1) / 6
        expected = (1 - share) * old[8 + place] + share * new_[8 + place]
        assert (mixed[8 + place] - expected).abs().max() <= 0.51
    assert [segment["frames"] for segment in blend["segments"]] == [8, 13]
    assert not torch.equal(old[8:13], new_[8:13])


def test_a_blended_seam_over_an_extension_is_the_same(bench: Workbench) -> None:
    options: dict[str, Any] = {"conditioning": {"seam": "blend"}, "frames": 13, **LOSSLESS}
    whole = shown(bench, new("whole", "one", "two", "three", **options))
    begun = shown(bench, new("begun", "one", "two", **options))
    assert torch.equal(picture(shown(bench, {"extend": begun["id"], "prompts": ["three"]})), picture(whole))


def test_a_cut_trims_its_head_where_seams_are_blended(bench: Workbench) -> None:
    cuts = [{"segment": 2, "prompt": "the camera makes a hard cut, to a gull", "end_image": "gull.png"}]
    video = shown(bench, new("cut", "one", segments=3, frames=13, cuts=cuts, conditioning={"seam": "blend"}))
    seams = [(ask["overlap"], ask["parent_trim"], ask["blend"]) for ask in asks(bench, video)]
    assert seams == [(0, 0, 0), (5, 0, 0), (0, 5, 5)]
    _, during, after = asks(bench, video)
    assert after["anchor"] == during["end_image"] != during["anchor"], "the new shot holds from the next segment on"
    assert len(picture(video)) == 13 + (13 - 5 - 5) + 13


def test_another_recipe_within_a_video_repeats_no_frame_and_loses_none(bench: Workbench) -> None:
    """A seam is the later segment's: what the earlier one's recipe would do at its end is not done as well."""
    video = shown(bench, new("mixed", "one", "two", recipe="svi-2.0-wan22-fast"))
    longer = shown(bench, {"extend": video["id"], "prompts": ["three"], "recipe": "svi-2.0-pro", "fps": 16.0, **SMALL})
    assert [segment["frames"] for segment in longer["segments"]] == [8, 9, 4]
    assert len(picture(longer)) == 21


def test_a_trigger_that_the_prompt_of_a_cut_lacks_is_named(bench: Workbench) -> None:
    with pytest.raises(ManifestError, match=r"cuts\[0\]\.prompt: expected the words .* 'the camera makes a hard cut'"):
        bench.accept(new("no", "one", cuts=[{"segment": 1, "prompt": "a gull"}]))


@pytest.fixture(scope="module")
def clip(bench: Workbench) -> str:
    """A clip of 23 frames of another size beside the manifests."""
    y, x, t = torch.meshgrid(torch.arange(48), torch.arange(80), torch.arange(23), indexing="ij")
    waves = torch.stack([(128 + 60 * torch.sin((x + 2 * t) / 9 + c) + 40 * torch.cos(y / 7)) for c in range(3)], -1)
    frames = waves.permute(2, 0, 1, 3).clamp(0, 255).to(torch.uint8)
    path = bench.home.inbox / "real.mkv"
    Clip(path, write_clip(frames.split(4), path, 24.0, Encoding("ffv1")))
    return path.name


@pytest.mark.parametrize("recipe", ["svi-2.0-pro", "svi-2.0-wan22"])
def test_a_video_goes_on_from_a_real_clip(bench: Workbench, clip: str, recipe: str) -> None:
    manifest = {"name": "real", "clip": clip, "prompts": ["one", "two"], "width": 32, "height": 32, "frames": 9}
    video = shown(bench, {**manifest, "recipe": recipe, "sample": {"steps": 2}, **LOSSLESS})
    overlap = 5 if recipe == "svi-2.0-pro" else 1
    assert [segment["frames"] for segment in video["segments"]] == [23, 9 - overlap, 9 - overlap]
    assert [segment["lossy"] for segment in video["segments"]] == [True, False, False]
    assert video["artifacts"][0]["fps"] == 24
    first = asks(bench, video)[0]
    assert first["clip"]["last"] == 9
    latents = latents_of(bench, video, 1)
    assert latents.shape == (1, 16, 3, 4, 4), "the last nine frames"
    longer = shown(bench, {"extend": video["id"], "prompts": ["three"]})
    assert torch.equal(picture(longer)[: 23 + 2 * (9 - overlap)], picture(video))
    assert rows(bench.home, "select count(*) from asset where source = ?", clip) == [(1,)]
    recoded = shown(bench, {"extend": video["id"], "segments": 1, "encode": {"codec": "h264"}})
    assert len(picture(recoded)) == 23 + 4 * (9 - overlap), "the clip is read and encoded again"


def test_a_plan_is_shown_without_comparing_its_segments(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with each before it, as a list looks for its own, is work that grows with the square of their number."""
    data = json.dumps(new("long", "one", segments=50)).encode()
    request = bench.desk.understand(data, "long.json", bench.home.inbox)
    monkeypatch.setattr(Planned, "__eq__", lambda one, other: pytest.fail("two segments were compared"))
    found = plan_as_dict(bench.desk, request)
    assert [one["number"] for one in found["segments"]] == list(range(1, 51))
    assert [one["shown"] for one in found["segments"]][:2] == [9, 4]


def test_damage_inside_a_clip_is_the_clip_s_by_its_name(bench: Workbench) -> None:
    path = film(bench.home.inbox / "torn.mp4", frames=30, group=10)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as source:
        inside = [packet.pos + 8 for packet in source.demux(video=0) if packet.size][12]
    data[inside : inside + 40] = bytes(byte ^ 0x5A for byte in data[inside : inside + 40])
    path.write_bytes(data)
    with pytest.raises(Refused) as caught:
        shown(bench, {"name": "torn", "clip": "torn.mp4", "prompts": ["one"], "width": 32, "height": 32, "frames": 9})
    assert "torn.mp4" in str(caught.value)
    assert "db/blobs" not in str(caught.value)


def test_a_clip_that_is_none_or_too_short_is_refused(bench: Workbench, clip: str) -> None:
    with pytest.raises(ManifestError, match=r"clip: .*expected a whole MP4, MOV, MKV or WebM video"):
        bench.accept({"clip": "gull.png", "prompts": ["one"]})
    short = bench.home.inbox / "short.mkv"
    write_clip([torch.zeros(4, 32, 32, 3, dtype=torch.uint8)], short, 24.0, Encoding("ffv1"))
    with pytest.raises(ManifestError, match="clip: expected at least 5 frames to go on from, found 4"):
        bench.accept({"clip": "short.mkv", "prompts": ["one"]})
    with pytest.raises(ManifestError, match="fps: expected 24, the rate of the clip"):
        bench.accept({"clip": clip, "prompts": ["one"], "fps": 16.0})


def test_a_size_that_the_picture_gives(bench: Workbench) -> None:
    video = bench.accept({"image": "gull.png", "prompts": ["one"], "max_width": 32, "recipe": "svi-2.0-pro"})
    assert video is not None
    done = bench.work()
    segment = bench.show(bench.show(done.video_id)["segments"][0]["id"])
    assert (segment["width"], segment["height"]) == (32, 32)
