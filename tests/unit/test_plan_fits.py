"""What an extension or another take must fit: the frames that are there, what it was handed, its cut, its clip."""

from __future__ import annotations

from typing import Any

import pytest

from svid.api import Layout
from svid.config import Config
from svid.errors import ManifestError
from svid.manifest.model import Manifest
from svid.plan.again import plan_again
from svid.plan.build import Plan, Planned, build_plan
from svid.plan.settings import ClipRef, Parent
from tests.unit.test_plan import CONFIG, IMAGE, PICTURES, PLAIN, PRO, RECIPES, parent_of, plan_of

TAILED = PLAIN.model_copy(update={"name": "tailed", "layout": Layout(motion_frames=5, seam="tail")})
WORDS = "the camera makes a hard cut"


def after(plan: Plan, room: int) -> Parent:
    return Parent("v1", plan.length, plan.segments[-1].after, room)


def redo(takes: tuple[Planned, ...], config: Config = CONFIG, **values: Any) -> Plan:
    manifest = Manifest.model_validate({"redo": "v1", **values})
    return plan_again(manifest, config, RECIPES, {}, Parent("v1", takes[0].index, takes[0].after), takes)


@pytest.mark.parametrize("seam", ["tail", "blend"])
def test_a_seam_that_would_leave_nothing_of_the_segment_before_is_refused(seam: str) -> None:
    first = plan_of(frames=9)
    found = {"extend": "v1", "frames": 17, "conditioning": {"seam": seam}}
    with pytest.raises(ManifestError) as caught:
        plan_of(after(first, 5), **found)
    (problem,) = caught.value.problems
    assert problem.where == "conditioning.seam"
    assert problem.message == "expected fewer frames than the 5 that segment 1 shows, found 5"
    plan_of(after(first, 6), **found)
    plan_of(after(first, 1), extend="v1")  # its own head is left out


def test_a_clip_keeps_a_frame_of_its_own() -> None:
    manifest = Manifest.model_validate({"clip": "a.mp4", "prompts": ["one"], "recipe": "tailed"})
    for frames, fits in ((5, False), (6, True)):
        clip = ClipRef(sha256="3" * 64, frames=frames, fps=16.0, width=640, height=480)
        if fits:
            build_plan(manifest, CONFIG, {"tailed": TAILED}, {}, clip=clip)
        else:
            with pytest.raises(ManifestError, match="expected fewer frames than the 5 that segment 1 shows, found 5"):
                build_plan(manifest, CONFIG, {"tailed": TAILED}, {}, clip=clip)


def test_what_follows_a_redone_segment_still_has_its_frames() -> None:
    takes = plan_of(segments=3, frames=17, conditioning={"seam": "tail"}).segments[1:]
    with pytest.raises(ManifestError, match="expected fewer frames than the 4 that segment 2 shows, found 5"):
        redo(takes, frames=9, ripple=True, conditioning={"seam": "head"})
    redo(takes, frames=9, ripple=True)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"steps": 4}, "loras: of 'fast', as the video has it: expected at most 4, the steps of a segment, found 6"),
        (
            {"sampler": "heun"},
            "loras: of 'fast', as the video has it: expected a sampler that runs the model once a step",
        ),
        ({"boundary": 0.1}, "loras: of 'fast', as the video has it: would change nothing: at steps 5 to 6 another"),
    ],
)
def test_the_steps_of_a_lora_that_is_handed_on_are_checked(sample: dict[str, Any], message: str) -> None:
    before = parent_of(plan_of(loras=[{"name": "fast", "high": 0.0, "low": 1.0, "steps": [5, 6]}]))
    plan_of(before, extend="v1")
    with pytest.raises(ManifestError) as caught:
        plan_of(before, extend="v1", sample=sample)
    assert message in str(caught.value)
    plan_of(before, extend="v1", sample=sample, loras=[{"name": "fast"}])


def test_an_option_that_is_said_leaves_the_plugin_s_others_as_they_were() -> None:
    before = parent_of(plan_of(options={"tint": {"red": 20, "green": 30}, "other": {"x": 1}}))
    assert plan_of(before, extend="v1", options={"tint": {"red": 21}}).settings.options == {
        "tint": {"red": 21, "green": 30},
        "other": {"x": 1},
    }


def test_another_take_of_a_segment_with_a_cut_has_the_words_of_its_lora() -> None:
    table = {"high": "h", "trigger": WORDS}
    told = CONFIG.model_dump() | {"loras": {**CONFIG.model_dump()["loras"], "hard-cut": table}}
    config = Config.model_validate(told)
    config.models["wan22-mini"].loras.clear()
    manifest = {
        "image": "a.png",
        "prompts": ["one"],
        "segments": 2,
        "cuts": [{"segment": 2, "prompt": f"{WORDS}: gull"}],
    }
    takes = build_plan(Manifest.model_validate(manifest), config, {PRO.name: PRO}, PICTURES).segments[1:]
    with pytest.raises(ManifestError, match=r"prompts\[0\]: expected the words that set off the LoRA 'hard-cut'"):
        redo(takes, config, prompts=["a pelican"])
    assert redo(takes, config, prompts=[f"{WORDS}: a pelican"]).segments[0].cut == takes[0].cut
    assert redo(takes, config, seed=3).segments[0].settings.prompt == f"{WORDS}: gull"


@pytest.mark.parametrize("written", [29.97, 29.97003, None])
def test_a_rate_that_is_written_short_is_the_clip_s(written: float | None) -> None:
    clip = ClipRef(sha256="3" * 64, frames=40, fps=30000 / 1001, width=640, height=480)
    manifest = Manifest.model_validate({"clip": "a.mp4", "prompts": ["one"], "fps": written})
    assert build_plan(manifest, CONFIG, RECIPES, {}, clip=clip).settings.fps == 30000 / 1001
    other = Manifest.model_validate({"clip": "a.mp4", "prompts": ["one"], "fps": 30.0})
    with pytest.raises(ManifestError, match=r"fps: expected 29\.97, the rate of the clip"):
        build_plan(other, CONFIG, RECIPES, {}, clip=clip)


@pytest.mark.parametrize(
    "said", [{"seed": 9}, {"sample": {"steps": 7}}, {"negative": "ugly"}, {"recipe": "i2v"}, {"reuse": False}]
)
def test_a_branch_that_renders_nothing_says_nothing_of_rendering(said: dict[str, Any]) -> None:
    before = parent_of(plan_of())
    (key,) = said
    with pytest.raises(ManifestError, match=f"{key}: would change nothing: a branch without new segments"):
        plan_of(before, branch="v1@1", **said)
    plan_of(before, branch="v1@1", name="other", priority=3, encode={"codec": "ffv1"}, segments=0)
    assert plan_of(before, branch="v1@1", prompts=["two"], **said).length == 2


def test_one_transformer_has_one_guidance_scale() -> None:
    old = PLAIN.model_copy(update={"name": "old", "base": "wan2.1-i2v", "boundary": 0.0})
    assert "low" not in old.experts

    def plan(guidance: Any) -> Plan:
        values = {"recipe": "old", "image": "a.png", "prompts": ["one"], "sample": {"guidance": guidance}}
        return build_plan(Manifest.model_validate(values), CONFIG, {"old": old}, PICTURES)

    with pytest.raises(ManifestError, match=r"sample\.guidance\.low: would change nothing: old has one transformer"):
        plan({"high": 3, "low": 4})
    assert plan(3).settings.sampling.guidance_high == 3


def test_another_take_of_the_first_segment_begins_with_the_same_picture() -> None:
    takes = plan_of().segments
    manifest = Manifest.model_validate({"redo": "v1", "ripple": True, "anchor": "b.png", "seed": 3})
    parent = Parent("v1", 0, takes[0].after)
    other = IMAGE.model_copy(update={"pixels": "other"})
    with pytest.raises(
        ManifestError, match=r"anchor: expected the start picture, found another one: svi-2\.0-pro begins"
    ):
        plan_again(manifest, CONFIG, RECIPES, {"anchor": other}, parent, takes)
    assert plan_again(manifest, CONFIG, RECIPES, {"anchor": IMAGE}, parent, takes).segments[0].seed == 3


def test_another_recipe_goes_on_as_a_stream_where_it_can() -> None:
    before = parent_of(plan_of(decode={"stream": True}))
    assert before.settings.stream
    assert plan_of(before, extend="v1", recipe="fast").settings.stream
    assert not plan_of(before, extend="v1", recipe="i2v").settings.stream
    assert not plan_of(parent_of(plan_of()), extend="v1", recipe="fast").settings.stream


@pytest.mark.parametrize("kind", ["recipe", "model"])
def test_what_an_old_segment_was_made_by_and_is_gone_is_told_of_the_segment(kind: str) -> None:
    first = plan_of(recipe="i2v", model="even")
    later = plan_of(parent_of(first), extend="v1", recipe="fast", model="big")
    last = plan_of(parent_of(later), extend="v1", recipe="i2v", model="even")
    takes = (*first.segments, *later.segments, *last.segments)
    gone = {"recipe": "fast", "model": "big"}[kind]
    recipes = {name: one for name, one in RECIPES.items() if name != gone}
    config = CONFIG.model_copy(update={"models": {name: one for name, one in CONFIG.models.items() if name != gone}})
    for asked in ({"redo": "v1@1", "ripple": True, "seed": 3, "model": "wan22-mini"}, {"reproduce": "v1"}):
        manifest = Manifest.model_validate(asked)
        with pytest.raises(ManifestError) as caught:
            plan_again(manifest, config, recipes, {}, Parent("v1", 0, takes[0].after), takes, "a.toml")
        (problem,) = caught.value.problems
        assert (problem.file, problem.where) == ("a.toml", next(iter(asked)))
        assert problem.message == f"expected a {kind} of this home, found {gone!r}, by which segment 2 was made"
        assert "did you mean" not in problem.hint
