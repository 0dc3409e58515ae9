"""Every recipe renders: a manifest on the embedded model that it is for, extended afterwards, and its published
numbers."""

from __future__ import annotations

import pytest
import torch

from svid.api import RecipeLora, Sampling
from svid.cli.open import desk_of
from svid.errors import ManifestError
from svid.plan.grid import experts
from svid.testing import load
from svid.wan.schedule import experts_per_step, make_scheduler
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import SMALL, frames_of

RECIPES = load().recipes()
MODELS = {"wan2.1-i2v": "wan21-mini", "wan2.2-i2v": "wan22-mini"}
# name: motion frames, motion latents, padding, side of the seam, guidance, frames a second, boundary
NUMBERS = {
    "svi-film": (5, 0, "grey", "tail", 5, 24, 0),
    "svi-film-opt": (5, 0, "grey", "tail", 5, 24, 0),
    "svi-film-transitions": (5, 0, "grey", "tail", 5, 24, 0),
    "svi-tom": (1, 0, "grey", "tail", 5, 24, 0),
    "svi-shot": (1, 0, "reference", "tail", 5, 24, 0),
    "svi-2.0-wan21": (5, 0, "reference", "tail", 5, 24, 0),
    "svi-2.0-wan22": (1, 0, "reference", "head", 5, 15, 0.875),
    "svi-2.0-pro": (0, 1, "zero_latent", "head", 4, 15, 0.875),
}
"""Sections 11 and 12 of the SVI spec."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    home = quick_home(tmp_path_factory.mktemp("variants") / "home")
    (home.inbox / "gull.png").write_bytes((home.root / "watch/examples/gull.png").read_bytes())
    return Workbench(home, desk_of(home))


def manifest(recipe, **more):
    values = {"image": "harbour.png", "prompts": ["boats", "gulls"], "seed": 5, **SMALL}
    return {**values, "recipe": recipe, "model": MODELS[RECIPES[recipe].base], **more}


def picture_of(shown):
    return frames_of(shown["artifacts"][-1]["path"])


@pytest.mark.parametrize("name", NUMBERS)
def test_the_numbers_are_the_published_ones(name):
    one = RECIPES[name]
    motion = (one.layout.motion_frames, one.layout.motion_latents, one.layout.pad, one.layout.seam)
    assert (*motion, one.guidance.high, one.fps, one.boundary) == NUMBERS[name]
    assert (one.frames, one.steps, one.shift, one.sampler, one.seed_stride) == (81, 50, 5.0, "euler", 42)
    assert (one.width, one.height, one.guidance.high) == (832, 480, one.guidance.low)
    assert one.prompt_repeat == (2 if name == "svi-2.0-wan21" else 1)
    assert one.loras == (RecipeLora(name=name),)
    assert one.negative.startswith("bright tones" if one.base == "wan2.1-i2v" else "色调艳丽")


def test_every_number_has_a_source_of_its_own():
    """All numbers of what the authors published; of the others what differs from the file that `source` names."""
    for name in NUMBERS:
        unknown = {key for key, value, source in RECIPES[name].numbers() if source == RECIPES[name].source}
        assert unknown == set(), name
    for one in RECIPES.values():
        assert set(one.sources) <= {key for key, _, _ in one.numbers()}, one.name


def test_every_recipe_says_where_its_numbers_come_from():
    assert set(RECIPES) > set(NUMBERS)
    for one in RECIPES.values():
        assert "/" in one.source
        assert len(one.title) > 20
        assert one.boundary == 0 or one.base == "wan2.2-i2v"


@pytest.mark.parametrize("name", ["svi-2.0-wan22-fast", "svi-2.0-pro-fast"])
def test_the_fast_recipes_give_half_of_their_six_steps_to_each_expert(name):
    one = RECIPES[name]
    assert experts(one.sampler, one.steps, one.shift, None, one.boundary) == (3, 3)
    sampling = Sampling(one.sampler, one.steps, one.shift, one.guidance.model_dump(), one.boundary)
    assert experts_per_step(make_scheduler(sampling, "cpu").timesteps, one.boundary) == ("high",) * 3 + ("low",) * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RECIPES, key=lambda name: (RECIPES[name].base, name)))
def test_a_manifest_becomes_a_video_and_goes_on(bench, name):
    """Three segments at once and two with a third added later give the same frames, of the length that it must be."""
    one = RECIPES[name]
    told = ["boats", "gulls", "sun"] if one.prompt_repeat == 1 else ["boats", "gulls"]
    whole = bench.run(manifest(name, name=f"{name} whole", segments=3, prompts=told, reuse=False, frames=13))
    frames = picture_of(whole)
    assert frames.shape == (13 + 2 * (13 - one.layout.overlap), 32, 32, 3)
    assert frames.float().std() > 5
    begun = bench.run(manifest(name, name=f"{name} begun", prompts=told[:-1], segments=2, reuse=False, frames=13))
    longer = bench.run({"extend": begun["id"], "prompts": told[-1:], "segments": 1, "reuse": False})
    assert [part["seed"] for part in longer["segments"]] == [5 + one.seed_stride * index for index in range(3)]
    assert torch.equal(picture_of(longer), frames)


def test_the_anchor_counts_where_it_pads(bench):
    for name in ("svi-shot", "svi-2.0-wan22"):
        shown = [
            picture_of(bench.run(manifest(name, name="anchor", segments=1, prompts=["boats"], anchor=anchor)))
            for anchor in ("harbour.png", "gull.png")
        ]
        assert not torch.equal(*shown)


def test_an_anchor_or_an_image_that_nobody_would_look_at_is_refused(bench):
    with pytest.raises(ManifestError, match="anchor: would change nothing: svi-tom has no anchor"):
        bench.accept(manifest("svi-tom", anchor="gull.png"))
    with pytest.raises(
        ManifestError, match=r"image: would change nothing: the first segment of svi-2\.0-pro begins with"
    ):
        bench.accept(manifest("svi-2.0-pro", anchor="gull.png"))
    with pytest.raises(ManifestError, match="image: would change nothing"):
        bench.accept(manifest("svi-2.0-pro", anchors=["gull.png", "harbour.png"]))
    bench.run(manifest("svi-2.0-pro", name="then", anchors=["harbour.png", "gull.png"]))


def test_a_recipe_on_the_wrong_model_is_refused(bench):
    with pytest.raises(ManifestError, match=r"wan22-mini: expected Wan 2\.1 I2V, which the recipe svi-film is for"):
        bench.accept(manifest("svi-film", model="wan22-mini"))
    with pytest.raises(ManifestError, match=r"wan21-mini: expected Wan 2\.2 I2V"):
        bench.accept(manifest("i2v", model="wan21-mini"))


def test_one_transformer_has_no_boundary(bench):
    with pytest.raises(ManifestError, match=r"sample\.boundary: expected 0, as Wan 2\.1 has one transformer"):
        bench.accept(manifest("svi-tom", sample={"steps": 2, "boundary": 0.9}))
