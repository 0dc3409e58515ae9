"""LoRAs on the experts: put on, trained, taken off, and written with the keys of the SVI authors and of ComfyUI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

NAMES = {"attn1": "self_attn", "attn2": "cross_attn"}
PARTS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
FEED = {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}


class LowRank(nn.Module):
    """A weight plus B A: it is put on a layer as the parametrization of its weight, so every forward sees it."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.strength = 1.0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """[rows, columns] to the same."""
        changed: torch.Tensor = weight + self.strength * (self.up @ self.down)
        return changed


def targets(model: Any) -> dict[str, nn.Linear]:
    """What SVI trains, by the authors' names: q, k, v, o of both attentions and the feed-forward of each block."""
    found = {}
    for index, block in enumerate(model.blocks):
        for ours, theirs in NAMES.items():
            for part, letter in PARTS.items():
                found[f"blocks.{index}.{theirs}.{letter}"] = block.get_submodule(f"{ours}.{part}")
        for part, name in FEED.items():
            found[f"blocks.{index}.{name}"] = block.get_submodule(part)
    return found


def original(layer: Any) -> torch.Tensor:
    """The weight of a layer without the LoRA that may be on it, to be changed in place."""
    weight: torch.Tensor = (
        layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
    ).data
    return weight


class Lora(nn.Module):
    """One LoRA on one expert: its pairs by the authors' names with `.` as `/`, as a module so that it can be saved."""

    def __init__(self, model: Any, rank: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = [model]
        self.pairs = nn.ModuleDict()
        for name, layer in targets(model).items():
            rows, columns = layer.weight.shape
            pair = LowRank(rows, columns, rank).to(layer.weight.device)
            self.pairs[name.replace(".", "/")] = pair
            parametrize.register_parametrization(layer, "weight", pair)

    def set_strength(self, strength: float) -> None:
        """0 takes it off, 1 puts it on."""
        for pair in self.loras():
            pair.strength = strength

    def remove(self) -> None:
        """Take it off for good: the expert is as it was."""
        for layer in targets(self.model[0]).values():
            parametrized: Any = layer
            weight = parametrized.parametrizations.weight.original.data
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            layer.weight.data.copy_(weight)

    def loras(self) -> list[LowRank]:
        """The pairs in the order of the layers."""
        return [pair for pair in self.pairs.values() if isinstance(pair, LowRank)]

    def matrices(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """(A [rank, in], B [out, rank]) by the authors' names."""
        names = (name.replace("/", ".") for name in self.pairs)
        return {n: (p.down.detach(), p.up.detach()) for n, p in zip(names, self.loras(), strict=True)}


def official_keys(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As the authors of SVI 2.0 and 2.0 Pro save: no prefix, `.default.`, no alpha; bf16."""
    keys = {}
    for name, (down, up) in pairs.items():
        keys[f"{name}.lora_A.default.weight"] = down.bfloat16().contiguous()
        keys[f"{name}.lora_B.default.weight"] = up.bfloat16().contiguous()
    return keys


def comfy_keys(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As ComfyUI's trainers save: `diffusion_model.`, down and up, an alpha that is the rank; bf16."""
    keys = {}
    for name, (down, up) in pairs.items():
        keys[f"diffusion_model.{name}.lora_down.weight"] = down.bfloat16().contiguous()
        keys[f"diffusion_model.{name}.lora_up.weight"] = up.bfloat16().contiguous()
        keys[f"diffusion_model.{name}.alpha"] = torch.tensor(float(down.shape[0]), dtype=torch.bfloat16)
    return keys


def write_lora(lora: Lora, path: Path, official: bool, strength: float = 1.0) -> None:
    """Write a LoRA as a safetensors file that has at strength 1 what the LoRA has at `strength`."""
    pairs = {name: (down.cpu(), up.cpu() * strength) for name, (down, up) in lora.matrices().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(official_keys(pairs) if official else comfy_keys(pairs), path)


def read_pairs(path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The pairs of a file that `write_lora` wrote, in fp32."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in load_file(path).items():
        name, kind = key.removeprefix("diffusion_model.").rsplit(".lora_", 1) if ".lora_" in key else (key, "")
        if kind:
            found.setdefault(name, {})["down" if kind.startswith(("A", "down")) else "up"] = value.float()
    return {name: (pair["down"], pair["up"]) for name, pair in found.items()}
