"""Conditioning, VAE, DiT, schedule and LoRA merging against what the reference implementations recorded."""

from __future__ import annotations

import io
from dataclasses import replace

import harness
import pytest
import torch
from PIL import Image

from svid.api import Carry, Conditioning, Sampling, Segment
from svid.wan.conditioning import to_pixels
from svid.wan.lora.apply import Use, applied
from svid.wan.sampling import _velocity
from svid.wan.schedule import experts_per_step, make_scheduler
from svid.wan.vae import decode_frames, encode_normalized, latent_statistics, to_uint8


def ids(case):
    return case.name


def pro_subs():
    """Conditioning cases that a recipe for Wan 2.2 serves: (case, sub, variant)."""
    for case in harness.cases("conditioning"):
        if case.spec.get("flavour") == "Wan2GP":
            continue  # its end frames and motion amplitude are not the authors'
        for sub in case.params.get("sub", []):
            variant = sub.get("variant", case.spec.get("variant"))
            if variant == "svi-2.0" and sub["pad"] == "grey":
                variant = "i2v"  # what that code makes of no anchor
            whole = sub.get("start") == "last_frame" and not sub.get("end_frame")
            if variant == "svi-2.0-pro" or (variant in ("svi-2.0", "i2v") and whole):
                yield pytest.param(case, sub, variant, id=f"{case.name}-{sub['index']}")


def clip_of(case, sub, tmp_path):
    anchor = tmp_path / "anchor.png"
    data = io.BytesIO()
    Image.fromarray(case.inputs["anchor_image" if "anchor_image" in case.inputs else "reference"].numpy()).save(
        data, "PNG"
    )
    anchor.write_bytes(data.getvalue())
    picture = harness.picture(anchor)
    motion = sub.get("num_motion_latent", sub.get("motion_latent_count", 0))
    sampling = Sampling("euler", 4, 5.0, {"high": 1.0, "low": 1.0}, 0.9)
    p = case.params
    frames = sub.get("num_frames", p.get("num_frames"))
    return Segment(1, "", "", 0, frames, p["width"], p["height"], picture, picture, motion, 1, 0, sampling)


def previous(case, wan):
    inputs = case.inputs
    tail = inputs.get("last_frame", inputs["anchor_image"])[None]
    if "prev_latents" in inputs:
        return Carry("", {"latents": inputs["prev_latents"][None]}, tail)
    mean, std = latent_statistics(wan.vae)
    return Carry("", {"latents": (inputs["prev_samples_raw"] - mean) / std}, tail)


@pytest.mark.parametrize(("case", "sub", "variant"), list(pro_subs()))
def test_conditioning(case, sub, variant, tmp_path, record_property):
    wan = harness.model(case)
    name, work = harness.SERVED[variant][0], harness.job(variant)
    carry = previous(case, wan) if sub.get("prev", True) else None
    clip = replace(clip_of(case, sub, tmp_path), pad=work.recipe.pad)
    conditioning: Conditioning = harness.plugin(name).svid_build_conditioning(work, wan, clip, carry)
    worst = harness.error(conditioning.y[0], case.expected[f"y.{sub['index']}"])
    record_property("worst", worst)
    assert worst <= case.tolerances["y"]


@pytest.mark.parametrize("case", harness.cases("vae"), ids=ids)
def test_vae(case, record_property):
    vae, allowed = harness.vae(case.spec["weights"]["vae"]), case.tolerances
    pixels = to_pixels(case.inputs["frames"])
    expected = case.expected
    errors = {
        "latents": harness.error(encode_normalized(vae, pixels)[0], expected["latents"]),
        "single_frame_latent": harness.error(
            encode_normalized(vae, pixels[:, :, :1])[0], expected["single_frame_latent"]
        ),
    }
    mean, std = latent_statistics(vae)
    z = case.inputs["latents_to_decode"][None]
    with torch.no_grad():
        decoded = vae.decode(z * std + mean).sample
    errors["decoded"] = harness.error(decoded[0], expected["decoded"])
    record_property("worst", errors)
    assert torch.equal(torch.cat(list(decode_frames(vae, z))), to_uint8(decoded))
    assert all(value <= allowed[name] for name, value in errors.items())


def wan21_subs():
    """What SVI 1.0 and 2.0 on Wan 2.1 do; the mask and the padding of the others are options that nobody released."""
    for case in harness.cases("conditioning"):
        if case.spec["variant"] == "svi-1.0 / svi-2.0-wan21":
            for sub in case.params["sub"]:
                if sub["pad"] in ("grey", "reference") and sub["mask_kept_pixel_frames"] == 1:
                    yield pytest.param(case, sub, id=f"{case.name}-{sub['index']}")


@pytest.mark.parametrize(("case", "sub"), list(wan21_subs()))
def test_conditioning_wan21(case, sub, tmp_path, record_property):
    wan, inputs, count = harness.model(case), case.inputs, sub["num_motion_frames"]
    variant = "svi-film" if sub["pad"] == "grey" else "svi-2.0-wan21"
    clip = replace(clip_of(case, sub, tmp_path), motion_frames=count, pad=sub["pad"])
    build = harness.plugin(harness.SERVED[variant][0]).svid_build_conditioning
    y = build(harness.job(variant), wan, clip, Carry("", {}, inputs["motion_frames"][:count])).y
    worst = harness.error(y[0], case.expected[f"y.{sub['index']}"])
    record_property("worst", worst)
    assert worst <= case.tolerances["y"]


@pytest.mark.parametrize("case", [case for case in harness.cases("dit") if "21" in case.spec["base"]], ids=ids)
def test_velocity_wan21(case, record_property):
    weights = case.spec["weights"]
    dit, p = harness.transformer(weights["transformer"]), case.params
    text = harness.StandInText(harness.ROOT / weights["text_embeds"])
    embeds = harness.StandInImage(harness.ROOT / weights["clip_stub"]).of_mean(p["clip_mean"])
    inputs = torch.cat([case.inputs["x"], case.inputs["y"]])[None]
    passes = {f"v.{index}": (time, p["prompt"]) for index, time in enumerate(p["timesteps"])}
    passes["v_negative_prompt"] = p["timesteps"][p["negative_timestep_index"]], "negative"
    worst = 0.0
    for name, (time, prompt) in passes.items():
        given = {"encoder_hidden_states_image": embeds}
        with torch.no_grad():
            velocity = _velocity(dit, inputs, torch.tensor(time), text.encode(prompt), given)
        worst = max(worst, harness.error(velocity[0], case.expected[name]))
    record_property("worst", worst)
    assert worst <= case.tolerances["v"]


@pytest.mark.parametrize("case", [case for case in harness.cases("dit") if "22" in case.spec["base"]], ids=ids)
@pytest.mark.parametrize("expert", ["high", "low"])
def test_velocity(case, expert, record_property):
    dit = harness.transformer(case.spec["weights"][f"transformer_{expert}"])
    text = harness.StandInText(harness.ROOT / case.spec["weights"]["text_embeds"]).encode(case.params["prompt"])
    inputs = torch.cat([case.inputs["x"], case.inputs["y"]])[None]
    worst = 0.0
    for index, timestep in enumerate(case.params["timesteps"]):
        with torch.no_grad():
            velocity = dit(inputs, torch.tensor([timestep]), text, return_dict=False)[0]
        worst = max(worst, harness.error(velocity[0], case.expected[f"{expert}.v.{index}"]))
    record_property("worst", worst)
    assert worst <= case.tolerances["v"]


@pytest.mark.parametrize("case", harness.cases("scheduler"), ids=ids)
def test_schedule(case):
    expected, (x, v) = case.expected, (case.inputs["x"], case.inputs["v"])
    for sub in case.params["sub"]:
        index, guidance = sub["index"], {"high": 1.0, "low": 1.0}
        sampling = Sampling("euler", sub["num_inference_steps"], sub["shift"], guidance, 0.9)
        scheduler = make_scheduler(sampling, "cpu")
        assert harness.error(scheduler.sigmas, expected[f"sigmas.{index}"]) <= case.tolerances["sigmas"]
        assert harness.error(scheduler.timesteps, expected[f"timesteps.{index}"]) <= case.tolerances["timesteps"]
        for boundary, count in sub["high_noise_steps"].items():
            assert experts_per_step(scheduler.timesteps, float(boundary)).count("high") == count
        final = make_scheduler(replace(sampling, sigmas=tuple(scheduler.sigmas.tolist())), "cpu")
        assert torch.equal(final.sigmas, scheduler.sigmas)
        steps = [scheduler.step(v, t, x, return_dict=False)[0] for t in scheduler.timesteps]
        assert harness.error(torch.stack(steps), expected[f"euler_all.{index}"]) <= 1e-6


def official_name(key):
    """`svi.proj.blocks.0.self_attn.q.weight` to the diffusers parameter."""
    from svid.wan.lora.keys import diffusers_name

    module, _, leaf = key.rpartition(".")
    return f"{diffusers_name(module)}.{leaf}"


@pytest.mark.parametrize("case", harness.cases("lora"), ids=ids)
def test_lora_merge(case, record_property):
    expert = harness.transformer(case.spec["weights"]["transformer"])
    originals = {name: (value.data_ptr(), value.clone()) for name, value in expert.named_parameters()}
    probes = {key.removeprefix("probe."): value.double() for key, value in case.inputs.items()}
    worst = 0.0
    for sub in case.params["sub"]:
        uses = [Use(entry["file"], case.folder / entry["file"], entry["scale"]) for entry in sub["loras"]]
        with applied({"high": expert}, {"high": uses}):
            merged = dict(expert.named_parameters())
            for key, expected in case.expected.items():
                tag, kind, name = key.split(".", 2)
                if tag != sub["tag"]:
                    continue
                value = merged[official_name(name)]
                if kind == "proj":
                    value = value.double().flatten(1) @ probes[name]
                worst = max(worst, harness.error(value.view(expected.shape), expected))
            changed = [name for name, value in merged.items() if not torch.equal(value, originals[name][1])]
            assert len(changed) == case.params["changed_tensors"][sub["tag"]]
        for name, value in expert.named_parameters():
            assert value.data_ptr() == originals[name][0]
            assert torch.equal(value, originals[name][1])
    record_property("worst", worst)
    assert worst <= case.tolerances["all"]
