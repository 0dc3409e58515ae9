import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from chain import PRO, held_out_streams
from clips import CROP, batch
from experts import ANY, HARD, OWN, any_given, choose, levels, make_learner, training_step
from latents import ITEMS, SHARD, Segments, whole, write_shard
from options import Options
from rollouts import COUNT as ROLLED
from rollouts import Rollouts
from samples import DEPTH, draw_joint, draw_later, draw_link, draw_sample
from torch import nn
from train import write_latents


def test_the_target_of_pro_repeats_five_frames_of_the_segment_before():
    joint = draw_joint(5, overlap=5)
    assert joint.frames[:5] == joint.before[-5:]
    assert len(joint.frames) == len(joint.before) == 81
    assert draw_joint(5, overlap=1).frames[0] == draw_joint(5, overlap=1).before[-1]


def test_what_comes_late_in_a_chain_is_zoomed_in_as_seldom_as_what_comes_early():
    streams = [stream.truth(PRO) for stream in held_out_streams(150, 18, 1.0, 5)]
    near = [sum(truth[index][0].zoom > 1.02 for truth in streams) / 150 for index in (2, 10, 17)]
    later = sum(draw_later(seed).frames[0].zoom > 1.02 for seed in range(200)) / 200
    assert all(0.02 < share < 0.15 for share in (*near, later))
    joints = [draw_joint(seed) for seed in range(100)]
    assert sum(joint.anchor.zoom != joint.frames[0].zoom for joint in joints) > 5


@pytest.mark.parametrize("index", [0, 1, 5])
def test_the_links_of_a_chain_are_the_segments_of_a_stream(index):
    (stream,) = held_out_streams(1, DEPTH, 1.0, 77)
    link = draw_link(DEPTH * 77 + index)
    assert link.frames == stream.truth(PRO)[index]
    assert link.before == (stream.truth(PRO)[index - 1] if index else [])
    assert link.caption == stream.captions()[index]
    assert link.anchor == stream.scene


def test_a_caption_with_a_cut_is_followed_or_not():
    cut, uncut = draw_sample(3, kind="cut"), draw_sample(3, kind="uncut")
    assert cut.caption == uncut.caption
    assert "hard cut" in cut.caption
    assert cut.frames[:41] == uncut.frames[:41]
    assert cut.frames[41] != uncut.frames[41]


def test_what_is_given_is_the_truth_and_marked():
    z, y = torch.randn(50, 16, 6, 2, 2), torch.randn(50, 16, 6, 2, 2)
    y[:, :, 0] = z[:, :, 0]
    shown = any_given(z, y, random.Random(1))
    mask, given = shown[:, :4], shown[:, 4:]
    assert torch.equal(mask, mask[:, :1, :, :1, :1].expand_as(mask))
    marked = mask[:, 0, :, 0, 0] > 0
    assert all(torch.equal(given[row][:, m], z[row][:, m]) for row, m in enumerate(marked))
    plain = [row for row in range(50) if torch.equal(given[row], y[row])]
    assert len(plain) == 50 - round(50 * ANY)
    assert torch.equal(marked[plain].sum(1), torch.ones(len(plain), dtype=torch.long))
    others = [row for row in range(50) if row not in plain]
    assert {bool(marked[row, 0]) for row in others} == {True, False}
    for row in others:
        rest = given[row][:, ~marked[row]]
        assert torch.equal(rest, torch.zeros_like(rest)) or torch.equal(rest, y[row][:, ~marked[row]])


def test_batches_have_the_sizes_asked_for():
    pixels, mask = batch(1, 5, 3, CROP, 64, 64)
    assert pixels.shape == (3, 3, 5, CROP, CROP)
    assert mask.shape == (3, 5, CROP, CROP)
    assert torch.equal(pixels, batch(1, 5, 3, CROP, 64, 64)[0])


def test_shards_are_written_once_and_read_back(encoder, folder):
    stamp = (folder / "plain-0000.safetensors").stat().st_mtime_ns
    write_shard(encoder, folder, "plain", 0, 1)
    assert (folder / "plain-0000.safetensors").stat().st_mtime_ns == stamp
    segments = Segments(folder, "plain")
    tensors, captions = segments.batch([0, 5])
    assert len(segments) == SHARD
    assert tensors["z"].shape == (2, 16, 21, 2, 2)
    assert tensors["where"].shape == (2, 1, 21, 2, 2)
    assert captions[1] == draw_sample(6).caption


@pytest.mark.slow
def test_workers_begin_with_what_is_not_there(tmp_path):
    folder = tmp_path / "latents"
    there = [folder / "held" / "plain-0000.safetensors", folder / "cut-0000.safetensors"]
    for file in there:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    options = Options(tmp_path, "cpu", None, SHARD, 2, ("cut",), workers=2)
    write_latents(options)  # nothing to do, so nobody asks for a VAE, and there is none
    with pytest.raises(OSError, match="vae"):  # the process that has the second shard to write does
        write_latents(replace(options, count=SHARD + 1))
    assert [file.stat().st_size for file in there] == [0, 0]
    assert sorted(folder.glob("*.*")) == [there[1]]


def test_experts_see_the_kinds_that_are_theirs(folder):
    segments = Segments(folder, "plain")
    for expert, seen in (("high", {"plain", "uncut"}), ("low", {"plain", "cut", "uncut"})):
        assert {segments.kinds[i] for i in choose(segments, expert, 400, random.Random(0))} == seen
    chosen = choose(segments, "all", 400, random.Random(0))
    sigmas = levels(segments, chosen, "all")
    for index, sigma in zip(chosen, sigmas.tolist(), strict=True):
        assert sigma <= 0.9 or segments.kinds[index] != "cut"


def test_experts_see_more_of_what_is_hard_to_draw():
    captions = [draw_sample(seed).caption for seed in range(2000)]
    segments, shares = SimpleNamespace(captions=captions, kinds=["plain"] * len(captions)), {}
    for expert in ("all", "low"):
        chosen = [captions[i] for i in choose(segments, expert, 2000, random.Random(0))]
        shares[expert] = {word: sum(word in caption for caption in chosen) / 2000 for word in (*HARD, " and a ")}
    for word, share in shares["all"].items():
        assert shares["low"][word] > share + 0.02, word


def test_captions_without_what_is_hard_are_taken_as_they_are():
    segments = SimpleNamespace(captions=["a red circle"] * 3, kinds=["plain"] * 3)
    assert len(choose(segments, "low", 5, random.Random(0))) == 5


@pytest.mark.parametrize("kind", ITEMS)
def test_every_kind_of_segment_says_where_its_subjects_are(encoder, kind):
    tensors, words = ITEMS[kind](encoder, 5, 1.0)
    frames, rows, columns = tensors["z"].shape[1:]
    assert tensors["where"].shape == (1, frames, rows, columns)
    assert 0 < tensors["where"].max() <= 1
    assert words["kind"] == kind or kind in ("plain", "later")


def test_a_step_trains_the_expert_and_the_text_encoder(folder, tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    nn.init.normal_(learner.networks["high"].proj_out.weight, std=0.1)
    loss, notes = training_step(learner, Segments(folder, "plain"), "high", 0, (5, 2), "cpu")
    loss.backward()
    assert set(notes) == {"v high"}
    assert learner.networks["high"].blocks[0].attn1.to_q.weight.grad.abs().sum() > 0
    assert learner.networks["text"].shared.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in learner.networks["low"].parameters())


def test_experts_learn_from_what_their_renderings_came_to(folder, tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    segments = Segments(folder, "plain")
    rollouts = Rollouts(segments, learner.prompts)
    assert rollouts.draw("high", 3, random.Random(0)) == []
    rollouts.render(learner.networks, 2, "cpu")
    for expert, low, high in (("high", 0.9, 1.0), ("low", 0.0, 0.9)):
        reached = rollouts.reached[expert]
        assert all(low <= one.sigma < high for one in reached)
        assert "cut" not in {segments.kinds[one.index] for one in reached}
        assert len(reached) % ROLLED == 0
        # the experts predict nothing yet: a rendering is its first noise at every level
        assert all(0.9 < float(one.x.float().std()) < 1.1 for one in reached)
        _, notes = training_step(learner, segments, expert, 1, (21, OWN[expert] + 2), "cpu", rollouts)
        assert notes["v own"] > 0


def test_what_a_rendering_came_to_is_led_to_the_truth(folder, tmp_path, monkeypatch):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    segments = Segments(folder, "plain")
    rollouts = Rollouts(segments, learner.prompts)
    rollouts.render(learner.networks, 2, "cpu")
    truth = segments.tensors["z"].float()
    wanted = {(float(r.x.sum()), r.sigma): (r.x.float() - truth[r.index]) / r.sigma for r in rollouts.reached["low"]}

    def found(model, x, y, sigma, text):
        keys = [(float(one.half().sum()), float(level)) for one, level in zip(x, sigma, strict=True)]
        return torch.stack([wanted.get(key, one * 0) for key, one in zip(keys, x, strict=True)])

    monkeypatch.setattr("experts.predict", found)
    count = OWN["low"] + 2
    loss, notes = training_step(learner, segments, "low", 1, (21, count), "cpu", rollouts)
    assert notes["v own"] == pytest.approx(0, abs=1e-6)
    assert float(loss) == pytest.approx(notes["v low"] * 2 / count, rel=1e-3)


def test_whole_repeats_the_last():
    short = torch.arange(4.0).view(1, 1, 4, 1, 1)
    assert whole(short, 6).flatten().tolist() == [0, 1, 2, 3, 3, 3]
    assert whole(short, 2).flatten().tolist() == [0, 1]
