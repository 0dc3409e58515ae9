import random

import pytest
import torch
from lora import Lora, comfy_keys, official_keys, read_pairs, targets, write_lora
from networks import LAYERS, make_expert
from recycle import FINISHED, ErrorBank, Recycling, recycled_target, worn, worn_latents
from restore import Applied
from swift import short_text, velocity
from torch import nn


@pytest.fixture
def expert():
    model = make_expert(1)
    nn.init.normal_(model.proj_out.weight, std=0.1)
    return model


def run(model):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 36, 3, 4, 4, generator=generator)
    text = short_text(torch.randn(1, 6, 64, generator=generator), torch.tensor([[1.0, 1, 1, 1, 0, 0]]))
    with torch.no_grad():
        return velocity(model, x, torch.tensor([500.0]), text)


def test_a_lora_begins_as_nothing_and_can_be_taken_off(expert):
    plain = run(expert)
    lora = Lora(expert, 4, seed=1)
    assert torch.equal(run(expert), plain)
    for pair in lora.loras():
        nn.init.normal_(pair.up, std=0.1)
    changed = run(expert)
    assert not torch.allclose(changed, plain, atol=1e-3)
    lora.set_strength(0)
    assert torch.equal(run(expert), plain)
    lora.set_strength(1)
    lora.remove()
    assert torch.equal(run(expert), plain)
    assert not any("parametrizations" in name for name, _ in expert.named_parameters())


def test_only_its_own_matrices_learn(expert):
    expert.requires_grad_(False)
    lora = Lora(expert, 4, seed=1)
    assert len(lora.loras()) == 10 * LAYERS == len(targets(expert))
    assert {name for name, p in expert.named_parameters() if p.requires_grad} == {
        name for name, _ in expert.named_parameters() if ".parametrizations.weight.0." in name
    }


@pytest.mark.parametrize(("official", "strength"), [(True, 1.0), (False, 1.0), (False, 1.5)])
def test_a_file_holds_the_pairs(expert, tmp_path, official, strength):
    lora = Lora(expert, 4, seed=1)
    for pair in lora.loras():
        nn.init.normal_(pair.up)
    write_lora(lora, tmp_path / "lora.safetensors", official, strength)
    found = read_pairs(tmp_path / "lora.safetensors")
    for name, (down, up) in lora.matrices().items():
        assert torch.equal(found[name][0], down.bfloat16().float())
        assert torch.equal(found[name][1], (up * strength).bfloat16().float())


def test_a_file_is_applied_under_a_lora_that_is_trained(tmp_path):
    fixed, model = make_expert(1), make_expert(1)
    made = Lora(fixed, 4, seed=3)
    for pair in made.loras():
        nn.init.normal_(pair.up)
    write_lora(made, tmp_path / "fixed.safetensors", official=True)
    before = model.blocks[0].attn1.to_q.weight.clone()
    Lora(model, 4, seed=4)
    with Applied({"high": model}, {"high": [(tmp_path / "fixed.safetensors", 1.0)]}):
        assert torch.allclose(model.blocks[0].attn1.to_q.weight, fixed.blocks[0].attn1.to_q.weight, atol=0.05)
        assert not torch.allclose(model.blocks[0].attn1.to_q.weight, before, atol=0.05)
    assert torch.equal(model.blocks[0].attn1.to_q.weight, before)


def test_keys_are_the_authors_and_comfys():
    pairs = {"blocks.0.self_attn.q": (torch.zeros(2, 8), torch.zeros(8, 2))}
    assert set(official_keys(pairs)) == {
        "blocks.0.self_attn.q.lora_A.default.weight",
        "blocks.0.self_attn.q.lora_B.default.weight",
    }
    comfy = comfy_keys(pairs)
    assert comfy["diffusion_model.blocks.0.self_attn.q.alpha"] == 2
    assert set(comfy) >= {"diffusion_model.blocks.0.self_attn.q.lora_down.weight"}


def full_bank():
    bank = ErrorBank()
    for level in (0.05, 0.35, 0.65, 0.95):
        bank.add(level, torch.full((2, 16, 5, 2, 2), level))
    return bank


def test_errors_are_banked_by_noise_level():
    bank, rng = full_bank(), random.Random(0)
    assert bank.draw(0.37, rng).mean() == pytest.approx(0.35, abs=1e-3)
    assert bank.draw(0.55, rng) is None
    bank.add(FINISHED, torch.ones(1, 16, 5, 2, 2))
    drawn = {round(float(bank.draw_any(rng).mean()), 2) for _ in range(60)}
    assert drawn == {0.05, 0.35, 0.65, 1.0}


def test_what_is_handed_over_wears_as_often_as_told():
    bank, given = full_bank(), torch.zeros(400, 16, 1, 2, 2)
    changed = worn(given, -1, bank, 0.25, random.Random(0)).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.25, abs=0.08)
    assert torch.equal(worn(given, -1, bank, 0.0, random.Random(0)), given)
    assert Recycling(0, 0) != Recycling()


def test_worn_latents_lead_back_to_the_truth():
    z, sigma = torch.randn(3, 16, 5, 2, 2), torch.tensor([0.2, 0.36, 0.66])
    worn_z = worn_latents(z, sigma, full_bank(), 1.0, random.Random(0))
    assert torch.equal(worn_z[0], z[0])
    assert not torch.equal(worn_z[1], z[1])
    x, target = recycled_target(z, worn_z, torch.randn_like(z), sigma)
    assert torch.allclose(x - sigma[:, None, None, None, None] * target, z, atol=1e-5)
