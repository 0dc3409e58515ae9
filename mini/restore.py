"""The trained miniature out of a folder as the package has it, for whatever judges it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from latents import Encoder
from lora import original, read_pairs, targets
from prompts import Prompts
from transformers import AutoTokenizer, UMT5EncoderModel

EMBEDDED = Path(__file__).resolve().parent.parent / "svid" / "embedded"
MODEL, LORAS = EMBEDDED / "wan22-mini", EMBEDDED / "wan22-mini-loras"
"""What is judged unless something else is named: the miniature in the package."""
EXPERTS = {"high": "transformer", "low": "transformer_2"}


@dataclass
class Miniature:
    """Both experts with nothing on them, prompts, and the VAE behind an encoder."""

    experts: dict[str, Any]
    prompts: Prompts
    encoder: Encoder


def restore(folder: Path, height: int = 64, width: int = 64, device: str = "cpu") -> Miniature:
    """Load a model folder in diffusers layout, in fp32."""
    experts = {
        name: WanTransformer3DModel.from_pretrained(folder / part, torch_dtype=torch.float32).to(device).eval()
        for name, part in EXPERTS.items()
    }
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(device).eval()
    text = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device).eval()
    for module in (*experts.values(), vae, text):
        module.requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return Miniature(experts, Prompts(tokenizer, text), Encoder(vae, height, width))


class Applied:
    """LoRA files added to the experts' weights while a `with` lasts: {"high": [(path, strength), ...], ...}."""

    def __init__(self, experts: dict[str, Any], files: dict[str, list[tuple[Path, float]]]) -> None:
        self.experts, self.files = experts, files
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __enter__(self) -> None:
        for name, files in self.files.items():
            layers = targets(self.experts[name])
            for path, strength in files:
                for key, (down, up) in read_pairs(path).items():
                    weight = original(layers[key])
                    self.kept.append((weight, weight.clone()))
                    weight += strength * (up @ down).to(weight)

    def __exit__(self, *_: object) -> None:
        for weight, before in reversed(self.kept):
            weight.copy_(before)
        self.kept.clear()
