"""The recorded weights as svid's model, and the stand-ins for the encoders that the recordings were made with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file

from svid.api import Expert, Lora
from svid.wan.model import WanModel
from svid.wan.text import zero_padded
from tests.parity.cases import Case, Fields, NotUnderstood

KINDS = {
    "WanTransformer3DModel": (WanTransformer3DModel, convert_wan_transformer_to_diffusers),
    "AutoencoderKLWan": (AutoencoderKLWan, convert_wan_vae_to_diffusers),
}


class StandInText:
    """Stands for UMT5: recorded embeddings by name, zero rows up to 512."""

    def __init__(self, path: Path) -> None:
        self._rows = {name: rows.float()[None] for name, rows in load_file(path).items()}

    def encode(self, prompt: str) -> torch.Tensor:
        if prompt not in self._rows:
            raise NotUnderstood(f"text_embeds: expected {prompt!r}, found {', '.join(sorted(self._rows))}")
        return zero_padded(self._rows[prompt], self._rows[prompt].shape[1])


class StandInImage:
    """Stands for CLIP: U V + m b, m the mean of the picture in [-1, 1]. Without a file it only remembers pictures."""

    def __init__(self, path: Path | None) -> None:
        weights = {name: value.float() for name, value in load_file(path).items()} if path else {}
        self._fixed = weights["U"] @ weights["V"] if path else torch.zeros(257, 1)
        self._b = weights.get("b", torch.zeros(1))
        self.seen: list[torch.Tensor] = []

    def embed(self, picture: torch.Tensor) -> torch.Tensor:
        self.seen.append(picture)
        return self.of_mean(self.mean())

    def mean(self) -> torch.Tensor:
        """Of the picture seen last: [1]."""
        return (self.seen[-1].float() * (2 / 255) - 1).mean()[None]

    def of_mean(self, mean: torch.Tensor | float) -> torch.Tensor:
        return (self._fixed + mean * self._b)[None]


def component(case: Case, relative: str) -> Any:
    """A transformer or a VAE of the case, in fp32."""
    return _built(case.file(relative), case.file("weights/diffusers_configs.json"))


@cache
def _built(file: Path, configs: Path) -> Any:
    config = json.loads(configs.read_text()).get(file.name)
    if config is None:
        raise NotUnderstood(f"weights/{configs.name}: expected an entry for {file.name}, found none")
    kind, convert = KINDS[config["_class_name"]]
    model = kind(**{key: value for key, value in config.items() if not key.startswith("_")})
    model.load_state_dict(convert({key: value.float() for key, value in load_file(file).items()}), strict=True)
    return model.eval().requires_grad_(False)


def experts(case: Case) -> dict[Expert, Any]:
    """The transformers of the case by expert; one alone takes the place of the high-noise expert."""
    names: dict[str, Expert] = {"transformer": "high", "transformer_high": "high", "transformer_low": "low"}
    return {expert: component(case, case.weights[key]) for key, expert in names.items() if key in case.weights}


def model(case: Case, *, sees: bool | None = None) -> WanModel:
    """The weights of the case as svid's model. `sees`: whether it has an image encoder, also without its weights."""
    text, clip = case.weights.get("text_embeds"), case.weights.get("clip_stub")
    sees = clip is not None if sees is None else sees
    return WanModel(
        experts=experts(case),
        vae=component(case, case.weights["vae"]),
        text=StandInText(case.file(text)) if text else None,
        device=torch.device("cpu"),
        dtype=torch.float32,
        image=StandInImage(case.file(clip) if clip else None) if sees else None,
    )


def loras(entries: list[Fields], place: Path) -> tuple[Lora, ...]:
    """The LoRAs of a list of a case, their files relative to `place`."""
    found = []
    for entry in entries:
        name, target, scale = entry["file"], entry.get("target", "transformer"), entry["scale"]
        if target not in ("transformer", "high", "low"):
            raise NotUnderstood(f"{entry.where}.target: expected transformer, high or low, found {target!r}")
        expert: Expert = "low" if target == "low" else "high"
        if not (place / name).is_file():
            raise NotUnderstood(f"{entry.where}.file: expected a file {name}, found none")
        entry.allow("format")
        entry.done()
        found.append(Lora(name, {expert: place / name}, {expert: ""}, {expert: scale}))
    return tuple(found)
