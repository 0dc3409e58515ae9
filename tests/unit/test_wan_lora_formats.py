"""One change written in every format gives the same weights, and every key finds its place."""

from __future__ import annotations

import json
import logging
import random

import pytest
import torch
from safetensors.torch import save_file

from svid.errors import LoraError
from svid.wan.lora.apply import Use, applied
from svid.wan.lora.keys import BLOCK_MODULES, FLAT_IN_BLOCK, FLAT_MODULES, place
from svid.wan.lora.read import read_lora

from .loras import FORMATS, LORA, ROWS, WEIGHTS, Q, on_ffn, products
from .test_wan_lora import DIM, expert, merged, saved


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


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_an_alpha_may_be_a_whole_number(tmp_path, dtype):
    whole = merged(saved(tmp_path / "a.safetensors", on_ffn(LORA | {"alpha": torch.tensor(3, dtype=dtype)})))
    for name, value in merged(saved(tmp_path / "b.safetensors", on_ffn(LORA))).items():
        assert torch.equal(whole[name], value), name


def test_nothing_else_may_be_whole_numbers(tmp_path):
    change = LORA | {"lora_up.weight": torch.ones(32, 2, dtype=torch.int32)}
    with pytest.raises(LoraError, match=r"lora_up\.weight: expected one of F64, F32, F16, BF16, found I32"):
        merged(saved(tmp_path / "a.safetensors", on_ffn(change)))
