"""How LoRA files name what they change. Pure string work, without torch.

| written by | example |
|---|---|
| SVI 1.0 authors, DiffSynth | `pipe.dit.blocks.0.self_attn.q.lora_A.default.weight` |
| SVI 2.0 and Pro authors | `blocks.0.self_attn.q.lora_A.default.weight` |
| Kijai, ComfyUI, lightx2v | `diffusion_model.blocks.0.self_attn.q.lora_down.weight`, `.alpha`, `.diff`, `.diff_b` |
| lightx2v | `diffusion_model.blocks.0.diff_m`, `diffusion_model.head.diff_m` (the modulations) |
| diffusers, PEFT | `transformer.blocks.0.attn1.to_q.lora_A.weight`, `.lora_B.bias`, `base_model.model.` |
| musubi, kohya | `lora_unet_blocks_0_self_attn_q.lora_down.weight` |
| VideoX-Fun | `lora_unet__blocks_0_self_attn_q.lora_down.weight` |
| LyCORIS | `lycoris_blocks_0_attn1_to_q.lokr_w1`, `.hada_w1_a`, `.dora_scale`, `.w_norm`, `.b_norm` |

A module may be called by the authors' name or by diffusers' in any of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from svid.api import Expert
from svid.errors import plain

Part = Literal[
    "down", "up", "up_bias", "alpha", "diff", "diff_b", "diff_m", "magnitude",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
]  # fmt: skip

PREFIXES = ("pipe.dit.", "model.diffusion_model.", "diffusion_model.", "transformer.", "base_model.model.")
LOW_PREFIXES = ("pipe.dit2.", "transformer_2.")
"""Files for both experts: what has one of these is the low-noise expert's, all else the high-noise one's."""
FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lycoris_")
"""Trainers that write the dots of a module's name as underscores."""
PARTS: dict[str, Part] = {
    "lora_A": "down",
    "lora_down": "down",
    "lora_B": "up",
    "lora_up": "up",
    "alpha": "alpha",
    "diff": "diff",
    "diff_b": "diff_b",
    "diff_m": "diff_m",
    "w_norm": "diff",
    "b_norm": "diff_b",
    "dora_scale": "magnitude",
    "magnitude": "magnitude",
    "lora_magnitude_vector": "magnitude",
    "lokr_w1": "lokr_w1",
    "lokr_w1_a": "lokr_w1_a",
    "lokr_w1_b": "lokr_w1_b",
    "lokr_w2": "lokr_w2",
    "lokr_w2_a": "lokr_w2_a",
    "lokr_w2_b": "lokr_w2_b",
    "hada_w1_a": "hada_w1_a",
    "hada_w1_b": "hada_w1_b",
    "hada_w2_a": "hada_w2_a",
    "hada_w2_b": "hada_w2_b",
}
_KEY = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<pair>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight"
    r"|(?P<bias>lora_B|lora_up)(?:\.default)?\.bias"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
    r"|(?P<one>alpha|diff|diff_b|diff_m|w_norm|b_norm|dora_scale|magnitude|lokr_w[12](?:_[ab])?|hada_w[12]_[ab])"
    r")"
)
_TUCKER = re.compile(r".+\.(?:lokr_t[12]|hada_t[12]|lora_mid(?:\.default)?\.weight)")
_BLOCK = re.compile(r"(blocks\.\d+)(?:\.(.+))?")
_FLAT_BLOCK = re.compile(r"blocks_(\d+)_(.+)")
BLOCK_MODULES = {
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
}
"""Authors' names inside a block that differ from diffusers'; norm3 is the one before the cross attention in theirs."""
ATTENTIONS = {"self_attn": "attn1", "cross_attn": "attn2"}
PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
IMAGE_PROJECTIONS = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
MODULES = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head": "",
}
"""Outside the blocks. `head` alone carries only a modulation, which diffusers keeps at the top of the model."""
IMAGE_BRANCH = frozenset((*IMAGE_PROJECTIONS, *IMAGE_PROJECTIONS.values(), "img_emb", "image_embedder"))
_NORMS = ("norm_q", "norm_k")
_IN_ATTENTIONS = (
    *(f"{attention}.{name}" for attention in ATTENTIONS for name in (*PROJECTIONS, *_NORMS)),
    *(f"{attention}.{name}" for attention in ATTENTIONS.values() for name in (*PROJECTIONS.values(), *_NORMS)),
    *(f"cross_attn.{name}" for name in IMAGE_PROJECTIONS),
    *(f"attn2.{name}" for name in IMAGE_PROJECTIONS.values()),
)


def _flat(names: tuple[str, ...]) -> dict[str, str]:
    return {name.replace(".", "_"): name for name in names}


# Underscores can't be turned into dots by rule (`self_attn_norm_q`), so every name that Wan has is listed.
FLAT_IN_BLOCK = _flat((*_IN_ATTENTIONS, *BLOCK_MODULES, *BLOCK_MODULES.values()))
FLAT_MODULES = _flat(("patch_embedding", *MODULES, *filter(None, MODULES.values())))


@dataclass(frozen=True)
class Place:
    """Where a key of a file belongs: a module by diffusers' name, and which part of its change the tensor is. `expert`
    is `low` for a key that says so, else None."""

    module: str
    part: Part
    expert: Expert | None = None

    @property
    def parameter(self) -> str:
        """The parameter of the model that this part changes."""
        leaf = {"diff_b": "bias", "up_bias": "bias", "diff_m": "scale_shift_table"}.get(self.part, "weight")
        return f"{self.module}.{leaf}" if self.module else leaf


def place(key: str) -> Place | None:
    """Where `key` belongs, or None where no known format writes such a key."""
    rest, expert = strip_prefix(key)
    match = _KEY.fullmatch(rest)
    if match is None or plain(key) != key:  # control characters would go into logs and the lineage
        return None
    module = _unflatten(match["module"])
    if module is None:
        return None
    part = "up_bias" if match["bias"] else PARTS[match["pair"] or match["magnitude"] or match["one"]]
    if part == "diff" and module.endswith(".modulation"):
        module, part = module.removesuffix(".modulation"), "diff_m"
    return Place(diffusers_name(module), part, expert)


def is_tucker(key: str) -> bool:
    """Whether `key` is the core tensor of a Tucker decomposition, which trainers write for convolutions only."""
    return _TUCKER.fullmatch(key) is not None


def strip_prefix(key: str) -> tuple[str, Expert | None]:
    """`key` without the prefixes that trainers put before the model's own names, however many, and `low` where one of
    them names the low-noise expert."""
    expert: Expert | None = None
    while True:
        prefix = next((prefix for prefix in (*PREFIXES, *LOW_PREFIXES) if key.startswith(prefix)), None)
        if prefix is None:
            return key, expert
        expert = "low" if prefix in LOW_PREFIXES else expert
        key = key.removeprefix(prefix)


def _unflatten(module: str) -> str | None:
    """`module` with its dots back, or None where a flattened name is none of Wan's."""
    prefix = next((prefix for prefix in FLAT_PREFIXES if module.startswith(prefix)), None)
    if prefix is None:
        return module
    flat = module.removeprefix(prefix)
    block = _FLAT_BLOCK.fullmatch(flat)
    if block is None:
        return FLAT_MODULES.get(flat)
    return f"blocks.{block[1]}.{FLAT_IN_BLOCK[block[2]]}" if block[2] in FLAT_IN_BLOCK else None


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
        return f"{block}.{ATTENTIONS[attention]}.{(PROJECTIONS | IMAGE_PROJECTIONS).get(rest, rest)}"
    return f"{block}.{BLOCK_MODULES.get(inner, inner)}"


def is_image_branch(module: str) -> bool:
    """Whether `module` belongs to the image branch of Wan 2.1, which Wan 2.2 doesn't have.

    Step-distilled LoRAs made for Wan 2.1 are used with Wan 2.2 and carry such keys (WVW issues 909, 1862).
    """
    return not IMAGE_BRANCH.isdisjoint(module.split("."))
