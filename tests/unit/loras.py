"""One change in every format, and LoRAs of every kind for one layer."""

from __future__ import annotations

import torch

from .test_wan_lora import DIM, MODULES, OURS, pairs

WEIGHTS = [f"{name}.weight" for name in OURS]


def plain(name, down="lora_A.weight", up="lora_B.weight", names=MODULES):
    return {
        name(module) + "." + part: value
        for module, both in zip(names, pairs().values(), strict=True)
        for part, value in zip((down, up), both, strict=True)
    }


def flat(prefix, names, alpha=1.5):
    def name(module):
        return prefix + module.replace(".", "_")

    tensors = plain(name, "lora_down.weight", "lora_up.weight", names)
    tensors = {key: value * 3 / alpha if "lora_up" in key else value for key, value in tensors.items()}
    return tensors | {f"{name(module)}.alpha": torch.tensor(alpha) for module in names}


def products():
    return {module: up @ down for module, (down, up) in pairs().items()}


FORMATS = {
    "pipe.dit": plain("pipe.dit.{}".format, "lora_A.default.weight", "lora_B.default.weight"),
    "bare": plain(str),
    "comfy": plain("diffusion_model.{}".format, "lora_down.weight", "lora_up.weight"),
    "diffusers": plain("transformer.{}".format, names=OURS),
    "peft": plain("base_model.model.{}".format, names=OURS),
    "peft of a pipeline": plain("base_model.model.transformer.{}".format, names=OURS),
    "peft, authors' names": plain("base_model.model.{}".format, "lora_A.default.weight", "lora_B.default.weight"),
    "musubi": flat("lora_unet_", MODULES),
    "kohya with diffusers' names": flat("lora_unet_", OURS, 3.0),
    "videox-fun": flat("lora_unet__", MODULES),
    "lycoris": flat("lycoris_", OURS),
    "diff": {f"diffusion_model.{name}.diff": value for name, value in products().items()},
    "lycoris full": {f"lycoris_{name.replace('.', '_')}.diff": value
                     for name, value in zip(OURS, products().values(), strict=True)},
    "loha": {
        f"diffusion_model.{name}.{part}": value
        for name, (down, up) in pairs().items()
        for part, value in {
            "hada_w1_a": up * 2, "hada_w1_b": down, "alpha": torch.tensor(1.5),
            "hada_w2_a": torch.ones(len(up), 3) / 3, "hada_w2_b": torch.ones(3, down.shape[1]),
        }.items()
    },
    "lokr of a product": {
        f"lycoris_{name.replace('.', '_')}.{part}": value
        for name, (down, up) in zip(OURS, pairs().values(), strict=True)
        for part, value in {
            "lokr_w1": torch.full((1, 1), 2.0), "lokr_w2_a": up, "lokr_w2_b": down, "alpha": torch.tensor(1.5),
        }.items()
    },
    "lokr of matrices": {
        f"diffusion_model.{name}.{part}": value
        for name, matrix in products().items()
        for part, value in {
            "lokr_w1": torch.ones(1, 1), "lokr_w2": matrix, "alpha": torch.tensor(77.0),
        }.items()
    },
}  # fmt: skip


def rand(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kron_by_hand(first, second):
    """out[a * B + b, c * D + d] = first[a, c] * second[b, d], without torch.kron."""
    (a, c), (b, d) = first.shape, second.shape
    return (first[:, None, :, None] * second[None, :, None, :]).reshape(a * b, c * d)


Q, FFN = "blocks.0.attn1.to_q.weight", "blocks.0.ffn.net.0.proj.weight"
LOKR = {
    "both whole, alpha ignored": (
        {"lokr_w1": rand(4, 3), "lokr_w2": rand(8, 8, seed=2), "alpha": torch.tensor(5.0)},
        lambda t: kron_by_hand(t["lokr_w1"], t["lokr_w2"]),
    ),
    "second a product": (
        {"lokr_w1": rand(4, 3), "lokr_w2_a": rand(8, 2, seed=2), "lokr_w2_b": rand(2, 8, seed=3),
         "alpha": torch.tensor(3.0)},
        lambda t: 1.5 * kron_by_hand(t["lokr_w1"], t["lokr_w2_a"] @ t["lokr_w2_b"]),
    ),
    "first a product": (
        {"lokr_w1_a": rand(4, 2), "lokr_w1_b": rand(2, 3, seed=4), "lokr_w2": rand(8, 8, seed=2),
         "alpha": torch.tensor(1.0)},
        lambda t: 0.5 * kron_by_hand(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2"]),
    ),
    "both products": (
        {"lokr_w1_a": rand(4, 2), "lokr_w1_b": rand(2, 3, seed=4),
         "lokr_w2_a": rand(8, 2, seed=2), "lokr_w2_b": rand(2, 8, seed=3), "alpha": torch.tensor(4.0)},
        lambda t: 2 * kron_by_hand(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2_a"] @ t["lokr_w2_b"]),
    ),
    "no alpha": (
        {"lokr_w1": rand(4, 3), "lokr_w2_a": rand(8, 2, seed=2), "lokr_w2_b": rand(2, 8, seed=3)},
        lambda t: kron_by_hand(t["lokr_w1"], t["lokr_w2_a"] @ t["lokr_w2_b"]),
    ),
}  # fmt: skip
LOHA = {
    "hada_w1_a": rand(32, 2), "hada_w1_b": rand(2, DIM, seed=2),
    "hada_w2_a": rand(32, 2, seed=3), "hada_w2_b": rand(2, DIM, seed=4), "alpha": torch.tensor(3.0),
}  # fmt: skip
LORA = {"lora_down.weight": rand(2, DIM), "lora_up.weight": rand(32, 2, seed=2), "alpha": torch.tensor(3.0)}
ROWS, INPUTS = rand(32, seed=9).abs() + 0.5, rand(DIM, seed=9).abs() + 0.5


def on_ffn(tensors, prefix="lora_unet_blocks_0_ffn_0."):
    return {prefix + part: value for part, value in tensors.items()}
