"""What a manifest may say, where a video begins, and what goes with what."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from svid.canonical import canonical
from svid.errors import ManifestError
from svid.manifest.across import segment_count
from svid.manifest.model import Manifest
from svid.manifest.read import build_options, parse
from tests.unit.manifests import MORE, NEW, OPTIONS, TintOptions, check, one


def test_everything_that_can_be_said() -> None:
    text = """
    name = "harbour at dawn"
    recipe = "svi-2.0-pro"
    model = "wan22-mini"
    image = "harbour.png"
    anchor = "anchor.png"
    prompts = ["boats rest", "a gull lands"]
    negative = ""
    segments = 4
    seed = 42
    width = 832
    height = 480
    frames = 81
    fps = 15
    priority = -2
    reuse = false
    [sample]
    sampler = "euler"
    steps = 6
    shift = 5
    guidance = { high = 3.5, low = 1 }
    boundary = 0.9
    [[loras]]
    name = "lightx2v-1022"
    high = 0.5
    [[cuts]]
    segment = 3
    prompt = "a hard cut to the gull"
    anchor = "gull.png"
    [encode]
    codec = "h264"
    quality = 18
    [options.tint]
    amount = 1
    colours = ["red"]
    """
    manifest = check(parse(text.encode(), ".toml", "m.toml"))
    assert manifest.prompts == ("boats rest", "a gull lands")
    assert manifest.fps == 15.0
    assert isinstance(manifest.fps, float)
    assert manifest.sample.guidance is not None
    assert (manifest.sample.guidance.high, manifest.sample.guidance.low) == (3.5, 1.0)
    assert (manifest.loras[0].high, manifest.loras[0].low) == (0.5, 1.0)
    assert (manifest.cuts[0].lora, manifest.cuts[0].strength) == ("hard-cut", 1.0)
    assert manifest.options == {"tint": {"amount": 1, "colours": ["red"]}}


def test_what_is_left_out_is_left_open() -> None:
    manifest = check(MORE)
    assert manifest.prompts is None
    assert manifest.segments is None
    assert manifest.seed is None
    assert (manifest.priority, manifest.reuse, manifest.loras, manifest.cuts) == (0, True, (), ())
    assert manifest.sample.guidance is None


@pytest.mark.parametrize(
    "data", [NEW, MORE, {"branch": "harbour@3"}, NEW | {"sample": {"sigmas": [1, 0.5], "guidance": 2}}]
)
def test_it_survives_storage(data: dict[str, Any]) -> None:
    manifest = check(data)
    assert Manifest.model_validate(manifest.model_dump(mode="json")) == manifest
    assert Manifest.model_validate_json(canonical(manifest.model_dump(mode="json"))) == manifest


def test_it_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        check(NEW).seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (NEW, 1),
        (NEW | {"prompts": ["a", "b", "c"]}, 3),
        (NEW | {"segments": 7}, 7),
        (MORE, 1),
        (MORE | {"prompts": ["a", "b"]}, 2),
        ({"branch": "v@1"}, 0),
        ({"branch": "v@1", "segments": 0}, 0),
        ({"branch": "v@1", "prompts": ["a", "b"]}, 2),
    ],
)
def test_how_many_segments(data: dict[str, Any], count: int) -> None:
    check(data)
    assert segment_count(data) == count


def test_guidance_may_be_one_number() -> None:
    guidance = check(NEW | {"sample": {"guidance": 3}}).sample.guidance
    assert guidance is not None
    assert (guidance.high, guidance.low) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({}, "image"),
        ({"extend": "a", "branch": "b@1"}, "branch"),
        ({"image": "a.png"}, "prompts"),
        ({"clip": "a.mp4"}, "prompts"),
        ({"clip": "a.mp4", "image": "a.png", "prompts": ["a"]}, "clip"),
        ({"extend": "v", "max_width": 64}, "max_width"),
        ({"branch": "harbour"}, "branch"),
        ({"branch": "harbour@0"}, "branch"),
        ({"branch": "harbour@-1"}, "branch"),
        ({"branch": "harbour@x"}, "branch"),
        ({"branch": "@3"}, "branch"),
        ({"branch": "harbour@²"}, "branch"),
        ({"branch": "v@1", "segments": 0, "prompts": ["a"]}, "prompts"),
        ({"branch": "v@1", "cuts": [{"segment": 1, "prompt": "x"}]}, "cuts[0].segment"),
    ],
)
def test_where_a_video_begins(data: dict[str, Any], where: str) -> None:
    assert one(data).where == where


def test_a_name_with_an_at_sign_can_be_branched() -> None:
    assert check({"branch": "me@home@12"}).branch == "me@home@12"


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"redo": "a@2", "segments": 2}, "segments"),
        ({"redo": "a", "prompts": ["one", "two"]}, "prompts"),
        ({"redo": "a", "cuts": [{"segment": 1, "prompt": "x"}]}, "cuts"),
        ({"redo": "a", "fps": 8}, "fps"),
        ({"redo": "a", "encode": {"quality": 3}}, "encode"),
        ({"redo": "a", "extend": "b"}, "redo"),
        ({"redo": ""}, "redo"),
        ({"redo": "a\nb"}, "redo"),
        ({"extend": "a", "ripple": True}, "ripple"),
        ({"redo": "a", "ripple": 1}, "ripple"),
        ({"reproduce": "a", "seed": 3}, "seed"),
        ({"reproduce": "a", "sample": {"steps": 3}}, "sample"),
        ({"reproduce": "a", "redo": "a"}, "reproduce"),
    ],
)
def test_what_is_asked_again_says_only_what_holds_for_it(data: dict[str, Any], where: str) -> None:
    assert one(data).where == where


def test_what_is_asked_again_may_say_the_rest() -> None:
    for data in (
        {"redo": "a@-1", "ripple": True, "prompts": ["x"], "seed": 3, "sample": {"steps": 3}},
        {"reproduce": "a", "name": "b", "priority": 3},
    ):
        manifest = check(data)
        assert Manifest.model_validate(manifest.model_dump(mode="json")) == manifest, "as jobs keep it"


def test_a_manifest_made_in_code_keeps_the_rules_between_fields() -> None:
    with pytest.raises(ValidationError, match="at most 1, one per segment"):
        Manifest(image="a.png", prompts=("a", "b"), segments=1)
    with pytest.raises(ValidationError, match="one of image, clip, extend, branch, redo and reproduce"):
        Manifest()


def test_options_of_every_plugin_are_built() -> None:
    assert build_options({}, OPTIONS) == {"tint": TintOptions()}
    built = build_options({"tint": {"amount": 1, "colours": ["red"]}}, OPTIONS)
    assert built == {"tint": TintOptions(amount=1.0, colours=("red",))}
    with pytest.raises(ManifestError, match="did you mean tint"):
        build_options({"tin": {}}, OPTIONS)


def test_a_proof_takes_no_seed_not_even_zero() -> None:
    assert one({"reproduce": "harbour", "seed": 0}).where == "seed"
