"""SVI 2.0 Pro end to end against the authors' code: conditioning, noise, schedule, every step, frames, stitching."""

from __future__ import annotations

import hashlib

import harness
import pytest
import torch

from svid.api import Recipe
from svid.media.images import open_picture, resized
from svid.wan.sampling import initial_noise
from svid.wan.schedule import experts_per_step, make_scheduler

CASES = [case for case in harness.cases("video") if case.spec["variant"] == "svi-2.0-pro"]
pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


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
    assert [("high", "low").index(expert) for expert in experts] == expected["expert_per_step"].tolist()


def test_teacher_forced(case, monkeypatch, record_property):
    """Every clip continues the recorded one before it."""
    wan, expected, allowed, carry = harness.model(case), case.expected, case.tolerances, None
    worst = {"y": 0.0, "latents": 0.0}
    for index in range(case.params["num_clips"]):
        recorded = {key: expected[f"clip{index}.{key}"] for key in ("y", "latents_steps", "frames")}
        out = harness.render(case, wan, index, carry, monkeypatch)
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
    worst = {"y": 0.0, "latents": 0.0}
    for index in range(case.params["num_clips"]):
        allowed = case.tolerances if index == 0 else case.tolerances["free_running_later_clips_latent_motion"]
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
    """Dropping the overlap of a recipe gives the authors' stitched video, byte for byte."""
    motion = case.params["num_motion_latent"]
    recipe = Recipe(name="p", variant="svi-2.0-pro", title="", source="", motion_latents=motion)
    shown = []
    for index in range(case.params["num_clips"]):
        frames = case.expected[f"clip{index}.frames"]
        shown.append(frames[recipe.overlap if index else 0 :])
    stitched = torch.cat(shown).contiguous()
    assert stitched.shape[0] == case.spec["stitched"]["num_frames"]
    assert hashlib.sha256(stitched.numpy().tobytes()).hexdigest() == case.spec["stitched"]["sha256_uint8_THWC"]


def test_lora_counts(case):
    """Leaving the LoRA out is a mistake that these cases see."""
    wan, clip = harness.model(case), harness.segment(case, 0)
    before = {name: value.clone() for name, value in wan.experts["high"].state_dict().items()}
    with harness.plugin("loras").svid_apply_loras(harness.job("svi-2.0-pro"), wan, clip) as report:
        changed = {
            name for name, value in wan.experts["high"].state_dict().items() if not torch.equal(value, before[name])
        }
    assert report["high"][0]["modules"] == len(changed) > 0
    assert all(torch.equal(value, before[name]) for name, value in wan.experts["high"].state_dict().items())
