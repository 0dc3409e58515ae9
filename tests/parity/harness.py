"""What the parity tests share: the fixtures' weights as a WanModel, and a chain run through the hooks of `plugins/`.

Another set of the same layout is taken with `SVID_PARITY_CASES=/its/root pytest tests/parity`; what svid has no plugin
for is left out there. See data/README.md for the layout.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file

from svid.api import (
    Carry,
    Conditioning,
    Encoding,
    Guidance,
    Job,
    Lora,
    ModelSource,
    Picture,
    Recipe,
    Sampling,
    Segment,
)
from svid.wan import schedule
from svid.wan.model import WanModel
from svid.wan.text import zero_padded

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("SVID_PARITY_CASES", HERE / "data"))
PLUGINS = HERE.parents[1] / "plugins"
SERVED = {
    "i2v": ("i2v", "i2v"),
    "svi-film": ("svi_film", "svi-film"),
    "svi-shot": ("svi_shot", "svi-shot"),
    "svi-tom": ("svi_tom", "svi-tom"),
    "svi-2.0-wan21": ("svi_20", "svi-2.0-wan21"),
    "svi-2.0": ("svi_20", "svi-2.0-wan22"),
    "svi-2.0-pro": ("svi_pro", "svi-2.0-pro"),
}
"""Per variant of the recordings, the plugin and the recipe that serve it."""


@dataclass(frozen=True)
class Case:
    """One recorded case: its case.json and its tensors."""

    name: str
    spec: dict[str, Any]
    folder: Path

    @property
    def params(self) -> dict[str, Any]:
        return self.spec["params"]

    @property
    def tolerances(self) -> dict[str, Any]:
        return self.spec["tolerances"]

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "inputs.safetensors")

    @property
    def expected(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "expected.safetensors")


def cases(kind: str) -> list[Case]:
    """Every case of this kind under ROOT, by name."""
    found = []
    for path in sorted(ROOT.glob("cases/*/case.json")):
        spec = json.loads(path.read_text())
        if spec["kind"] == kind:
            found.append(Case(spec["name"], spec, path.parent))
    return found


@cache
def plugin(name: str) -> ModuleType:
    """A module of `plugins/`, imported from its file as the daemon does."""
    spec = importlib.util.spec_from_file_location(f"parity_{name}", PLUGINS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StandInText:
    """The fixtures' stand-in for UMT5: recorded embeddings, zero rows up to 512."""

    def __init__(self, path: Path) -> None:
        self._rows = {name: rows.float()[None] for name, rows in load_file(path).items()}

    def encode(self, prompt: str) -> torch.Tensor:
        return zero_padded(self._rows[prompt], self._rows[prompt].shape[1])


class StandInImage:
    """The fixtures' stand-in for CLIP: U V + m b, m the mean of the picture in [-1, 1]."""

    def __init__(self, path: Path) -> None:
        weights = {name: value.float() for name, value in load_file(path).items()}
        self._fixed, self._b = weights["U"] @ weights["V"], weights["b"]
        self.seen: list[torch.Tensor] = []

    def embed(self, picture: torch.Tensor) -> torch.Tensor:
        self.seen.append(picture)
        return self.of_mean((picture.float() * (2 / 255) - 1).mean())

    def of_mean(self, mean: torch.Tensor | float) -> torch.Tensor:
        return (self._fixed + mean * self._b)[None]


def _built(kind: Any, relative: str, convert: Any) -> Any:
    configs = json.loads((ROOT / "weights" / "diffusers_configs.json").read_text())
    config = configs[Path(relative).name]
    model = kind(**{key: value for key, value in config.items() if not key.startswith("_")})
    weights = {key: value.float() for key, value in load_file(ROOT / relative).items()}
    model.load_state_dict(convert(weights), strict=True)
    return model.eval().requires_grad_(False)


@cache
def transformer(relative: str) -> Any:
    return _built(WanTransformer3DModel, relative, convert_wan_transformer_to_diffusers)


@cache
def vae(relative: str) -> Any:
    return _built(AutoencoderKLWan, relative, convert_wan_vae_to_diffusers)


def model(case: Case) -> WanModel:
    """The case's weights as svid's model; an expert that the case does without is left out."""
    weights = case.spec["weights"]
    files = {"high": weights.get("transformer_high", weights.get("transformer")), "low": weights.get("transformer_low")}
    return WanModel(
        experts={expert: transformer(file) for expert, file in files.items() if file},
        vae=vae(weights["vae"]),
        text=StandInText(ROOT / weights["text_embeds"]) if "text_embeds" in weights else None,
        device=torch.device("cpu"),
        dtype=torch.float32,
        image=StandInImage(ROOT / weights["clip_stub"]) if "clip_stub" in weights else None,
    )


def videos() -> list[Case]:
    """The recorded videos that svid has a recipe for. It repeats no first image and marks the first latent only."""
    return [
        case
        for case in cases("video")
        if case.spec["variant"] in SERVED
        and not case.params.get("repeat_first_clip")
        and case.params["mask_kept_pixel_frames"] == 1
    ]


def recipe(variant: str) -> Recipe:
    """The recipe that serves a recorded variant."""
    file, name = SERVED[variant]
    return next(one for one in plugin(file).svid_recipes() if one.name == name)


def job(variant: str) -> Job:
    return Job("j", "parity", "v", recipe(variant), ModelSource("fixture", ROOT, {}, "float32"), 15, Encoding())


def picture(path: Path) -> Picture:
    return Picture(path, "0" * 64, str(path))


MOTION = {"motion_latents": "motion_latent", "motion_frames": "motion_frames"}


def segment(case: Case, index: int) -> Segment:
    """Clip `index` of a recorded video as a segment."""
    p, loras = case.params, []
    for entry in case.spec["weights"].get("loras", []):
        target = {"transformer": "high"}.get(entry["target"], entry["target"])
        loras.append(Lora(entry["file"], {target: ROOT / entry["file"]}, {target: ""}, {target: entry["scale"]}))
    image = picture(case.folder / case.spec["images"]["reference"])
    handed_on = {key: p.get(f"num_{name}", 0) for key, name in MOTION.items()}
    rule = recipe(case.spec["variant"]).model_copy(update=handed_on)
    return Segment(
        index=index,
        prompt=p["prompts"][index],
        negative=p["negative"],
        seed=p["seeds"][index],
        frames=p["num_frames"],
        width=p["width"],
        height=p["height"],
        anchor=image,
        image=image if index == 0 else None,
        **handed_on,
        overlap=rule.overlap if index and rule.trim == "head" else 0,
        tail_trim=rule.overlap if rule.trim == "tail" else 0,
        pad=p["pad"],
        sampling=Sampling(
            "euler",
            p["num_inference_steps"],
            p["shift"],
            Guidance(high=p["guidance_scale"], low=p["guidance_scale"]).model_dump(),
            p.get("boundary", 0.0),
        ),
        loras=tuple(loras),
    )


@dataclass
class Rendered:
    """What one segment gave."""

    y: torch.Tensor
    steps: list[torch.Tensor] = field(default_factory=list)
    latents: torch.Tensor | None = None
    frames: torch.Tensor | None = None


def render(case: Case, wan: WanModel, index: int, carry: Carry | None, monkeypatch: Any) -> Rendered:
    """One segment through the hooks, in the chain's order, recording the latents after every step."""
    work, clip = job(case.spec["variant"]), segment(case, index)
    builder = plugin(SERVED[case.spec["variant"]][0])
    conditioning: Conditioning = builder.svid_build_conditioning(work, wan, clip, carry)
    out = Rendered(conditioning.y)
    make = schedule.make_scheduler

    def recording(*args: Any) -> Any:
        scheduler = make(*args)
        step = scheduler.step

        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            out.steps.append(result[0][0].clone())
            return result

        scheduler.step = recorded
        return scheduler

    monkeypatch.setattr(schedule, "make_scheduler", recording)
    with plugin("loras").svid_apply_loras(work, wan, clip):
        state = plugin("sampler").svid_sample(work, wan, clip, conditioning, lambda step, steps: None)
    monkeypatch.setattr(schedule, "make_scheduler", make)
    out.latents = state["latents"]
    out.frames = torch.cat(list(plugin("decoder").svid_decode(work, wan, clip, state, carry)))
    return out


def carry_of(latents: torch.Tensor, frames: torch.Tensor) -> Carry:
    """What a segment with these latents [16, T, h, w] and frames leaves."""
    return Carry("0" * 64, {"latents": latents[None]}, frames[-9:])


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest absolute difference; shapes must agree."""
    assert actual.shape == expected.shape
    return float((actual.double() - expected.double()).abs().max())
