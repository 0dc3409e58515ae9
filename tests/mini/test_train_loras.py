import random
from dataclasses import replace

import pytest
import torch
from adapters import BEGUN, recycling_step, roll
from batches import COUNT, Trainee, pro_batch, pro_cut_batch, svi20_batch
from batches import OWN as OWN_ROWS
from experts import make_learner
from latents import Segments, write_shard
from lora import Lora, read_pairs
from options import Options, load_segments
from recycle import FINISHED, Chains, Recycling
from samples import DEPTH
from torch import nn
from train_loras import Plan, train_lora


def test_a_recycling_step_banks_errors_and_trains_the_lora_alone(folder, tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    experts = {name: learner.networks[name].requires_grad_(False) for name in ("high", "low")}
    nn.init.normal_(experts["low"].proj_out.weight, std=0.1)
    loras = {name: Lora(expert, 4, 1) for name, expert in experts.items()}
    trainee = Trainee(experts, loras, learner.prompts, Segments(folder, "plain"), Segments(folder, "pro"))
    loss, _ = recycling_step(trainee, "svi-2.0-pro", "low", 0, "cpu")
    loss.backward()
    assert trainee.bank.banks
    assert any(pair.up.grad.abs().sum() > 0 for pair in loras["low"].loras())
    assert all(p.grad is None for p in learner.networks["text"].parameters())
    assert roll(trainee, "svi-2.0-pro", 1, "cpu") > 0
    assert "finished" in trainee.bank.banks


@pytest.mark.parametrize("chained", [False, True])
def test_a_lora_learns_from_what_its_renderings_came_to(folder, tmp_path, monkeypatch, chained):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    experts = {name: learner.networks[name].requires_grad_(False) for name in ("high", "low")}
    loras = {name: Lora(expert, 4, 1) for name, expert in experts.items()}
    trainee = Trainee(experts, loras, learner.prompts, Segments(folder, "plain"), Segments(folder, "pro"))
    if chained:
        trainee.chains = Chains(Segments(folder, "link"))
    roll(trainee, "svi-2.0-pro", 1, "cpu")
    assert [len(trainee.reached[name]) for name in experts] == [2 * COUNT, 5 * COUNT]
    own = {(float(r.x.sum()), r.sigma): (r.x - r.z) / r.sigma for r in trainee.reached["low"]}
    errors_of = []

    def found(model, x, y, sigma, text):
        keys = [(float(one.sum()), float(level)) for one, level in zip(x, sigma, strict=True)]
        return torch.stack([own.get(key, one * 0) for key, one in zip(keys, x, strict=True)])

    def shown(errors, where, whole):
        errors_of.extend(errors.square().mean((1, 2, 3, 4)).tolist())
        return errors.mean((1, 2, 3, 4))

    monkeypatch.setattr("adapters.predict", found)
    monkeypatch.setattr("adapters.shown", shown)
    recycling_step(trainee, "svi-2.0-pro", "low", 3, "cpu")
    assert sum(error < 1e-9 for error in errors_of) == OWN_ROWS
    assert sum(error > 0.1 for error in errors_of) == COUNT - OWN_ROWS


def write_experts(folder):
    learner = make_learner(("high", "low"), folder, "cpu", 0.9)
    nn.init.normal_(learner.networks["low"].proj_out.weight, std=0.1)  # or nothing could be learned below it
    networks = {f"average {n}": dict(network.named_parameters()) for n, network in learner.networks.items()}
    torch.save(networks, folder / "experts.pt")


def test_a_lora_is_written_as_strong_as_planned_however_long_it_is_trained(folder, tmp_path):
    write_experts(tmp_path)
    (tmp_path / "latents").symlink_to(folder)
    options = Options(tmp_path, "cpu", None, None, 8)
    plan, before = Plan("svi-2.0-pro", "pro", ("low",), 2, 3, strength=1.5), {}
    for steps in (3, 4):
        train_lora(options, "toy", replace(plan, steps=steps))
        state = torch.load(tmp_path / "toy.pt", weights_only=True)
        assert state["step"] == steps
        now = state["low"]
        for name, (down, up) in read_pairs(tmp_path / "loras" / "toy_low.safetensors").items():
            key = "pairs." + name.replace(".", "/")
            assert torch.allclose(down, now[f"{key}.down"], rtol=0.01, atol=1e-4)
            assert torch.allclose(up, 1.5 * now[f"{key}.up"], rtol=0.01, atol=1e-4)
        assert not before or any((now[key] - before[key]).abs().max() > 0.001 for key in now)
        before = now


def test_chains_that_are_too_few_are_told_before_training(folder, tmp_path):
    write_experts(tmp_path)
    latents = tmp_path / "latents"
    latents.mkdir()
    for file in [*folder.glob("p*.safetensors"), *folder.glob("link-0000.safetensors")]:
        (latents / file.name).symlink_to(file)
    options = Options(tmp_path, "cpu", 1, None, 8)
    said = r"latents: expected 12 chains of 20 segments or more, found 128 segments; .*--kinds link --count 240"
    with pytest.raises(ValueError, match=said):
        train_lora(options, "toy", Plan("svi-2.0-pro", "pro", ("low",), 2, 1, Recycling()))


def test_a_later_segment_begins_with_what_is_wrong_with_its_motion_latent(folder, tmp_path):
    prompts = make_learner((), tmp_path, "cpu", 0.9).prompts
    trainee = Trainee(
        {}, {}, prompts, Segments(folder, "plain"), Segments(folder, "pro"), Recycling(1.0, 0.0, 0.0, 0.0)
    )
    clean, _, before, _ = pro_batch(trainee, random.Random(1))
    trainee.bank.add(FINISHED, torch.randn(8, 16, 21, 2, 2))
    z, where, condition, _ = pro_batch(trainee, random.Random(1))
    later = condition[:, :, 1].flatten(1).any(1)
    wrong = (condition - before)[later, :, 1]
    assert wrong.std() > 0.1
    for slot in range(6):
        share = {1: 1.0, 2: 2 / 3, 3: 1 / 3}.get(slot, 0.0)
        assert torch.allclose((z - clean)[later, :, slot], share * wrong, atol=1e-5)
    assert torch.equal(condition[~later, :, 0], z[~later, :, 0])
    weight = 1 + 3 * where[later]
    assert weight[:, :, :4].min() >= 3
    assert weight[:, :, 4:].min() == 1


def test_a_segment_of_svi_2_begins_with_what_is_wrong_with_the_frame_that_it_is_given(folder, encoder, tmp_path):
    write_shard(encoder, tmp_path, "svi20", 0, 1)
    prompts, own = make_learner((), tmp_path, "cpu", 0.9).prompts, Segments(tmp_path, "svi20")
    trainee = Trainee({}, {}, prompts, Segments(folder, "plain"), own, Recycling(0.5, 0.0, 0.0, 0.0))
    clean, _, before, _ = svi20_batch(trainee, random.Random(1))
    # the first latents of renderings are given, so hardly anything is wrong with those
    trainee.bank.add(FINISHED, torch.randn(8, 16, 21, 2, 2) * torch.linspace(0, 1, 21)[:, None, None])
    z, _, condition, _ = svi20_batch(trainee, random.Random(1))
    assert torch.equal(condition[:, :, 1:], before[:, :, 1:])
    error = (condition - before)[:, :, 0]
    assert 0 < (error.std((1, 2, 3)) > 0.1).sum() < COUNT
    for slot in range(6):
        share = {0: 1.0, 1: 2 / 3, 2: 1 / 3}.get(slot, 0.0)
        assert torch.allclose((z - clean)[:, :, slot], share * error, atol=1e-5)


def test_a_chain_goes_on_from_what_was_rendered(folder):
    segments, rng = Segments(folder, "link"), random.Random(0)
    count = len(segments) // DEPTH
    chains = Chains(segments)
    first = chains.advance(count, rng)
    assert sorted(first) == [DEPTH * chain for chain in range(count)]
    clean = torch.zeros(count, 16, 1, 2, 2)
    assert torch.equal(chains.handed(first, clean, [1.0] * count), clean)
    errors = torch.randn(count, 16, 1, 2, 2)
    chains.keep(first, errors)
    assert chains.able() == [index + 1 for index in first]
    handed = chains.handed(chains.able(), clean, [1.0, 0.0, 0.5] + [1.0] * (count - 3))
    assert torch.equal(handed[:3], errors[:3] * torch.tensor([1, 0, 0.5]).view(3, 1, 1, 1, 1))
    some = chains.advance(3, rng)
    assert len({index // DEPTH for index in some}) == 3
    assert all(index % DEPTH == 1 for index in some)
    for _ in range(DEPTH - 1):
        chains.keep(chains.advance(count, rng), errors)
    assert not [index for index in chains.able() if index % DEPTH == 0]
    assert all(index // DEPTH in {i // DEPTH for i in some} for index in chains.advance(count, rng) if index % DEPTH)


def test_a_batch_of_pro_has_links_once_chains_have_been_rendered(folder, tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    links = Segments(folder, "link")
    trainee = Trainee(
        learner.networks, {}, learner.prompts, Segments(folder, "plain"), Segments(folder, "pro"), chains=Chains(links)
    )

    def linked():
        z = pro_batch(trainee, random.Random(1))[0]
        return [row for row in z for link in links.tensors["z"] if torch.equal(row[:, 9], link[:, 9].float())]

    assert not linked()
    for number in range(3):
        assert roll(trainee, "svi-2.0-pro", number, "cpu") > 0
    assert COUNT < len(trainee.chains.errors) <= 3 * COUNT
    assert linked()


def test_a_rendering_for_pro_has_first_segments_beside_the_next_ones_of_chains(folder, tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    chains = Chains(Segments(folder, "link"))
    first = [DEPTH * chain for chain in range(len(chains.segments) // DEPTH)]
    chains.keep(first, torch.ones_like(chains.segments.tensors["motion"][first]))
    chains.after = {index // DEPTH: 1 for index in first}
    plain, pro = Segments(folder, "plain"), Segments(folder, "pro")
    trainee = Trainee(learner.networks, {}, learner.prompts, plain, pro, chains=chains)
    roll(trainee, "svi-2.0-pro", 1, "cpu")
    assert len(chains.errors) == len(first) + COUNT - BEGUN
    begun = [row for row in trainee.reached["high"] if not row.condition[:, 1].any()]
    assert len(begun) * COUNT == len(trainee.reached["high"]) * BEGUN
    for row in begun:
        assert torch.equal(row.condition[:, 0], row.z[:, 0])
        assert row.caption in plain.captions


def test_segments_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"latents: expected link-\*\.safetensors, found none"):
        load_segments(Options(tmp_path, "cpu", None, None, 8), "link")


def test_cuts_beside_pro_have_an_anchor_and_often_a_motion_latent(folder, tmp_path):
    plain = Segments(folder, "plain")
    trainee = Trainee({}, {}, make_learner((), tmp_path, "cpu", 0.9).prompts, plain, plain)
    z, _, condition, captions = pro_cut_batch(trainee, random.Random(1))
    assert torch.equal(condition[:, :, 0], z[:, :, 0])
    assert not condition[:, :, 2:].any()
    later = condition[:, :, 1].flatten(1).any(1)
    assert 0 < later.sum() < len(later)
    assert torch.equal(condition[later, :, 1], z[later, :, 1])
    assert any("hard cut" in caption for caption in captions)
