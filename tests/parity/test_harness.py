"""The harness sees mistakes: known ones in svid, and whatever a case says that it does not know."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from svid.wan import handover, pixels, sampling, vae
from tests.parity import harness
from tests.parity.cases import DATA, NotServed, NotUnderstood
from tests.parity.comparison import Mismatch


def all_motion_marked(marked):
    return lambda layout, *given, **end: marked(layout.model_copy(update={"mask": "given-frames"}), *given, **end)


def black(padding):
    return lambda layout, *more: padding(layout.model_copy(update={"pad": "black"}), *more)


def another_reference(padding):
    return lambda layout, count, reference, like: padding(layout, count, reference.flip(0), like)


def newest_seen(build):
    def wrong(model, segment, carry):
        newest = pixels.start_frames(segment, carry)[-1]
        return replace(build(model, segment, carry), image_embeds=model.image.embed(newest))

    return wrong


def first_latents(build):
    def wrong(model, segment, carry):
        other = carry and replace(carry, state={"latents": carry.state["latents"].flip(2)})
        return build(model, segment, other)

    return wrong


def raw_zeros(zero_padded):
    def wrong(given, latents):
        config = json.loads((DATA / "weights" / "diffusers_configs.json").read_text())["wan21_vae.safetensors"]
        mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
        padded = zero_padded(given, latents)
        padded[:, :, given.shape[2] :] -= mean / std
        return padded

    return wrong


def swapped(experts):
    return lambda *schedule: tuple({"high": "low", "low": "high"}[name] for name in experts(*schedule))


def channels_swapped(behind):
    return lambda z, *frames: torch.cat([z, behind(z, *frames)[:, :4]], dim=1)


def at_bf16(velocity):
    return lambda expert, inputs, time, *more: velocity(expert, inputs, time.bfloat16().float(), *more)


def rounded(cut_off):
    return lambda video: cut_off(video + 0.5 / 127.5)


MISTAKES = {
    "mask on all motion latents": ("svi-2.0-pro-m2", handover, "marked_frames", all_motion_marked, "y: clip1.y"),
    "mask on all motion frames": ("cond-wan21-official", pixels, "marked_frames", all_motion_marked, r"y: y\.1"),
    "wrong padding": ("svi-tom", pixels, "padding", black, "y: clip0.y"),
    "wrong reference": ("svi-shot", pixels, "padding", another_reference, "y: clip0.y"),
    "newest frame for CLIP": ("svi-film", pixels, "pixel_conditioning", newest_seen, "clip_source: clip1"),
    "wrong motion latent": ("svi-2.0-pro-m2", handover, "latent_conditioning", first_latents, "y: clip1.y"),
    "raw zeros": ("svi-2.0-pro-refonly", handover, "zero_padded", raw_zeros, "y: clip0.y"),
    "swapped experts": ("svi-2.0-pro-m2", sampling, "experts_per_step", swapped, "expert_per_step: expected"),
    "one expert": (
        "svi-2.0-pro-m2",
        sampling,
        "experts_per_step",
        lambda right: lambda timesteps, boundary: ("high",) * len(timesteps),
        "expert_per_step: expected",
    ),
    "guidance from the prompt": (
        "svi-tom",
        sampling,
        "guided",
        lambda right: lambda positive, negative, scale: positive + scale * (positive - negative),
        "first step: clip0",
    ),
    "channels of y": ("svi-2.0-pro-refonly", handover, "behind_mask", channels_swapped, "y: clip0.y"),
    "bf16 timesteps": ("unit-dit-wan22", None, "_velocity", at_bf16, "high.v: high.v.1"),
    "rounded frames": ("svi-2.0-pro-refonly", vae, "to_uint8", rounded, "frames: .* expected at most 0.002"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_svid_fails(mistake, tmp_path, monkeypatch):
    name, module, attribute, change, message = MISTAKES[mistake]
    module = module or harness.parts
    monkeypatch.setattr(module, attribute, change(getattr(module, attribute)))
    with pytest.raises(Mismatch, match=message):
        harness.compare(DATA / "cases" / name, tmp_path)


@pytest.fixture
def altered(tmp_path):
    """A copy of a case whose case.json is changed in place by a function."""

    def make(name, change=lambda spec: None):
        (tmp_path / "weights").symlink_to(DATA / "weights")
        folder = tmp_path / "cases" / name
        shutil.copytree(DATA / "cases" / name, folder)
        spec = json.loads((folder / "case.json").read_text())
        change(spec)
        (folder / "case.json").write_text(json.dumps(spec))
        return folder

    return make


def put(*path, value):
    def change(spec):
        for key in path[:-1]:
            spec = spec[key]
        spec[path[-1]] = value

    return change


UNKNOWN = {
    "kind": ("unit-vae", put("kind", value="sound"), "kinds .* found 'sound'"),
    "name": ("unit-vae", put("name", value="another"), "found 'another'"),
    "base": ("svi-tom", put("base", value="wan30"), "found 'wan30'"),
    "key of the case": ("unit-vae", put("more", value={}), r"case\.json\.more"),
    "key of a table": ("unit-vae", put("params", "depth", value=1), r"params\.depth"),
    "key of a sub-case": ("cond-comfy-i2v", put("params", "sub", 0, "blur", value=1), r"sub\[0\]\.blur"),
    "tolerance": ("unit-vae", put("tolerances", "sound", value=1), r"tolerances\.sound"),
    "weights": ("unit-vae", put("weights", "sound", value="x"), r"weights\.sound"),
    "missing weights": ("unit-vae", put("weights", "vae", value="weights/none"), "expected a file weights/none"),
    "target of a LoRA": ("svi-film", put("weights", "loras", 0, "target", value="vae"), "found 'vae'"),
    "picture": ("svi-tom", put("images", "end", value="image.png"), r"images\.end"),
    "pad": ("svi-tom", put("params", "pad", value="noise"), "params.pad: expected one of .* found 'noise'"),
    "pad of a sub-case": ("cond-wan21-official", put("params", "sub", 0, "pad", value="noise"), "found 'noise'"),
    "number of copies": (
        "cond-wan21-official",
        put("params", "sub", 0, "ref_pad_num", value=-2),
        "-2 does not go with",
    ),
    "mask": ("svi-film", put("params", "mask_kept_pixel_frames", value=3), "found 3"),
    "trim": ("svi-tom", put("params", "trim", "which", value="middle"), "found 'middle'"),
    "variant of a sub-case": ("cond-wan22-official", put("params", "sub", 0, "variant", value="x"), "found 'x'"),
    "variant of a conditioning": ("cond-comfy-i2v", put("variant", value="x"), "found 'x'"),
    "no sub-cases": ("cond-comfy-i2v", put("params", "sub", value=[]), "list of tables under 'sub'"),
    "mode": ("stitch-kjn", put("params", "sub", 0, "mode", value="wipe"), "found 'wipe' and 'source'"),
    "decoding": ("svi-tom", put("params", "vae_decode", value="tiled"), "found 'tiled'"),
    "column": ("unit-size-rule", put("params", "columns_in", value=["side"]), "columns"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_fails_by_name(what, altered, tmp_path):
    name, change, message = UNKNOWN[what]
    with pytest.raises((NotUnderstood, Mismatch), match=message):
        harness.compare(altered(name, change), tmp_path)


WRONG = {
    "no LoRA": ("svi-2.0-pro-refonly", put("weights", "loras", value=[]), "first step: clip0"),
    "seed": ("svi-tom", put("params", "seeds", value=[0, 43]), "seeds: expected"),
    "prompt": ("svi-tom", put("params", "prompts", value=["prompt.0", "prompt.2"]), "first step: clip1"),
    "shift": ("unit-scheduler", put("params", "sub", 0, "shift", value=5.1), r"sigmas: sigmas\.0"),
    "trimmed frames": ("svi-2.0-pro-m2", put("params", "trim", "frames", value=8), "stitched.index"),
    "boundary": ("svi-2.0-pro-refonly", put("params", "boundary", value=0.875), "expert_per_step: expected"),
    "checksum": ("svi-tom", put("stitched", "sha256_uint8_THWC", value="0"), "stitched: expected"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_numbers_fail(what, altered, tmp_path):
    name, change, message = WRONG[what]
    with pytest.raises(Mismatch, match=message):
        harness.compare(altered(name, change), tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor"), [("unit-vae", "sound"), ("svi-tom", "clip2.y"), ("svi-tom", "clip0.sound")]
)
def test_a_recorded_tensor_that_was_not_compared_fails(name, tensor, altered, tmp_path):
    file = altered(name) / "expected.safetensors"
    save_file(load_file(file) | {tensor: torch.zeros(1)}, file)
    with pytest.raises(Mismatch, match=rf"not compared: expected: {tensor}"):
        harness.compare(file.parent, tmp_path)


def test_an_input_that_was_not_used_fails(altered, tmp_path):
    file = altered("unit-vae") / "inputs.safetensors"
    save_file(load_file(file) | {"sound": torch.zeros(1)}, file)
    with pytest.raises(Mismatch, match="inputs: sound"):
        harness.compare(file.parent, tmp_path)


def test_a_tensor_that_was_not_recorded_fails(altered, tmp_path):
    file = altered("unit-vae") / "expected.safetensors"
    tensors = load_file(file)
    del tensors["decoded"]
    save_file(tensors, file)
    with pytest.raises(NotUnderstood, match="expected a tensor 'decoded'"):
        harness.compare(file.parent, tmp_path)


def test_a_nan_fails(altered, tmp_path):
    file = altered("unit-vae") / "expected.safetensors"
    save_file(load_file(file) | {"latents": torch.full((16, 3, 2, 4), torch.nan)}, file)
    with pytest.raises(Mismatch, match=r"latents: .*found nan"):
        harness.compare(file.parent, tmp_path)


def test_a_folder_without_a_case_fails(tmp_path):
    with pytest.raises(NotUnderstood, match=r"expected a case\.json"):
        harness.compare(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["svi-talk", "svi-dance"])
def test_a_variant_without_a_plugin_is_not_served(name, tmp_path):
    with pytest.raises(NotServed, match=f"no plugin serves the variant '{name}'"):
        harness.compare(DATA / "cases" / name, tmp_path)
