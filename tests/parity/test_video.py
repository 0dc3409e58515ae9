"""The variants end to end against the authors' code: conditioning, noise, schedule, every step, frames, stitching."""

from __future__ import annotations

import hashlib

import harness
import pytest
import torch

from svid.media.images import open_picture, resized
from svid.render.chain import Work, _shown
from svid.wan.sampling import initial_noise
from svid.wan.schedule import experts_per_step, make_scheduler

pytestmark = pytest.mark.parametrize("case", harness.videos(), ids=lambda case: case.name)


def check_frames(actual, expected, most, share):
    difference = (actual.int() - expected.int()).abs()
    assert difference.max() <= most
    assert (difference > 0).double().mean() <= share


def test_picture_noise_and_schedule(case):
    clip, expected, allowed = harness.segment(case, 0), case.expected, case.tolerances
    frame = resized(open_picture(clip.image.path), clip.width, clip.height)
    assert torch.equal(frame, case.inputs["reference_resized"])
    for index, seed in enumerate(case.params["seeds"]):
        noise, _ = initial_noise(clip.latent_shape, seed)
        assert torch.equal(noise[0], expected[f"clip{index}.noise"])
    scheduler = make_scheduler(clip.sampling, "cpu")
    assert harness.error(scheduler.sigmas, expected["sigmas"]) <= allowed["sigmas"]
    assert harness.error(scheduler.timesteps, expected["timesteps"]) <= allowed["timesteps"]
    experts = experts_per_step(scheduler.timesteps, clip.sampling.boundary)
    taken = expected["expert_per_step"].tolist() if "expert_per_step" in expected else [0] * len(experts)
    assert [("high", "low").index(expert) for expert in experts] == taken


def test_the_recipe_is_the_recorded_one(case):
    """The padding, which side of a seam gives way, and the model are those of the authors' run."""
    recipe, p = harness.recipe(case.spec["variant"]), case.params
    assert recipe.pad == p["pad"]
    assert recipe.trim == {"previous_tail": "tail", "new_head": "head"}[p["trim"]["which"]]
    assert recipe.base.replace(".", "").startswith(case.spec["base"].split("-")[0])


def test_teacher_forced(case, monkeypatch, record_property):
    """Every clip continues the recorded one before it."""
    wan, expected, allowed, carry = harness.model(case), case.expected, case.tolerances, None
    worst = {"y": 0.0, "latents": 0.0}
    for index in range(case.params["num_clips"]):
        recorded = {key: expected[f"clip{index}.{key}"] for key in ("y", "latents_steps", "frames")}
        out = harness.render(case, wan, index, carry, monkeypatch)
        if wan.image is not None:
            assert torch.equal(wan.image.seen[-1], expected[f"clip{index}.clip_source"])
        steps = torch.stack(out.steps)
        worst["y"] = max(worst["y"], harness.error(out.y[0], recorded["y"]))
        worst["latents"] = max(worst["latents"], harness.error(steps, recorded["latents_steps"]))
        assert torch.equal(out.latents[0], steps[-1])
        check_frames(out.frames, recorded["frames"], allowed["frames_u8_max"], allowed["frames_u8_fraction_different"])
        carry = harness.carry_of(recorded["latents_steps"][-1], recorded["frames"])
    record_property("worst", worst)
    assert worst["y"] <= allowed["y"]
    assert worst["latents"] <= allowed["latents_steps"]


def test_free_running(case, monkeypatch, record_property):
    """Every clip continues svid's own."""
    wan, expected, carry = harness.model(case), case.expected, None
    motion = "latent" if "num_motion_latent" in case.params else "pixel"
    worst = {"y": 0.0, "latents": 0.0}
    for index in range(case.params["num_clips"]):
        allowed = case.tolerances if index == 0 else case.tolerances[f"free_running_later_clips_{motion}_motion"]
        out = harness.render(case, wan, index, carry, monkeypatch)
        y = harness.error(out.y[0], expected[f"clip{index}.y"])
        steps = harness.error(torch.stack(out.steps), expected[f"clip{index}.latents_steps"])
        assert y <= allowed["y"]
        assert steps <= allowed["latents_steps"]
        check_frames(
            out.frames,
            expected[f"clip{index}.frames"],
            allowed["frames_u8_max"],
            allowed["frames_u8_fraction_different"],
        )
        worst = {"y": max(worst["y"], y), "latents": max(worst["latents"], steps)}
        carry = harness.carry_of(out.latents[0], out.frames)
    record_property("worst", worst)


def test_stitching(case):
    """What svid shows of the recorded clips is the authors' stitched video, byte for byte."""
    shown, last = [], case.params["num_clips"] - 1
    for index in range(last + 1):
        clip = harness.segment(case, index)
        frames = iter(case.expected[f"clip{index}.frames"].split(4))
        dropped = clip.tail_trim if index < last else 0
        shown += _shown(Work(None, None, None, clip, None, None, None, dropped, frames=frames))
    stitched = torch.cat(shown).contiguous()
    assert stitched.shape[0] == case.spec["stitched"]["num_frames"]
    assert hashlib.sha256(stitched.numpy().tobytes()).hexdigest() == case.spec["stitched"]["sha256_uint8_THWC"]


def test_lora_counts(case):
    """Leaving the LoRA out is a mistake that these cases see."""
    wan, clip = harness.model(case), harness.segment(case, 0)
    if not clip.loras:
        pytest.skip("recorded without a LoRA")
    before = {name: value.clone() for name, value in wan.experts["high"].state_dict().items()}
    with harness.plugin("loras").svid_apply_loras(harness.job(case.spec["variant"]), wan, clip) as report:
        changed = {
            name for name, value in wan.experts["high"].state_dict().items() if not torch.equal(value, before[name])
        }
    assert report["high"][0]["modules"] == len(changed) > 0
    assert all(torch.equal(value, before[name]) for name, value in wan.experts["high"].state_dict().items())
