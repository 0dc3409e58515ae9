"""A LoRA that the reader accepts, on a tiny model of its own shapes, through the stages of a render."""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from svid.api import Conditioning, Lora

SIDE = 8
"""Width of the model, and of what `loras` makes."""


@dataclass(frozen=True)
class _Words:
    """The same embedding for every prompt."""

    states: torch.Tensor

    def encode(self, prompt: str) -> torch.Tensor:
        return self.states


@functools.cache
def studio() -> tuple[Any, Any, Mapping[str, torch.Tensor]]:
    """The plugins, the model, and copies of its weights."""
    from diffusers import WanTransformer3DModel

    from svid.testing import load
    from svid.wan.model import WanModel

    torch.manual_seed(0)
    sizes: dict[str, int] = {"num_attention_heads": 1, "attention_head_dim": SIDE, "num_layers": 2, "freq_dim": SIDE}
    sizes |= {"in_channels": 36, "out_channels": 16, "text_dim": SIDE, "ffn_dim": SIDE}
    experts = {name: WanTransformer3DModel(**sizes).eval().requires_grad_(False) for name in ("high", "low")}
    model = WanModel(experts, None, _Words(torch.randn(1, 16, SIDE)), torch.device("cpu"), torch.float32)  # type: ignore[arg-type]
    return load(), model, {key: value.clone() for key, value in _weights(model)}


def _weights(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [
        (f"{one}.{key}", value) for one, expert in model.experts.items() for key, value in expert.named_parameters()
    ]


def applied_and_taken_off(path: Path) -> None:
    """Sample two steps with the LoRA of `path` on one expert or both, at a strength and for steps that its bytes give.

    Raises Refused where it does not fit the model or gives no finite numbers, AssertionError where a weight is not what
    it was before, bit for bit.
    """
    from svid.render.chain import Work, run_chain
    from svid.testing import make_job, make_segment

    plugins, model, before = studio()
    dice = random.Random(zlib.crc32(path.read_bytes()))
    on = dice.choice((("high", "low"), ("high", "low"), ("high",), ("low",)))
    strength = dict.fromkeys(on, dice.choice((1.0, 0.5, -10.0, 0.0)))
    lora = Lora("x", dict.fromkeys(on, path), dict.fromkeys(on, ""), strength, dice.choice((None, (1, 1), (2, 2))))  # type: ignore[arg-type]
    segment = make_segment(loras=(lora,), height=16, width=16)
    work = Work(plugins, lambda job, segment: model, make_job(plugins), segment, None, lambda step, steps: None, Path())
    work.conditioning = Conditioning(torch.zeros(1, 20, 2, 2, 2))
    try:
        run_chain(("load_model", "apply_loras", "sample"), work)
        assert bool(work.state["latents"].isfinite().all())
    finally:
        work.loras.release()
        after = dict(_weights(model))
        worn = [key for key, value in before.items() if value.numpy().tobytes() != after[key].numpy().tobytes()]
        if worn:
            studio.cache_clear()
        assert not worn, f"{worn[0]} and others are not what they were"
