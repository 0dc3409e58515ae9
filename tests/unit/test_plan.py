from __future__ import annotations

from typing import Any

import pytest

from svid.api import Guidance, Layout, Recipe, RecipeLora
from svid.config import Config
from svid.errors import ManifestError
from svid.manifest.model import Manifest
from svid.plan.build import Plan, build_plan, count
from svid.plan.grid import experts
from svid.plan.settings import ClipRef, Parent, PictureRef, TailRef

PRO = Recipe(
    name="svi-2.0-pro",
    variant="svi-2.0-pro",
    title="",
    source="",
    steps=50,
    guidance=Guidance(high=4, low=4),
    boundary=0.875,
    layout=Layout(motion_latents=1, pad="zero_latent"),
    loras=("svi-2.0-pro",),
    negative="blurred",
)
PLAIN = Recipe(name="i2v", variant="i2v", title="", source="", sampler="unipc", fps=16, layout=Layout(motion_frames=1))
FAST = PRO.model_copy(update={"name": "fast", "steps": 4, "guidance": Guidance(high=1, low=1), "distilled": True})
RECIPES = {recipe.name: recipe for recipe in (PRO, PLAIN, FAST)}
CONFIG = Config.model_validate(
    {
        "models": {
            "wan22-mini": {"path": "x", "width": 64, "height": 48, "steps": 8, "loras": {"hard-cut": {"high": "h"}}},
            "big": {"path": "y", "guidance": {"high": 2, "low": 1}},
            "even": {"path": "z", "guidance": 1},
        },
        "loras": {"svi-2.0-pro": {"high": "a", "low": "b"}, "fast": {"path": "c"}, "low-only": {"low": "d"}},
    }
)
IMAGE = PictureRef(sha256="1" * 64, pixels="a" * 64)
SHOT = PictureRef(sha256="2" * 64, pixels="b" * 64)
PICTURES = {"image": IMAGE}


def plan_of(parent: Parent | None = None, pictures: dict[str, PictureRef] | None = None, **values: Any) -> Plan:
    if parent is None:
        values = {"image": "a.png", "prompts": ["one"], **values}
    manifest = Manifest.model_validate(values)
    given = PICTURES if pictures is None and parent is None else pictures or {}
    return build_plan(manifest, CONFIG, RECIPES, given, parent)


def parent_of(plan: Plan) -> Parent:
    return Parent("v1", plan.length, plan.segments[-1].after)


def test_what_this_home_does_not_have_is_named_with_who_named_it() -> None:
    parent = parent_of(plan_of())
    manifest = Manifest.model_validate({"extend": "v1", "prompts": ["on"]})
    with pytest.raises(ManifestError) as caught:
        build_plan(manifest, CONFIG.model_copy(update={"models": {}}), {}, {}, parent, "more.toml")
    recipe, model = caught.value.problems
    assert (recipe.file, recipe.where) == ("more.toml", "recipe")
    assert recipe.message == "expected a recipe of this home, found 'svi-2.0-pro' as in the video that is gone on with"
    assert (model.where, model.hint) == ("model", "there is none")
    with pytest.raises(ManifestError, match="expected a recipe of this home, found 'svi-2"):
        build_plan(Manifest.model_validate({"image": "a.png", "prompts": ["one"]}), CONFIG, {}, PICTURES)


@pytest.mark.parametrize(
    ("recipe", "loras", "where", "message"),
    [
        ("svi-2.0-pro", {"svi-2.0-pro": {"high": "a"}}, "loras.svi-2.0-pro", "found none for the low-noise expert"),
        ("old", {"svi-2.0-pro": {"low": "a"}}, "loras.svi-2.0-pro", "names no file for an expert that old has"),
    ],
)
def test_a_recipe_s_lora_has_a_file_for_each_of_its_experts(
    recipe: str, loras: dict[str, Any], where: str, message: str
) -> None:
    old = PRO.model_copy(update={"name": "old", "base": "wan2.1-i2v", "boundary": 0.0})
    config = CONFIG.model_copy(update={"loras": Config.model_validate({"loras": loras}).loras})
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one"], "recipe": recipe})
    with pytest.raises(ManifestError) as caught:
        build_plan(manifest, config, {**RECIPES, "old": old}, PICTURES)
    (problem,) = caught.value.problems
    assert (problem.file, problem.where) == ("svid.toml", where)
    assert message in problem.message
    off = {**manifest.model_dump(exclude_none=True), "loras": [{"name": "svi-2.0-pro", "low": 0.0}]}
    if recipe != "old":
        build_plan(Manifest.model_validate(off), config, RECIPES, PICTURES)


def test_a_strength_for_an_expert_that_has_no_part_is_refused() -> None:
    with pytest.raises(ManifestError, match="its strength is 0 on the low-noise expert, the only one with a file"):
        plan_of(loras=[{"name": "low-only", "high": 1.0, "low": 0.0}])
    old = PRO.model_copy(update={"name": "old", "base": "wan2.1-i2v", "boundary": 0.0})
    manifest = Manifest.model_validate(
        {"image": "a.png", "prompts": ["one"], "recipe": "old", "loras": [{"name": "fast", "high": 0.5, "low": 0.2}]}
    )
    with pytest.raises(ManifestError, match="old has one transformer, which takes the strength `high`"):
        build_plan(manifest, CONFIG, {"old": old}, PICTURES)


def test_manifest_over_model_over_recipe() -> None:
    settings = plan_of(sample={"shift": 8.0}).settings
    assert (settings.width, settings.height, settings.sampling.steps) == (64, 48, 8)
    assert (settings.sampling.shift, settings.sampling.boundary) == (8.0, 0.875)
    big = plan_of(model="big", width=640, sample={"boundary": 0.9}).settings
    assert (big.width, big.height, big.sampling.steps, big.sampling.boundary) == (640, 480, 50, 0.9)
    scales = {
        name: (one.guidance_high, one.guidance_low)
        for name, one in {
            "wan22-mini": plan_of().settings.sampling,
            "big": plan_of(model="big").settings.sampling,
            "even": plan_of(model="even").settings.sampling,
            "told": plan_of(model="even", sample={"guidance": 7.0}).settings.sampling,
        }.items()
    }
    own = (PRO.guidance.high, PRO.guidance.low)
    assert scales == {"wan22-mini": own, "big": (2, 1), "even": (1, 1), "told": (7, 7)}


def test_a_models_entry_leaves_the_steps_of_a_distilled_lora_alone() -> None:
    short, guided = (plan_of(recipe="fast", model=model).settings for model in ("wan22-mini", "big"))
    assert (short.width, short.sampling.steps) == (64, 4)
    assert (guided.sampling.guidance_high, guided.sampling.guidance_low) == (1, 1)


def test_the_last_prompt_repeats_and_seeds_follow_the_authors_rule() -> None:
    plan = plan_of(prompts=["one", "two"], segments=4, seed=7)
    assert [one.settings.prompt for one in plan.segments] == ["one", "two", "two", "two"]
    assert [one.seed for one in plan.segments] == [7, 49, 91, 133]


def test_a_recipe_may_use_each_prompt_for_several_segments() -> None:
    twice = PRO.model_copy(update={"prompt_repeat": 2})
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one", "two"]})
    plan = build_plan(manifest, CONFIG, {twice.name: twice}, PICTURES)
    assert [one.settings.prompt for one in plan.segments] == ["one", "one", "two", "two"]
    few = Manifest.model_validate({"image": "a.png", "prompts": ["one", "two"], "segments": 2})
    with pytest.raises(ManifestError, match=r"prompts: expected at most 1, as svi-2\.0-pro uses each for 2 segments"):
        build_plan(few, CONFIG, {twice.name: twice}, PICTURES)


def test_what_is_for_segments_that_there_will_not_be_is_refused_by_the_plan() -> None:
    twice = PRO.model_copy(update={"prompt_repeat": 2})
    beyond = {
        "cuts": [{"segment": 4, "prompt": "x", "lora": "hard-cut"}, {"segment": 5, "prompt": "x", "lora": "hard-cut"}],
        "ends": [{"image": "a.png", "segment": 5}],
        "loras": [{"name": "fast", "segments": [3, 5]}],
        "anchors": ["a.png"] * 5,
    }
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one", "two"], **beyond})
    with pytest.raises(ManifestError) as caught:
        build_plan(manifest, CONFIG, {twice.name: twice}, PICTURES)
    found = [problem.where for problem in caught.value.problems]
    assert found == ["cuts[1].segment", "ends[0].segment", "loras[0].segments[1]", "anchors"]
    assert "expected 1 to 4, the segments of this job, found 5" in caught.value.problems[0].message


def test_an_anchor_that_nobody_looks_at_is_refused() -> None:
    anchored = PLAIN.model_copy(update={"name": "anchored", "layout": Layout(motion_frames=1, pad="reference")})
    told = {"image": "a.png", "prompts": ["one"], "recipe": "anchored", "anchor": "b.png"}
    pictures = {**PICTURES, "anchor": SHOT}
    assert build_plan(Manifest.model_validate(told), CONFIG, {"anchored": anchored}, pictures).settings.anchor == SHOT
    grey = Manifest.model_validate({**told, "conditioning": {"pad": "grey"}})
    with pytest.raises(ManifestError, match="anchor: would change nothing: anchored has no anchor with pad = 'grey'"):
        build_plan(grey, CONFIG, {"anchored": anchored}, pictures)


def test_a_recipe_s_loras_come_at_its_strengths() -> None:
    fast = RecipeLora(name="fast", high=0.5)
    recipe = Recipe.model_validate({**PRO.model_dump(), "loras": (fast, "svi-2.0-pro")})
    assert recipe.loras == (fast, RecipeLora(name="svi-2.0-pro", high=1.0, low=1.0))
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one"]})
    (segment,) = build_plan(manifest, CONFIG, {recipe.name: recipe}, PICTURES).segments
    strengths = [(lora.name, lora.high, lora.low) for lora in segment.settings.loras]
    assert strengths == [("fast", 0.5, 1.0), ("svi-2.0-pro", 1.0, 1.0)]


def test_one_transformer_takes_no_boundary() -> None:
    one = Recipe(name="i2v", variant="i2v", title="", source="", base="wan2.1-i2v", boundary=0.0)
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one"], "recipe": "i2v"})
    assert build_plan(manifest, CONFIG, {"i2v": one}, PICTURES).settings.sampling.boundary == 0
    more = manifest.model_copy(update={"sample": manifest.sample.model_copy(update={"boundary": 0.9})})
    with pytest.raises(ManifestError, match=r"sample\.boundary: expected 0, as Wan 2\.1 has one transformer"):
        build_plan(more, CONFIG, {"i2v": one}, PICTURES)


def test_seeds_stay_within_what_a_generator_takes() -> None:
    assert plan_of(seed=2**63 - 1, segments=2).segments[1].seed == 41


def test_an_extension_that_says_nothing_goes_on_exactly_as_before() -> None:
    whole = plan_of(prompts=["one", "two"], segments=4, seed=5, loras=[{"name": "fast", "high": 0.5}], frames=17)
    half = plan_of(prompts=["one", "two"], segments=2, seed=5, loras=[{"name": "fast", "high": 0.5}], frames=17)
    rest = plan_of(parent_of(half), extend="v1", segments=2)
    assert rest.segments == whole.segments[2:]


def test_an_extension_may_change_what_is_not_the_video() -> None:
    rest = plan_of(parent_of(plan_of()), extend="v1", seed=9, sample={"steps": 3}, negative="dull")
    (segment,) = rest.segments
    assert (segment.seed, segment.settings.sampling.steps, segment.settings.negative) == (51, 3, "dull")


def test_an_extension_by_another_recipe_takes_its_numbers_and_keeps_the_size() -> None:
    rest = plan_of(parent_of(plan_of(width=96)), extend="v1", recipe="i2v", fps=16.0)
    assert (rest.settings.sampling.sampler, rest.settings.width, rest.settings.loras) == ("unipc", 96, ())


@pytest.mark.parametrize(("key", "value"), [("width", 96), ("height", 96), ("fps", 30.0)])
def test_what_makes_it_one_video_can_not_change(key: str, value: float) -> None:
    with pytest.raises(ManifestError, match=f"{key}: expected .* as the video v1 has, found"):
        plan_of(parent_of(plan_of()), extend="v1", **{key: value})


def test_a_cut_is_for_one_segment_and_its_shot_holds_from_the_next_on() -> None:
    cuts = [{"segment": 2, "prompt": "cut to the gull", "anchor": "gull.png", "strength": 0.8}]
    pictures = {**PICTURES, "cuts[0].anchor": SHOT}
    first, second, third = plan_of(segments=3, cuts=cuts, pictures=pictures).segments
    assert [one.cut is not None for one in (first, second, third)] == [False, True, False]
    assert second.cut is not None
    assert (second.cut.lora, second.cut.strength) == ("hard-cut", 0.8)
    assert [one.settings.prompt for one in (first, second, third)] == ["one", "cut to the gull", "one"]
    assert [one.settings.anchor for one in (first, second, third)] == [IMAGE, IMAGE, SHOT]


def test_a_cut_without_a_picture_is_held_to_its_own_last_frame() -> None:
    plan = plan_of(segments=3, cuts=[{"segment": 2, "prompt": "cut"}])
    assert plan.segments[2].settings.anchor == TailRef(tail_of=1)
    more = plan_of(parent_of(plan), extend="v1")
    assert more.segments[0].settings.anchor == TailRef(tail_of=1)


def test_a_lora_named_again_gets_the_new_strength() -> None:
    plan = plan_of(loras=[{"name": "svi-2.0-pro", "high": 0.5, "low": 1.0}])
    assert [(lora.name, lora.high, lora.low) for lora in plan.settings.loras] == [("svi-2.0-pro", 0.5, 1.0)]


def test_strengths_for_some_segments_take_the_place_of_the_others_there_alone() -> None:
    off = [{"name": "svi-2.0-pro", "high": 0, "low": 0, "segments": [1]}, {"name": "fast", "segments": [1, 3]}]
    plan = plan_of(segments=3, loras=[*off, {"name": "fast", "high": 0.5, "steps": [1, 4]}])
    found = [[(lora.name, lora.high, lora.steps) for lora in one.loras] for one in plan.segments]
    assert found[0] == [("svi-2.0-pro", 0, None), ("fast", 1, None)]
    assert found[1] == [("svi-2.0-pro", 1, None), ("fast", 0.5, (1, 4))]
    assert found[2] == [("svi-2.0-pro", 1, None), ("fast", 1, None)]
    more = plan_of(parent_of(plan), extend="v1")
    assert more.segments[0].loras == plan.segments[1].loras, "what was for some segments is not handed on"


def test_a_lora_that_is_only_on_where_its_expert_rests_is_refused() -> None:
    """At 8 steps, shift 5 and boundary 0.875 the high-noise expert has the first four."""
    assert experts("euler", 8, 5.0, None, 0.875) == (4, 4)
    plan_of(loras=[{"name": "low-only", "steps": [4, 5]}])
    with pytest.raises(ManifestError, match=r"loras\[0\]\.steps: would change nothing: at steps 1 to 4 another expert"):
        plan_of(loras=[{"name": "low-only", "steps": [1, 4]}])
    with pytest.raises(ManifestError, match="would change nothing"):
        plan_of(loras=[{"name": "fast", "high": 0.0, "low": 1.0, "steps": [2, 3]}])


def test_anchors_are_one_per_segment_and_the_last_holds() -> None:
    pictures = {**PICTURES, "anchors[0]": IMAGE, "anchors[1]": SHOT}
    plan = plan_of(segments=3, anchors=["a.png", "b.png"], pictures=pictures)
    assert [one.settings.anchor for one in plan.segments] == [IMAGE, SHOT, SHOT]
    assert plan_of(parent_of(plan), extend="v1").segments[0].settings.anchor == SHOT


def test_an_end_is_the_last_segment_s_unless_it_says_which() -> None:
    pictures = {**PICTURES, "ends[0].image": SHOT, "ends[1].image": IMAGE}
    plan = plan_of(segments=3, ends=[{"image": "b.png"}, {"image": "a.png", "segment": 1}], pictures=pictures)
    assert [one.end for one in plan.segments] == [IMAGE, None, SHOT]


def test_a_clip_is_the_first_segment_and_its_last_frame_the_anchor() -> None:
    clip = ClipRef(sha256="3" * 64, frames=40, fps=25.0, width=640, height=480)
    manifest = Manifest.model_validate({"clip": "a.mp4", "prompts": ["one", "two"], "seed": 5})
    plan = build_plan(manifest, CONFIG, RECIPES, {}, clip=clip)
    assert [one.index for one in plan.segments] == [0, 1, 2]
    assert [one.clip for one in plan.segments] == [clip, None, None]
    assert [one.seed for one in plan.segments[1:]] == [47, 89]
    assert (plan.length, plan.settings.fps, plan.segments[1].settings.anchor) == (3, 25.0, TailRef(tail_of=0))


@pytest.mark.parametrize(
    ("given", "size"),
    [((832, 480), (832, 480)), ((833, 480), (832, 464)), ((720, 1280), (720, 1280)), ((831, 479), (816, 464))],
)
def test_a_recipe_may_take_the_size_from_the_picture(given: tuple[int, int], size: tuple[int, int]) -> None:
    sized = PRO.model_copy(update={"max_width": 832})
    picture = IMAGE.model_copy(update={"width": given[0], "height": given[1]})
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one"], "model": "big"})
    settings = build_plan(manifest, CONFIG, {PRO.name: sized}, {"image": picture}).settings
    assert (settings.width, settings.height) == size
    told = manifest.model_copy(update={"width": 64})
    assert build_plan(told, CONFIG, {PRO.name: sized}, {"image": picture}).settings.width == 64
    mini = manifest.model_copy(update={"model": "wan22-mini"})
    assert build_plan(mini, CONFIG, {PRO.name: sized}, {"image": picture}).settings.width == 64


def test_a_picture_that_gives_no_size_is_named() -> None:
    picture = IMAGE.model_copy(update={"width": 640, "height": 9})
    manifest = Manifest.model_validate({"image": "a.png", "prompts": ["one"], "max_width": 64})
    with pytest.raises(ManifestError, match="image: expected a start picture that gives 16x16 or more, found 64x0"):
        build_plan(manifest, CONFIG, RECIPES, {"image": picture})


def test_sigmas_for_a_sampler_that_makes_its_own_are_named_before_anything_is_rendered() -> None:
    with pytest.raises(
        ManifestError, match=r"sample\.sigmas: expected no sigmas, because 'heun' makes its own, found 2"
    ):
        plan_of(sample={"sampler": "heun", "sigmas": [1.0, 0.5]})
    before = parent_of(plan_of(sample={"sampler": "unipc", "sigmas": [1.0, 0.5]}))
    with pytest.raises(ManifestError, match="'heun' makes its own"):
        plan_of(before, extend="v1", sample={"sampler": "heun"})
    assert plan_of(before, extend="v1", sample={"sampler": "heun", "steps": 2}).settings.sampling.sigmas is None


def test_a_quality_holds_as_long_as_its_codec() -> None:
    before = parent_of(plan_of(encode={"codec": "h264", "quality": 40}))
    said = [None, "h264", "ffv1"]
    found = [plan_of(before, extend="v1", encode={"codec": codec} if codec else {}).settings for codec in said]
    assert [(one.codec, one.quality) for one in found] == [("h264", 40), ("h264", 40), ("ffv1", None)]
    assert plan_of(before, extend="v1", encode={"codec": "h264", "quality": 20}).settings.quality == 20


def test_a_codec_that_can_not_do_the_size_is_named() -> None:
    with pytest.raises(ManifestError, match=r"encode\.codec: expected a codec for 64x48, found hevc \(hevc takes 80"):
        plan_of(encode={"codec": "hevc"})


def test_everything_amiss_is_said_at_once() -> None:
    cuts = [{"segment": 1, "prompt": "x", "lora": "low-only"}, {"segment": 2, "prompt": "x", "lora": "nope"}]
    with pytest.raises(ManifestError) as caught:
        plan_of(model="big", loras=[{"name": "fasst"}], segments=2, cuts=cuts)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "no LoRA 'fasst'" in text
    assert "no LoRA 'nope'" in text
    assert "no file for the high-noise expert" in text


def test_a_branch_alone_renders_nothing() -> None:
    assert count(Manifest.model_validate({"branch": "v1@2"})) == 0
    assert plan_of(parent_of(plan_of()), branch="v1@1").segments == ()


@pytest.mark.parametrize(
    ("steps", "shift", "boundary", "high"),
    [
        (50, 5.0, 0.875, 21),
        (50, 5.0, 0.9, 18),
        (6, 5.0, 0.875, 3),
        (6, 8.0, 0.875, 4),
        (6, 8.0, 0.9, 3),
        (40, 5.0, 0.9, 15),
    ],
)
def test_steps_per_expert_are_those_of_the_authors_grid(steps: int, shift: float, boundary: float, high: int) -> None:
    assert experts("euler", steps, shift, None, boundary) == (high, steps - high)
