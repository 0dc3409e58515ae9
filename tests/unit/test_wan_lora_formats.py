"""One change written in every format gives the same weights; LoKr, LoHa and DoRA against dense computations."""

from __future__ import annotations

import json
import logging
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from svid.errors import LoraError
from svid.wan.lora.apply import Use, applied
from svid.wan.lora.keys import BLOCK_MODULES, FLAT_IN_BLOCK, FLAT_MODULES, place
from svid.wan.lora.read import read_lora

from .test_wan_lora import DIM, MODULES, OURS, expert, merged, pairs, saved

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


@pytest.mark.parametrize("strength", [1.0, -0.4])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_weights(tmp_path, form, strength, record_property):
    got = merged(saved(tmp_path / "a.safetensors", FORMATS[form]), strength)
    before = dict(expert().named_parameters())
    dense = dict(zip(WEIGHTS, products().values(), strict=True))
    worst = 0.0
    for name, value in before.items():
        if name in dense:
            worst = max(worst, float((got[name] - (value + strength * dense[name])).abs().max()))
        else:
            assert torch.equal(got[name], value), name
    record_property("worst", worst)
    assert worst < 2e-6


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


def loha_by_hand(t):
    first = torch.einsum("or,ri->oi", t["hada_w1_a"], t["hada_w1_b"])
    return 1.5 * first * torch.einsum("or,ri->oi", t["hada_w2_a"], t["hada_w2_b"])


def lora_by_hand(t):
    return 1.5 * torch.einsum("or,ri->oi", t["lora_up.weight"], t["lora_down.weight"])


def on_ffn(tensors, prefix="lora_unet_blocks_0_ffn_0."):
    return {prefix + part: value for part, value in tensors.items()}


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


ROWS, INPUTS = rand(32, seed=9).abs() + 0.5, rand(DIM, seed=9).abs() + 0.5
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


def test_norms_modulations_and_flat_convolutions(tmp_path):
    tensors = {
        "lora_unet_blocks_0_norm3.w_norm": torch.ones(DIM),
        "lora_unet_blocks_0_norm3.b_norm": torch.ones(DIM),
        "lora_unet_blocks_0_self_attn_norm_q.diff": torch.ones(DIM),
        "diffusion_model.blocks.0.modulation.diff": torch.ones(1, 6, DIM),
        "diffusion_model.head.modulation.diff": torch.ones(1, 2, DIM),
        "lora_unet_patch_embedding.lora_down.weight": torch.ones(2, 36 * 4),
        "lora_unet_patch_embedding.lora_up.weight": torch.ones(DIM, 2),
        "diffusion_model.patch_embedding.diff_b": torch.ones(DIM),
        "lora_unet_head_head.diff": torch.ones(64, DIM),
        "lora_unet_time_projection_1.diff_b": torch.ones(6 * DIM),
    }
    got, before = merged(saved(tmp_path / "a.safetensors", tensors)), dict(expert().named_parameters())
    changed = {name: float((got[name] - value).mean()) for name, value in before.items() if got[name].ne(value).any()}
    assert changed == pytest.approx(
        {
            "blocks.0.norm2.weight": 1, "blocks.0.norm2.bias": 1, "blocks.0.attn1.norm_q.weight": 1,
            "blocks.0.scale_shift_table": 1, "scale_shift_table": 1, "patch_embedding.weight": 2,
            "patch_embedding.bias": 1, "proj_out.weight": 1, "condition_embedder.time_proj.bias": 1,
        },
        abs=1e-5,
    )  # fmt: skip


def test_every_module_of_the_expert_has_its_flat_names():
    """Whatever layer a trainer flattens, by diffusers' names or by the authors', it is found again."""
    modules = {name.rpartition(".")[0] for name, _ in expert().named_parameters()} - {"", "blocks.0"}
    theirs = {ours: authors for authors, ours in BLOCK_MODULES.items()}
    for module in modules:
        for prefix in ("lora_unet_", "lora_unet__", "lycoris_"):
            where = place(f"{prefix}{module.replace('.', '_')}.diff")
            assert where is not None, module
            assert where.module == module
    for flattened, dotted in (FLAT_IN_BLOCK | FLAT_MODULES).items():
        block = flattened in FLAT_IN_BLOCK
        key = f"lora_unet_blocks_3_{flattened}.alpha" if block else f"lora_unet_{flattened}.alpha"
        assert place(key) == place(f"diffusion_model.blocks.3.{dotted}.alpha" if block else f"{dotted}.alpha")
    assert set(theirs.values()) <= set(FLAT_IN_BLOCK.values())


def test_files_for_both_experts(tmp_path):
    low = {key.replace("transformer.", "transformer_2."): value * 2 for key, value in FORMATS["diffusers"].items()}
    both = saved(tmp_path / "both.safetensors", FORMATS["diffusers"] | low)
    models, before = {"high": expert(), "low": expert()}, dict(expert().named_parameters())
    with applied(models, {name: [Use("x", both, 1.0)] for name in models}) as used:
        for name, factor in (("high", 1), ("low", 4)):
            assert used.report[name][0]["modules"] == 3
            for weight, dense in zip(WEIGHTS, products().values(), strict=True):
                got = dict(models[name].named_parameters())[weight]
                assert torch.allclose(got, before[weight] + factor * dense, atol=1e-5)
    with pytest.raises(LoraError, match=r"transformer_2.*low-noise expert, found none"):
        merged(both)
    only = saved(tmp_path / "only.safetensors", low)
    with pytest.raises(LoraError, match="expected changes of the high-noise expert"):
        merged(only)
    with applied(models, {"low": [Use("x", only, 1.0)]}) as used:
        assert used.report["low"][0]["modules"] == 3


def test_the_alpha_of_diffusers_metadata(tmp_path):
    def file(metadata):
        save_file(FORMATS["diffusers"], tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(metadata)})
        return tmp_path / "a.safetensors"

    assert {d.scale for d in read_lora(file({"transformer.lora_alpha": 6, "transformer.r": 3})).deltas.values()} == {2}
    assert {d.scale for d in read_lora(file({"lora_alpha": 1.5})).deltas.values()} == {0.5}
    assert {d.scale for d in read_lora(file({})).deltas.values()} == {1}
    for metadata, word in (
        ({"transformer.alpha_pattern": {"x": 1}}, "alpha_pattern"),
        ({"transformer.use_rslora": True}, "use_rslora"),
        ({"lora_alpha": "many"}, "'many'"),
        ([], "JSON object"),
    ):
        with pytest.raises(LoraError, match="metadata: lora_adapter_metadata") as caught:
            read_lora(file(metadata))
        assert word in str(caught.value)
        assert len(caught.value.problems) == 1


def test_image_keys_in_flat_spelling_are_set_aside_with_a_warning(tmp_path, caplog):
    extra = {
        f"lora_unet_{name}.{part}": torch.ones(2, 2)
        for name in ("blocks_0_cross_attn_k_img", "blocks_7_cross_attn_v_img", "img_emb_proj_1")
        for part in ("lora_down.weight", "lora_up.weight")
    }
    file = saved(tmp_path / "a.safetensors", FORMATS["musubi"] | extra)
    with (
        caplog.at_level(logging.WARNING, "svid.lora"),
        applied({"high": expert()}, {"high": [Use("x", file, 1.0)]}) as used,
    ):
        assert used.report["high"][0]["set_aside"] == sorted(extra)
    assert "a.safetensors: 6 keys of Wan 2.1's image branch are set aside: lora_unet_blocks_0_" in caplog.text


def test_an_expert_with_an_image_branch_gets_its_keys(tmp_path, caplog):
    """Wan 2.1 has what those keys are for: nothing is set aside there, by whichever names they go."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=8, freq_dim=16,
        ffn_dim=32, num_layers=1, image_dim=20, added_kv_proj_dim=DIM,
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.named_parameters()}
    image = {name for name in before if "image_embedder" in name or "add" in name}
    assert len(image) == 13
    theirs = {
        "diffusion_model.blocks.0.cross_attn.k_img": ("blocks.0.attn2.add_k_proj", True),
        "lora_unet_blocks_0_cross_attn_v_img": ("blocks.0.attn2.add_v_proj", True),
        "diffusion_model.blocks.0.cross_attn.norm_k_img": ("blocks.0.attn2.norm_added_k", False),
        "img_emb.proj.0": ("condition_embedder.image_embedder.norm1", True),
        "lora_unet_img_emb_proj_1": ("condition_embedder.image_embedder.ff.net.0.proj", True),
        "lycoris_condition_embedder_image_embedder_ff_net_2": ("condition_embedder.image_embedder.ff.net.2", True),
        "transformer.condition_embedder.image_embedder.norm2": ("condition_embedder.image_embedder.norm2", True),
    }
    tensors = {}
    for key, (ours, bias) in theirs.items():
        tensors[f"{key}.diff"] = torch.ones(before[f"{ours}.weight"].shape)
        if bias:
            tensors[f"{key}.diff_b"] = torch.ones(before[f"{ours}.bias"].shape)
    file = saved(tmp_path / "a.safetensors", tensors)
    with applied({"high": model}, {"high": [Use("x", file, 0.5)]}) as used:
        assert (used.report["high"][0]["modules"], used.report["high"][0]["set_aside"]) == (7, [])
        for name, value in model.named_parameters():
            assert torch.allclose(value, before[name] + (0.5 if name in image else 0)), name
    assert not caplog.records
    with pytest.raises(LoraError, match="beside the 13 tensors"):
        merged(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lokr_w1": rand(4, 3)}, ["expected lokr_w2, or lokr_w2_a and lokr_w2_b"]),
        ({"lokr_w2_a": rand(8, 2), "lokr_w2_b": rand(2, 8)}, ["expected lokr_w1"]),
        ({"lokr_w1": rand(4, 3), "lokr_w2_a": rand(8, 2)}, ["lokr_w2_a", "only this half"]),
        ({"lokr_w1": rand(4, 3), "lokr_w2": rand(8, 8), "lokr_w2_a": rand(8, 2)}, ["lokr_w2_a", "factor once"]),
        ({"lokr_w1": rand(4, 3), "lokr_w2": rand(8, 7)}, ["lokr_w2", "expected the shape [32, 24]"]),
        ({"lokr_w1": rand(4), "lokr_w2": rand(8, 8)}, ["lokr_w1", "expected a matrix, found the shape [4]"]),
        ({"lokr_w1_a": rand(4, 2), "lokr_w1_b": rand(2, 3), "lokr_w2_a": rand(8, 3), "lokr_w2_b": rand(3, 8)},
         ["expected one rank, found [2, 3]"]),
        (LOKR["second a product"][0] | {"lokr_t2": rand(2, 2, 3, 3)}, ["lokr_t2", "Tucker"]),
        (LOHA | {"hada_t1": rand(2, 2, 3, 3)}, ["hada_t1", "Tucker"]),
        (LORA | {"lora_mid.weight": rand(2, 2, 3, 3)}, ["lora_mid.weight", "Tucker"]),
        ({key: value for key, value in LOHA.items() if "w2" not in key}, ["hada_w1_a", "hada_w2_b and hada_w2_a"]),
        ({key: value for key, value in LOHA.items() if key != "hada_w2_b"}, ["hada_w2_a", "only this half"]),
        (LOHA | {"hada_w2_b": rand(2, DIM + 1)}, ["hada_w2_b", "expected the shape"]),
        (LOHA | {"hada_w2_a": rand(32, 3)}, ["hada_w2_a", "[32, 3]"]),
        (LORA | {"lokr_w1": rand(4, 3)}, ["lokr_w1", "one kind of LoRA"]),
        ({"dora_scale": ROWS}, ["dora_scale", "whose magnitude"]),
        (LORA | {"dora_scale": ROWS[:-1]}, ["dora_scale", "expected the shape [32, 24]"]),
        (LORA | {"dora_scale": INPUTS}, ["dora_scale", "expected the shape [32, 24]"]),
        (LORA | {"dora_scale": ROWS, "diff": rand(32, DIM)}, ["dora_scale", "beside a DoRA"]),
        (LORA | {"dora_scale": ROWS, "lora_magnitude_vector": ROWS * 2}, ["lora_magnitude_vector", "one tensor"]),
        (LORA | {"dora_scale": ROWS * float("inf")}, ["dora_scale", "finite"]),
        ({"lora_up.bias": ROWS}, ["lora_up.bias", "a pair that this bias"]),
        (LORA | {"lora_up.bias": ROWS, "dora_scale": ROWS * 2}, ["lora_up.bias", "no bias beside a DoRA"]),
        (LORA | {"lora_down.weight": rand(2, DIM - 1)}, ["lora_down.weight", "expected the shape [32, 24]"]),
        (LORA | {"lora_down.weight": rand(0, DIM), "lora_up.weight": rand(32, 0)}, ["expected [out, rank]", "[0, 24]"]),
        (LORA | {"reshape_weight": torch.ones(2)}, ["reshape_weight", "no supported format"]),
        (LORA | {"lokr_w3": torch.ones(2)}, ["lokr_w3", "no supported format"]),
        ({key: value * 0 if "w2_a" in key else value for key, value in LOHA.items()}, ["only zeros"]),
        (LORA | {"alpha": torch.tensor(0.0)}, ["only zeros"]),
        (LORA | {"lora_up.weight": torch.zeros(32, 2), "dora_scale": ROWS}, ["only zeros"]),
    ],
)  # fmt: skip
def test_refusals(tmp_path, change, words):
    file = saved(tmp_path / "a.safetensors", on_ffn(change))
    with pytest.raises(LoraError) as caught:
        merged(file)
    assert all(word in str(caught.value) for word in ["a.safetensors", *words]), str(caught.value)


@pytest.mark.parametrize(
    "module", ["lora_unet_blocks_0_self_attn_x", "lora_unet_blocks_x_ffn_0", "lora_te_blocks_0_ffn_0", "lora_unet_ffn"]
)
def test_flat_names_that_wan_lacks(tmp_path, module):
    tensors = FORMATS["musubi"] | {f"{module}.lora_down.weight": rand(2, DIM), f"{module}.lora_up.weight": rand(DIM, 2)}
    with pytest.raises(LoraError, match=f"{module}.lora_down.weight"):
        merged(saved(tmp_path / "a.safetensors", tensors))


FREE = ("alpha", "dora_scale", "diff", "diff_b", "diff_m")
"""Parts whose absence leaves a sound file that says something else."""
MODEL = expert()


def tamper(tensors, draw):
    """`tensors` with one key deleted, renamed or of another shape or dtype; which key that was, what it is called now,
    and whether the file may still be sound."""
    key = draw(st.sampled_from(sorted(tensors)))
    what = draw(st.sampled_from(["delete", "rename", "reshape", "dtype"]))
    changed = dict(tensors)
    value = changed.pop(key)
    if what == "delete":
        return changed, key, key, key.rpartition(".")[2] in FREE
    if what == "rename":
        at = draw(st.integers(0, len(key) - 1))
        new = key[:at] + draw(st.sampled_from("ax_.0")) + key[at + 1 :]
        new = draw(st.sampled_from([new, key + "x", key.rpartition(".")[0], key[1:], "x" + key]))
        if new in tensors:
            return tensors, key, key, True
        changed[new] = value
        # A name that is understood may be a sound place for it, such as a diff of another square layer.
        return changed, key, new, place(new) is not None
    if what == "dtype":
        changed[key] = value.to(torch.int32)
        return changed, key, key, False
    shape = draw(st.sampled_from([(3,), (1, 1), (2, 5), (DIM, 7), (1, 2, 3, 4, 5), (0,), (0, DIM)]))
    same = shape == tuple(value.shape) or (value.numel() == 1 and shape == (1, 1))
    changed[key] = value if same else torch.ones(shape)
    return changed, key, key, same


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_is_silent(tmp_path_factory, data):
    """A file with one key damaged is refused, and a key of that module is named. Where it is still sound, every key of
    it is used."""
    tensors, old, new, may_be_sound = tamper(FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))], data.draw)
    file = saved(tmp_path_factory.mktemp("fuzz") / "a.safetensors", tensors)
    try:
        with applied({"high": MODEL}, {"high": [Use("x", file, 1.0)]}):
            pass
    except LoraError as error:
        named = {key for problem in error.problems for key in problem.where.split(", ")}
        assert named <= set(tensors)
        # Where a key went missing, it is its partner that is named.
        assert new in named or place(old).module in {where.module for key in named if (where := place(key))}
        return
    assert may_be_sound
    read = read_lora(file)
    assert sorted(key for delta in read.deltas.values() for key in delta.keys) == sorted(tensors)


def test_a_stack_of_all_formats_is_put_back(tmp_path):
    model, order = expert(), list(FORMATS)
    random.Random(3).shuffle(order)
    uses = [Use(form, saved(tmp_path / f"{form}.safetensors", FORMATS[form]), 0.1) for form in order]
    uses.append(Use("dora", saved(tmp_path / "dora.safetensors", on_ffn(LORA | {"dora_scale": ROWS})), 0.5))
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.named_parameters()}
    with applied({"high": model}, {"high": uses}):
        assert not torch.equal(model.blocks[0].attn1.to_q.weight, before[Q][1])
    for name, value in model.named_parameters():
        assert value.data_ptr() == before[name][0]
        assert torch.equal(value, before[name][1])
