"""Kinds `dit`, `vae`, `scheduler`, `lora` and `size_rule`: one part of svid each."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from svid.api import Expert, Sampling
from svid.plan.resolve import size_of_picture
from svid.testing import make_segment
from svid.wan import vae as wan_vae
from svid.wan.conditioning import to_pixels
from svid.wan.lora.keys import diffusers_name
from svid.wan.model import WanModel
from svid.wan.sampling import _velocity
from svid.wan.schedule import experts_per_step, make_scheduler
from tests.parity import layouts, production, weights
from tests.parity.cases import Case, NotUnderstood
from tests.parity.comparison import Comparison

EULER = 1e-6
"""Allowed for one Euler step, for which the README names no number; its terms are of the order of 1."""


def velocities(case: Case, found: Comparison) -> None:
    """Kind `dit`: the velocity at every timestep, of every transformer."""
    p, names = case.params, {"": "transformer", "high.": "transformer_high", "low.": "transformer_low"}
    text = weights.StandInText(case.file(case.weights["text_embeds"]))
    prompts, given = {p["prompt"]: text.encode(p["prompt"])}, {}
    if "clip_stub" in case.weights:
        stub = weights.StandInImage(case.file(case.weights["clip_stub"]))
        given = {"encoder_hidden_states_image": stub.of_mean(p["clip_mean"])}
    passes = {f"v.{index}": (time, p["prompt"]) for index, time in enumerate(p["timesteps"])}
    if "negative_timestep_index" in p:
        prompts["negative"] = text.encode("negative")
        passes["v_negative_prompt"] = (p["timesteps"][p["negative_timestep_index"]], "negative")
    inputs = torch.cat([case.inputs["x"], case.inputs["y"]])[None]
    layouts.recipe_on("i2v", case.spec["base"])
    for prefix, key in names.items():
        if key not in case.weights:
            continue
        expert = weights.component(case, case.weights[key])
        for name, (time, prompt) in passes.items():
            with torch.no_grad():
                velocity = _velocity(expert, inputs, torch.tensor(time), prompts[prompt], given)
            found.close(f"{prefix}v", velocity[0], f"{prefix}{name}", case.tolerances["v"])
    for name in list(case.expected):
        if re.fullmatch(r"(high\.|low\.)?v_bf16_timestep\.\d+", name):
            found.set_aside(name, "a timestep rounded to bf16, as shipped code does: informative by the README")


def vae(case: Case, found: Comparison) -> None:
    """Kind `vae`: encoding in one pass, and the decoder that streams, before it is cut off to levels and after."""
    model, allowed = weights.component(case, case.weights["vae"]), case.tolerances
    pixels = to_pixels(case.inputs["frames"])
    found.same("size", list(pixels.shape[3:]), [case.params["height"], case.params["width"]])
    found.close("latents", wan_vae.encode_normalized(model, pixels)[0], "latents", allowed["latents"])
    alone = wan_vae.encode_normalized(model, pixels[:, :, :1])[0]
    found.close("single_frame_latent", alone, "single_frame_latent", allowed["single_frame_latent"])
    decoded: list[torch.Tensor] = []
    cut_off = wan_vae.to_uint8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan_vae, "to_uint8", lambda video: decoded.append(video.float()) or cut_off(video))
        frames = torch.cat(list(wan_vae.decode_frames(model, case.inputs["latents_to_decode"][None])))
    found.close("decoded", torch.cat(decoded, dim=2)[0], "decoded", allowed["decoded"])
    levels = ((case.expected.peek("decoded") + 1) * 127.5).clip(0, 255).trunc().to(torch.uint8).permute(1, 2, 3, 0)
    found.compare_levels("decoded, as levels", frames, levels, 1, 2e-3)


def schedule(case: Case, found: Comparison) -> None:
    """Kind `scheduler`: sigmas, timesteps, which expert takes a step, and the steps."""
    x, v, allowed = case.inputs["x"], case.inputs["v"], case.tolerances
    case.params.allow("rule")
    allowed.allow("high_noise_steps")
    for sub in case.params.tables("sub"):
        index, guidance = sub["index"], {"high": 1.0, "low": 1.0}
        sampling = Sampling("euler", sub["num_inference_steps"], sub["shift"], guidance, 0.9)
        scheduler = make_scheduler(sampling, "cpu")
        found.close("sigmas", scheduler.sigmas, f"sigmas.{index}", allowed["sigmas"])
        found.close("timesteps", scheduler.timesteps, f"timesteps.{index}", allowed["timesteps"])
        for boundary, count in sub["high_noise_steps"].items():
            taken = experts_per_step(scheduler.timesteps, float(boundary))
            found.same("high_noise_steps", taken, ("high",) * count + ("low",) * (len(taken) - count))
        final = make_scheduler(replace(sampling, sigmas=tuple(scheduler.sigmas.tolist())), "cpu")
        found.compare("sigmas, given as final", final.sigmas, scheduler.sigmas)
        steps = [scheduler.step(v, time, x, return_dict=False)[0] for time in scheduler.timesteps]
        found.close("euler_all", torch.stack(steps), f"euler_all.{index}", EULER)
        sub.allow("comfy_simple_high_noise_steps")
        found.set_aside(f"comfy_simple_sigmas.{index}", "ComfyUI's own grid: informative by the README")
        sub.done()


def loras(case: Case, found: Comparison) -> None:
    """Kind `lora`: every file, and every stack of files, merged by the plugin; the weights are the same afterwards."""
    case.spec.allow("layout")
    case.inputs.allow(*(name for name in case.inputs if name.startswith("probe.")))
    case.params.allow("svi_rank", "distill_rank", "rules")
    recipe = layouts.recipe_on("i2v", case.spec["base"])
    experts: dict[Expert, torch.nn.Module] = {"high": weights.component(case, case.weights["transformer"])}
    wan = WanModel(experts, None, None, torch.device("cpu"), torch.float32)
    before = {name: (value.data_ptr(), value.clone()) for name, value in experts["high"].named_parameters()}
    work = production.job(recipe)
    for sub in case.params.tables("sub"):
        with found.going_on():
            segment = make_segment(loras=weights.loras(sub.tables("loras"), case.folder))
            with production.with_loras(wan, work, segment):
                _merged(case, found, sub["tag"], experts["high"], {name: value for name, (_, value) in before.items()})
            sub.done()
        after = dict(experts["high"].named_parameters())
        same = all(
            after[name].data_ptr() == place and torch.equal(after[name], value)
            for name, (place, value) in before.items()
        )
        found.same("restored bit for bit", same, True)


def _merged(case: Case, found: Comparison, tag: str, expert: torch.nn.Module, before: dict[str, torch.Tensor]) -> None:
    merged, allowed = dict(expert.named_parameters()), case.tolerances["all"]
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    found.same(f"{tag}: changed tensors", len(changed), case.params["changed_tensors"][tag])
    listed = set()
    for key in (key for key in case.expected if key.startswith(f"{tag}.")):
        _, kind, official = key.split(".", 2)
        module, _, leaf = official.rpartition(".")
        name = f"{diffusers_name(module)}.{leaf}"
        listed.add(name)
        if kind not in ("proj", "full") or name not in merged:
            raise NotUnderstood(f"expected: {key}")
        value = merged[name]
        if kind == "proj":
            value = value.double().flatten(1) @ case.inputs[f"probe.{official}"].double()
        found.close(f"{tag}: merged, {kind}", value.view(case.expected.peek(key).shape), key, allowed)
    found.same(f"{tag}: changed beside the listed", sorted(changed - listed), [])


def sizes(case: Case, found: Comparison) -> None:
    """Kind `size_rule`: the size of a video from that of its picture."""
    columns = (case.params["columns_in"], case.params["columns_out"])
    if columns != (["image_width", "image_height", "max_width"], ["height", "width"]):
        raise NotUnderstood(f"params: found the columns {columns}")
    found_sizes = [size_of_picture(*row)[::-1] for row in case.inputs["table"].tolist()]
    found.close("size", torch.tensor(found_sizes), "size", case.tolerances["size"])
