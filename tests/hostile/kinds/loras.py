"""LoRA files: keys of every format, whole or harmed."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

from svid.errors import LoraError, plain
from tests.hostile.kinds.applied import applied_and_taken_off, studio
from tests.hostile.kinds.headers import tensors_of, weights_file
from tests.hostile.kinds.kind import Kind
from tests.hostile.mutate import mutated, mutated_text

PREFIXES = ("", "diffusion_model.", "pipe.dit.", "transformer.", "transformer_2.", "lora_unet_", "lycoris_", "no.")
MODULES = ("blocks.0.self_attn.q", "blocks.1.ffn.0", "head.head", "blocks_0_self_attn_q", "img_emb.proj.1", "", "x")
SHAPES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "pair": ((".lora_A.weight", (2, 8)), (".lora_B.weight", (8, 2))),
    "alpha": ((".lora_down.weight", (2, 8)), (".lora_up.weight", (8, 2)), (".alpha", ())),
    "dora": ((".lora_down.weight", (2, 8)), (".lora_up.weight", (8, 2)), (".dora_scale", (8, 1))),
    "lokr": ((".lokr_w1", (2, 2)), (".lokr_w2_a", (4, 2)), (".lokr_w2_b", (2, 4)), (".alpha", ())),
    "loha": ((".hada_w1_a", (8, 2)), (".hada_w1_b", (2, 8)), (".hada_w2_a", (8, 2)), (".hada_w2_b", (2, 8))),
    "diff": ((".diff", (8, 8)), (".diff_b", (8,))),
    "odd": ((".lokr_t2", (2, 2, 1, 1)), (".diff_m", (1, 6, 8)), (".lora_B.bias", (8,)), (".weight", (8, 8))),
}
LETTERS = (".", "_", "\x1b[31m", "\u202e", "é" * 99)
PARTS = (
    *(".lora_A.weight", ".lora_B.weight", ".lora_down.weight", ".lora_up.weight", ".lora_B.bias", ".alpha", ".diff"),
    *(".dora_scale", ".lora_magnitude_vector", ".diff_b", ".diff_m", ".modulation.diff", ".w_norm", ".b_norm"),
    *(".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2", ".hada_w1_a"),
    *(".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1"),
)
METADATA = ("{}", '{"lora_alpha": 4}', '{"lora_alpha": NaN}', '{"lora_alpha": 1e999}', '{"alpha_pattern": {"a": 1}}')
METADATA = (*METADATA, '{"lora_alpha": "4"}', '{"use_rslora": true}', '{"transformer_2.lora_alpha": 2}')


def _lora(dice: random.Random) -> bytes:
    keys: dict[str, tuple[str, tuple[int, ...]]] = {}
    for _ in range(dice.randint(1, 3)):
        place = dice.choice(PREFIXES[:6]) + dice.choice(MODULES[:2] if dice.random() < 0.8 else MODULES)
        if place.startswith(("lora_unet_", "lycoris_")):
            place = place.replace(".", "_")
        for key, shape in SHAPES[dice.choice(list(SHAPES))]:
            keys[place + key] = (dice.choice(("F32", "F32", "F16", "BF16", "F64")), shape)
    for _ in range(dice.choice((0, 0, 1, 2))):
        _harm(keys, dice)
    header, body = tensors_of(keys, dice)
    if dice.random() < 0.15:
        written = dice.choice((*METADATA, "[" * 20_000, "x"))
        header["__metadata__"] = {"lora_adapter_metadata": written}
    if dice.random() < 0.15 and len(body) >= 8:  # NaN, infinity, the largest numbers
        place = dice.randrange(len(body) // 4) * 4
        value = struct.pack("<f", dice.choice((float("nan"), float("inf"), 3e38)))
        body = body[:place] + value + body[place + 4 :]
    data = weights_file(json.dumps(header), body)
    return mutated(data, dice) if dice.random() < 0.1 else data


def _harm(keys: dict[str, tuple[str, tuple[int, ...]]], dice: random.Random) -> None:
    """Drop a key, or give it another dtype, another shape or another name; or put another part beside it."""
    key = dice.choice(list(keys))
    dtype, shape = keys[key]
    harm = dice.randrange(6)
    if harm == 0 and len(keys) > 1:
        del keys[key]
    elif harm == 1:
        keys[key] = (dice.choice(("I64", "U8", "F8_E4M3")), shape)
    elif harm == 2:
        keys[key] = (dtype, tuple(dice.choice((0, 1, 2, 8)) for _ in range(dice.randint(0, 4))))
    elif harm == 3:
        keys[mutated_text(key, LETTERS, dice)] = keys.pop(key)
    else:
        module = next((key.removesuffix(part) for part in PARTS if key.endswith(part)), key)
        keys[module + dice.choice(PARTS)] = (dtype, shape) if dice.random() < 0.5 else keys.pop(key)


def _read_lora(data: bytes, folder: Path) -> None:
    import torch

    from svid.wan.headers import read_header
    from svid.wan.lora.describe import describe_lora
    from svid.wan.lora.read import read_lora

    path = folder / "x.safetensors"
    path.write_bytes(data)
    json.dumps(describe_lora(path, read_header(path, path.name, LoraError)))
    file = read_lora(path)
    for expert in ("high", "low"):
        for name, delta in file.on(expert).items():  # type: ignore[arg-type]
            assert name
            assert plain(name) == name
            for shape in ((8, 8), (8,), (1, 6, 8)):
                if delta.fits(shape):
                    assert delta.delta(torch.ones(shape)).shape == shape
    applied_and_taken_off(path)


KIND = Kind(_lora, _read_lora, ready=studio)
