"""LoRAs: every key format gives the same weights, nothing is silent, everything is put back bit for bit."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import svid
from svid.errors import LoraError
from svid.wan.lora.apply import Use, applied
from svid.wan.lora.keys import PREFIXES, place
from svid.wan.lora.read import read_lora

LORAS = Path(svid.__file__).parent / "embedded" / "wan22-mini-loras"
DIM = 24
MODULES = {"blocks.0.self_attn.q": (DIM, DIM), "blocks.0.cross_attn.o": (DIM, DIM), "blocks.0.ffn.0": (32, DIM)}
OURS = ["blocks.0.attn1.to_q", "blocks.0.attn2.to_out.0", "blocks.0.ffn.net.0.proj"]


def expert(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16,
        text_dim=8, freq_dim=16, ffn_dim=32, num_layers=1,
    )  # fmt: skip
    return model.requires_grad_(False).to(dtype)


def pairs(rank=3):
    generator = torch.Generator().manual_seed(5)
    return {
        name: (torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator))
        for name, (rows, columns) in MODULES.items()
    }


def official(prefix="", default=".default"):
    return {
        f"{prefix}{name}.lora_{letter}{default}.weight": value
        for name, both in pairs().items()
        for letter, value in zip("AB", both, strict=True)
    }


def comfy(alpha=1.5):
    tensors = {}
    for name, (down, up) in pairs().items():
        tensors[f"diffusion_model.{name}.lora_down.weight"] = down
        tensors[f"diffusion_model.{name}.lora_up.weight"] = up * 3 / alpha
        tensors[f"diffusion_model.{name}.alpha"] = torch.tensor(alpha)
    return tensors


def peft():
    return {
        f"base_model.model.transformer.{ours}.lora_{letter}.weight": value
        for ours, both in zip(OURS, pairs().values(), strict=True)
        for letter, value in zip("AB", both, strict=True)
    }


def saved(path, tensors):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def merged(path, strength=1.0, model=None):
    model = model or expert()
    with applied({"high": model}, {"high": [Use("x", path, strength)]}):
        return {name: value.clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
@pytest.mark.parametrize("default", ["", ".default"])
def test_prefixes_and_names_of_the_authors(tmp_path, prefix, default):
    got = merged(saved(tmp_path / "a.safetensors", official(prefix, default)))
    want = merged(saved(tmp_path / "b.safetensors", official()))
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("tensors", [comfy(), comfy(alpha=3.0), peft()], ids=["alpha half", "alpha rank", "peft"])
def test_formats_give_the_same_weights(tmp_path, tensors):
    got = merged(saved(tmp_path / "a.safetensors", tensors))
    want = merged(saved(tmp_path / "b.safetensors", official()))
    before = dict(expert().named_parameters())
    for name in want:
        assert torch.allclose(got[name], want[name], atol=1e-6), name
        assert torch.equal(want[name], before[name]) == (name.removesuffix(".weight") not in OURS)


def test_the_delta_is_the_product(tmp_path):
    got = merged(saved(tmp_path / "a.safetensors", official()), 0.25)
    for ours, (down, up) in zip(OURS, pairs().values(), strict=True):
        want = dict(expert().named_parameters())[f"{ours}.weight"] + 0.25 * (up @ down)
        assert torch.allclose(got[f"{ours}.weight"], want, atol=1e-6)


def test_diffs_of_weights_biases_modulations_and_convolutions(tmp_path):
    tensors = {
        "diffusion_model.blocks.0.norm3.diff": torch.ones(DIM),
        "diffusion_model.blocks.0.norm3.diff_b": torch.ones(DIM),
        "diffusion_model.blocks.0.diff_m": torch.ones(1, 6, DIM),
        "diffusion_model.head.diff_m": torch.ones(1, 2, DIM),
        "diffusion_model.head.head.diff_b": torch.ones(64),
        "diffusion_model.time_projection.1.diff_b": torch.ones(6 * DIM),
        "diffusion_model.patch_embedding.lora_down.weight": torch.ones(2, 36, 1, 2, 2),
        "diffusion_model.patch_embedding.lora_up.weight": torch.ones(DIM, 2, 1, 1, 1),
        "diffusion_model.text_embedding.0.diff": torch.ones(DIM, 8),
    }
    got, before = merged(saved(tmp_path / "a.safetensors", tensors), 0.5), dict(expert().named_parameters())
    changed = {
        name: float((got[name] - before[name]).mean()) for name in before if not torch.equal(got[name], before[name])
    }
    assert changed == pytest.approx(
        {
            "blocks.0.norm2.weight": 0.5,
            "blocks.0.norm2.bias": 0.5,
            "blocks.0.scale_shift_table": 0.5,
            "scale_shift_table": 0.5,
            "proj_out.bias": 0.5,
            "condition_embedder.time_proj.bias": 0.5,
            "patch_embedding.weight": 1.0,
            "condition_embedder.text_embedder.linear_1.weight": 0.5,
        },
        abs=1e-6,
    )


def test_the_image_branch_of_wan21_is_set_aside_by_name(tmp_path):
    extra = {
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.ones(2, DIM),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": torch.ones(DIM, 2),
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": torch.ones(DIM),
    }
    file = saved(tmp_path / "a.safetensors", comfy() | extra)
    model = expert()
    with applied({"high": model}, {"high": [Use("distill", file, 1.0)]}) as used:
        assert used.report["high"] == [
            {"name": "distill", "file": "a.safetensors", "strength": 1.0, "modules": 3, "set_aside": sorted(extra)}
        ]
    with pytest.raises(LoraError, match=r"beside the 3 tensors of Wan 2\.1's"):
        merged(saved(tmp_path / "b.safetensors", extra))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("blocks.0.ffn.0.lora_B.default.weight"), ["blocks.0.ffn.0.lora_A", "only this half"]),
        (lambda t: t.update({"blocks.0.ffn.0.lokr_w1": torch.ones(2, 2)}), ["ffn.0.lokr_w1", "expected one kind"]),
        (lambda t: t.update({"blocks.0.ffn.2.dora_scale": torch.ones(2)}), ["ffn.2.dora_scale", "a pair whose"]),
        (lambda t: t.update({"lora_unet_blocks_0_ffn_0.lora_downx.weight": torch.ones(1)}), ["lora_unet_blocks_0"]),
        (lambda t: t.update({"blocks.0.self_attn.q.lora_A.weight": torch.ones(3, DIM)}), ["expected one tensor for"]),
        (lambda t: t.update({"blocks.0.ffn.2.alpha": torch.tensor(1.0)}), ["ffn.2.alpha", "expected a pair"]),
        (lambda t: t.update({"blocks.0.ffn.0.alpha": torch.ones(2)}), ["ffn.0.alpha", "expected one number"]),
        (lambda t: t.update({"blocks.0.ffn.0.lora_A.default.weight": torch.ones(4, DIM)}), ["[rank, in]", "[4, 24]"]),
        (lambda t: t.update({"blocks.0.ffn.0.lora_A.default.weight": torch.full((3, DIM), float("nan"))}), ["NaN"]),
        (lambda t: t.update({"blocks.0.ffn.0.lora_A.default.weight": torch.ones(3, DIM).int()}), ["found I32"]),
        (lambda t: [value.zero_() for key, value in t.items() if "lora_B" in key], ["only zeros in 3 parameters"]),
        (lambda t: t.clear(), ["expected LoRA tensors, found none"]),
    ],
)  # fmt: skip
def test_refusals_name_the_key(tmp_path, change, words):
    tensors = official()
    change(tensors)
    with pytest.raises(LoraError) as caught:
        read_lora(saved(tmp_path / "broken.safetensors", tensors))
    assert all(word in str(caught.value) for word in ["broken.safetensors", *words]), str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blocks.9.ffn.0.diff": torch.ones(2, 2)}, ["9.ffn.0.diff", "none called blocks.9.ffn.net.0.proj.weight"]),
        ({"dwpose_embedding.0.diff": torch.ones(2)}, ["dwpose_embedding.0.diff"]),
        ({"blocks.0.ffn.0.dora_scale": torch.ones(2)}, ["blocks.0.ffn.0.dora_scale: expected the shape [32, 24]"]),
        ({"blocks.0.norm3.diff": torch.ones(DIM + 1)}, ["blocks.0.norm3.diff", "expected the shape [24]"]),
        ({"blocks.0.ffn.2.lora_A.weight": torch.ones(2, 31), "blocks.0.ffn.2.lora_B.weight": torch.ones(DIM, 2)},
         ["blocks.0.ffn.2.lora_A.weight, blocks.0.ffn.2.lora_B.weight", "expected the shape [24, 32]"]),
    ],
)  # fmt: skip
def test_keys_that_the_base_lacks_are_named_before_anything_is_touched(tmp_path, tensors, words):
    model, file = expert(), saved(tmp_path / "a.safetensors", official() | tensors)
    before = {name: value.data_ptr() for name, value in model.named_parameters()}
    with pytest.raises(LoraError) as caught, applied({"high": model}, {"high": [Use("a", file, 1.0)]}):
        pytest.fail("it was applied")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert {name: value.data_ptr() for name, value in model.named_parameters()} == before


def test_all_problems_come_at_once(tmp_path):
    tensors = official() | {"what": torch.ones(1), "ever": torch.ones(1)}
    with pytest.raises(LoraError) as caught:
        read_lora(saved(tmp_path / "a.safetensors", tensors))
    assert [problem.where for problem in caught.value.problems] == ["ever", "what"]


def test_pickles_and_rubbish_are_refused(tmp_path):
    for content, word in ((pickle.dumps({}), "pickle"), (b"", "empty"), (b"{}" * 40, "something else")):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(LoraError, match=word):
            read_lora(tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match="can't be read"):
        read_lora(tmp_path / "none.safetensors")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_.0123456789", min_size=1, max_size=60))
def test_a_strange_key_is_never_silent(tmp_path_factory, key):
    """Whatever the key, it is understood as a change of some parameter, or refused by its name."""
    path = saved(tmp_path_factory.mktemp("fuzz") / "a.safetensors", official() | {key: torch.ones(3, 3)})
    if place(key) is None:
        with pytest.raises(LoraError) as caught:
            read_lora(path)
        assert [problem.where for problem in caught.value.problems] == [key]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(LoraError):
        read_lora(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("raises", [False, True])
def test_the_same_weights_are_back(dtype, raises, tmp_path):
    model, file = expert(dtype), saved(tmp_path / "a.safetensors", official())
    other = saved(tmp_path / "b.safetensors", comfy())
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.named_parameters()}
    try:
        with applied({"high": model}, {"high": [Use("a", file, 1.0), Use("b", other, -0.3)]}):
            assert not torch.equal(model.blocks[0].attn1.to_q.weight, before["blocks.0.attn1.to_q.weight"][1])
            if raises:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert raises
    for name, value in model.named_parameters():
        assert value.data_ptr() == before[name][0]
        assert value.dtype == dtype
        assert torch.equal(value, before[name][1])


def test_the_sum_is_cast_once(tmp_path):
    """Two deltas, each too small for bf16 beside the weight, count together."""
    model = expert(torch.bfloat16)
    model.blocks[0].norm2.weight.data.fill_(1.0)
    file = saved(tmp_path / "a.safetensors", {"blocks.0.norm3.diff": torch.full((DIM,), 2.0**-9)})
    one, both = Use("a", file, 1.0), [Use("a", file, 1.0), Use("b", file, 1.0), Use("c", file, 1.0)]
    with applied({"high": model}, {"high": [one]}):
        assert model.blocks[0].norm2.weight.eq(1.0).all()
    with applied({"high": model}, {"high": both}):
        assert model.blocks[0].norm2.weight.gt(1.0).all()


def test_strength_zero_leaves_the_expert_alone(tmp_path):
    models = {"high": expert(), "low": expert(seed=1)}
    file = saved(tmp_path / "a.safetensors", official())
    before = {name: value.data_ptr() for name, value in models["high"].named_parameters()}
    uses = {"high": [Use("a", file, 0.0)], "low": [Use("a", file, 1.0)]}
    with applied(models, uses) as used:
        assert {name: value.data_ptr() for name, value in models["high"].named_parameters()} == before
        assert (used.report["high"][0]["modules"], used.report["low"][0]["modules"]) == (0, 3)


def test_the_embedded_loras_are_what_they_say():
    for name, count in (("svi-2.0-pro_high", 60), ("svi-2.0-pro_low", 60), ("hard-cut_high", 60)):
        lora = read_lora(LORAS / f"{name}.safetensors")
        assert len(lora.deltas) == count
        assert not lora.low
        assert {delta.scale for delta in lora.deltas.values()} == {1.0}
