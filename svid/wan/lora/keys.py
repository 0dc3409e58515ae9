"""How LoRA files name what they change. Pure string work, without torch.

| source | example |
|---|---|
| SVI 1.0 authors | `pipe.dit.blocks.0.self_attn.q.lora_A.default.weight` |
| SVI 2.0 and Pro authors | `blocks.0.self_attn.q.lora_A.default.weight` |
| Kijai, ComfyUI | `diffusion_model.blocks.0.self_attn.q.lora_down.weight`, `.alpha`, `.diff`, `.diff_b`, `.diff_m` |
| diffusers, PEFT | `transformer.blocks.0.attn1.to_q.lora_A.weight`, `base_model.model.` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Part = Literal["down", "up", "alpha", "diff", "diff_b", "diff_m"]

PREFIXES = ("pipe.dit.", "model.diffusion_model.", "diffusion_model.", "transformer.", "base_model.model.")
PARTS: dict[str, Part] = {
    "lora_A": "down",
    "lora_down": "down",
    "lora_B": "up",
    "lora_up": "up",
    "alpha": "alpha",
    "diff": "diff",
    "diff_b": "diff_b",
    "diff_m": "diff_m",
}
_KEY = re.compile(
    r"(?P<module>.+)\.(?:(?P<pair>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|(?P<one>alpha|diff|diff_b|diff_m))"
)
_BLOCK = re.compile(r"(blocks\.\d+)(?:\.(.+))?")
BLOCK_MODULES = {
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
}
"""Authors' names inside a block that differ from diffusers'; norm3 is the one before the cross attention in theirs."""
ATTENTIONS = {"self_attn": "attn1", "cross_attn": "attn2"}
PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
MODULES = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head": "",
}
"""Outside the blocks. `head` alone carries only a modulation, which diffusers keeps at the top of the model."""
IMAGE_BRANCH = frozenset(
    ("k_img", "v_img", "norm_k_img", "img_emb", "add_k_proj", "add_v_proj", "norm_added_k", "image_embedder")
)


@dataclass(frozen=True)
class Place:
    """Where a key of a file belongs: a module by diffusers' name, and which part of its change the tensor is."""

    module: str
    part: Part

    @property
    def parameter(self) -> str:
        """The parameter of the model that this part changes."""
        leaf = {"diff_b": "bias", "diff_m": "scale_shift_table"}.get(self.part, "weight")
        return f"{self.module}.{leaf}" if self.module else leaf


def place(key: str) -> Place | None:
    """Where `key` belongs, or None where no known format writes such a key."""
    match = _KEY.fullmatch(strip_prefix(key))
    if match is None:
        return None
    part = PARTS[match["pair"] or match["one"]]
    return Place(diffusers_name(match["module"]), part)


def strip_prefix(key: str) -> str:
    """`key` without the prefixes that trainers put before the model's own names, however many."""
    while True:
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            return key
        key = key.removeprefix(prefix)


def diffusers_name(module: str) -> str:
    """The authors' name of a module in diffusers' words; a name that is already diffusers' comes back as it is."""
    if module in MODULES:
        return MODULES[module]
    match = _BLOCK.fullmatch(module)
    if match is None or match[2] is None:
        return module
    block, inner = match[1], match[2]
    attention, _, rest = inner.partition(".")
    if attention in ATTENTIONS:
        return f"{block}.{ATTENTIONS[attention]}.{PROJECTIONS.get(rest, rest)}"
    return f"{block}.{BLOCK_MODULES.get(inner, inner)}"


def is_image_branch(module: str) -> bool:
    """Whether `module` belongs to the image branch of Wan 2.1, which Wan 2.2 doesn't have.

    Step-distilled LoRAs made for Wan 2.1 are used with Wan 2.2 and carry such keys (WVW issues 909, 1862).
    """
    return not IMAGE_BRANCH.isdisjoint(module.split("."))
