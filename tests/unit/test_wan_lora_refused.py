"""LoRA files that are refused, by the name of what is wrong in them; no damage is silent."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svid.errors import LoraError
from svid.wan.lora.apply import Use, applied
from svid.wan.lora.keys import place
from svid.wan.lora.read import read_lora

from .loras import FORMATS, INPUTS, LOHA, LOKR, LORA, ROWS, on_ffn, rand
from .test_wan_lora import DIM, expert, merged, saved


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
        return changed, key, key, place(key).part == "alpha"  # which may be a whole number
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
