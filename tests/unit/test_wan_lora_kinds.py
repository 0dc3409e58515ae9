"""LoKr, LoHa and DoRA against dense computations."""

from __future__ import annotations

import pytest
import torch

from svid.wan.lora.apply import Use, applied

from .loras import FFN, INPUTS, LOHA, LOKR, LORA, ROWS, Q, kron_by_hand, on_ffn, rand
from .test_wan_lora import DIM, expert, merged, saved


def loha_by_hand(t):
    first = torch.einsum("or,ri->oi", t["hada_w1_a"], t["hada_w1_b"])
    return 1.5 * first * torch.einsum("or,ri->oi", t["hada_w2_a"], t["hada_w2_b"])


def lora_by_hand(t):
    return 1.5 * torch.einsum("or,ri->oi", t["lora_up.weight"], t["lora_down.weight"])


@pytest.mark.parametrize("case", LOKR)
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_lokr_is_the_kronecker_product(tmp_path, case, strength):
    tensors, dense = LOKR[case]
    base = dict(expert().named_parameters())[FFN]
    got = merged(saved(tmp_path / "a.safetensors", on_ffn(tensors)), strength)[FFN]
    assert torch.allclose(got, base + strength * dense(tensors), atol=2e-6)


def test_lokr_of_the_patch_embedding(tmp_path):
    second = rand(6, 12, 1, 2, 2)
    tensors = {
        "diffusion_model.patch_embedding.lokr_w1": rand(4, 3, seed=2),
        "diffusion_model.patch_embedding.lokr_w2": second,
    }
    base = dict(expert().named_parameters())["patch_embedding.weight"]
    got = merged(saved(tmp_path / "a.safetensors", tensors))["patch_embedding.weight"]
    dense = torch.stack([
        kron_by_hand(rand(4, 3, seed=2), second[:, :, 0, y, x]) for y in (0, 1) for x in (0, 1)
    ], -1)  # fmt: skip
    assert torch.allclose(got, base + dense.reshape(DIM, 36, 1, 2, 2), atol=2e-6)


def test_loha_is_the_product_value_by_value(tmp_path):
    base = dict(expert().named_parameters())[FFN]
    got = merged(saved(tmp_path / "a.safetensors", on_ffn(LOHA)), 0.7)[FFN]
    assert torch.allclose(got, base + 0.7 * loha_by_hand(LOHA), atol=2e-6)


def dora_by_hand(base, direction, magnitude, strength, per_row):
    """Row by row, or column by column, in fp64."""
    moved, wanted = (base + direction).double(), base.double().clone()
    for index in range(base.shape[0] if per_row else base.shape[1]):
        at = (index, slice(None)) if per_row else (slice(None), index)
        length = float((moved[at] ** 2).sum().sqrt())
        wanted[at] += strength * (float(magnitude.flatten()[index]) * moved[at] / length - wanted[at])
    return wanted


DORA = {
    "lycoris, per input": ("dora_scale", INPUTS.view(1, -1), False),
    "lycoris, on the output": ("dora_scale", ROWS.view(-1, 1), True),
    "peft": ("lora_magnitude_vector", ROWS, True),
    "peft with an adapter name": ("lora_magnitude_vector.default.weight", ROWS, True),
    "ai-toolkit": ("magnitude", ROWS, True),
}


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
@pytest.mark.parametrize("strength", [1.0, 0.4, -0.5])
@pytest.mark.parametrize("spelling", DORA)
def test_dora_is_a_length_and_a_direction(tmp_path, spelling, strength, kind, record_property):
    key, magnitude, per_row = DORA[spelling]
    lokr, dense = LOKR["second a product"]
    tensors, by_hand = {"lora": (LORA, lora_by_hand), "loha": (LOHA, loha_by_hand), "lokr": (lokr, dense)}[kind]
    base = dict(expert().named_parameters())[FFN]
    file = saved(tmp_path / "a.safetensors", on_ffn(tensors | {key: magnitude}, "diffusion_model.blocks.0.ffn.0."))
    wanted = dora_by_hand(base, by_hand(tensors), magnitude, strength, per_row)
    worst = float((merged(file, strength)[FFN] - wanted).abs().max())
    record_property("worst", worst)
    assert worst < 2e-6


def test_dora_on_a_square_weight_reads_the_axis_from_the_magnitudes_shape(tmp_path):
    pair = {"lora_A.weight": rand(2, DIM), "lora_B.weight": rand(DIM, 2, seed=2)}
    base = dict(expert().named_parameters())[Q]
    moved = base + pair["lora_B.weight"] @ pair["lora_A.weight"]
    for shape, axis in (((1, DIM), 0), ((DIM, 1), 1), ((DIM,), 1)):
        tensors = pair | {"dora_scale": torch.ones(shape)}
        file = saved(tmp_path / "a.safetensors", on_ffn(tensors, "transformer.blocks.0.attn1.to_q."))
        lengths = merged(file)[Q].norm(dim=axis)
        assert torch.allclose(lengths, torch.ones(DIM), atol=1e-6)
        assert torch.allclose(merged(file)[Q], torch.nn.functional.normalize(moved, dim=axis), atol=1e-6)


def test_a_dora_beside_another_lora_is_taken_from_the_experts_own_weight(tmp_path):
    dora = saved(tmp_path / "dora.safetensors", on_ffn(LORA | {"dora_scale": ROWS}))
    loha = saved(tmp_path / "loha.safetensors", on_ffn(LOHA))
    base, results = dict(expert().named_parameters())[FFN], []
    for files in ((dora, loha), (loha, dora)):
        model = expert()
        with applied({"high": model}, {"high": [Use("x", file, 0.5) for file in files]}):
            results.append(dict(model.named_parameters())[FFN].clone())
    wanted = dora_by_hand(base, lora_by_hand(LORA), ROWS, 0.5, True) + 0.5 * loha_by_hand(LOHA)
    assert torch.allclose(results[0], wanted.float(), atol=2e-6)
    assert torch.allclose(results[0], results[1], atol=1e-6)


def test_the_layer_s_bias_beside_a_pair(tmp_path):
    """PEFT's lora_bias: scaled as its pair is, and added to a diff_b where there is one."""
    tensors = on_ffn(LORA | {"diff_b": torch.ones(32)}, "diffusion_model.blocks.0.ffn.0.")
    tensors["diffusion_model.blocks.0.ffn.0.lora_B.bias"] = torch.ones(32)
    name = FFN.replace("weight", "bias")
    got = merged(saved(tmp_path / "a.safetensors", tensors), 2.0)[name]
    assert torch.allclose(got, dict(expert().named_parameters())[name] + 2 * (1.5 + 1), atol=1e-6)
