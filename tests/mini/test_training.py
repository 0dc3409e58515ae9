import json
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from adapters import recycling_step, roll
from autoencoder import make_vae
from batches import COUNT, Trainee, pro_batch, pro_cut_batch
from batches import OWN as OWN_ROWS
from chain import I2V, LATENTS, PRO, SVI20, Way, conditions, held_out_streams, start_pixels
from clips import CROP, batch
from draw import draw
from experts import ANY, HARD, OWN, any_given, choose, levels, make_learner, training_step
from latents import ITEMS, SETTLED, SHARD, Encoder, Segments, whole, write_shards
from lora import Lora
from measure import drift_of, measure
from options import Options, load_segments
from recycle import FINISHED, Chains, Recycling
from rollouts import COUNT as ROLLED
from rollouts import Rollouts
from runs import Run
from samples import DEPTH, draw_joint, draw_later, draw_link, draw_sample
from torch import nn

from svid.layout import Layout
from svid.wan.vae import encode_normalized

MINI = Path(__file__).resolve().parents[2] / "mini"
SIZE = 16
"""Pixels a side: one patch of the experts."""


@pytest.fixture(scope="module")
def encoder():
    return Encoder(make_vae(base=4).eval(), SIZE, SIZE)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("latents")
    for kind, shards, seed in (("plain", 1, 1), ("pro", 1, 1), ("link", 2, 20_000)):  # or links would be plain ones
        write_shards(encoder, path, kind, shards * SHARD, seed)
    return path


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
    write_shards(encoder, folder, "plain", SHARD, 1)
    assert (folder / "plain-0000.safetensors").stat().st_mtime_ns == stamp
    segments = Segments(folder, "plain")
    tensors, captions = segments.batch([0, 5])
    assert len(segments) == SHARD
    assert tensors["z"].shape == (2, 16, 21, 2, 2)
    assert tensors["where"].shape == (2, 1, 21, 2, 2)
    assert captions[1] == draw_sample(6).caption


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


def test_a_later_segment_begins_with_what_is_wrong_with_its_motion_latent(folder, tmp_path):
    prompts = make_learner((), tmp_path, "cpu", 0.9).prompts
    trainee = Trainee(
        {}, {}, prompts, Segments(folder, "plain"), Segments(folder, "pro"), Recycling(1.0, 0.0, 0.0, 0.0)
    )
    clean, _, before, _ = pro_batch(trainee, random.Random(1))
    trainee.bank.add(FINISHED, torch.randn(8, 16, 21, SIZE // 8, SIZE // 8))
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


def test_conditions_are_those_of_a_whole_segment_by_diffusers(encoder):
    (stream,) = held_out_streams(1, 2, 1.0, 3)
    start = start_pixels(encoder, [stream])
    video = torch.zeros(1, 3, 81, SIZE, SIZE)
    video[:, :, :1] = start
    expected = encode_normalized(encoder.vae, video)
    found = conditions(I2V, encoder, start, start, None)
    assert found.shape[2] == LATENTS
    # An untrained VAE forgets the first frame more slowly than a trained one: only what is really encoded is alike.
    assert (found - expected)[:, :, :SETTLED].abs().mean() < 0.05 * expected.std()
    assert torch.equal(found[:, :, -1], found[:, :, SETTLED - 1])
    motion = torch.randn(1, 16, 1, SIZE // 8, SIZE // 8)
    found = conditions(PRO, encoder, start, start, motion)
    assert (found[:, :, :1] - encode_normalized(encoder.vae, start)).abs().mean() < 0.05
    assert torch.equal(found[:, :, 1:2], motion)
    assert not found[:, :, 2:].any()


@pytest.mark.parametrize("way", [I2V, SVI20, PRO, Way("pro", Layout(motion_latents=2, pad="zero_latent"))])
def test_the_truth_does_not_drift(way):
    streams = held_out_streams(2, 3, 1.0, 8)
    videos = [torch.stack([draw(s.truth(way)[i], 32, 32) for s in streams]) for i in range(3)]
    pairs = [torch.stack([a[:, -1], b[:, way.overlap]], 1) for a, b in pairwise(videos)]
    rows = measure(way, streams, zip(videos, [None, *pairs], strict=True), 32, 32)
    assert [row.segment for row in rows] == [1, 2, 3]
    assert "stream" in rows[-1].seams
    assert all(
        row.kept == 1 and abs(row.seam) < 1e-6 and max(row.seams.values()) < 1e-6 and drift_of(row) < 1e-4
        for row in rows
    )


def test_a_fading_chain_drifts():
    streams = held_out_streams(2, 3, 1.0, 8)
    videos = (torch.stack([draw(s.truth(I2V)[i], 32, 32) for s in streams]) * (1 - 0.2 * i) for i in range(3))
    rows = measure(I2V, streams, ((video, None) for video in videos), 32, 32)
    assert drift_of(rows[2]) > drift_of(rows[1]) > 1


def whole_run(folder, steps):
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    run = Run("toy", folder, steps, {"model": layer}, [torch.optim.AdamW(layer.parameters(), 0.01)], log_every=5)
    return layer, run


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    def step_of(layer):
        return lambda number, progress: (layer(torch.randn(8, 4)) - 1).square().mean()

    layer, run = whole_run(tmp_path / "a", 20)
    (tmp_path / "a").mkdir()
    run.train(step_of(layer))
    (tmp_path / "b").mkdir()
    other, begun = whole_run(tmp_path / "b", 20)
    begun.steps = 20
    step = step_of(other)

    def stopping(number, progress):
        if number == 8:
            signal.raise_signal(signal.SIGTERM)
        return step(number, progress)

    with pytest.raises(SystemExit):
        begun.train(stopping)
    again, resumed = whole_run(tmp_path / "b", 20)
    resumed.train(step_of(again))
    assert resumed.step == 20
    assert torch.equal(layer.weight, again.weight)
    events = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if "event" in e] == ["start", "stopped", "start", "end"]
    assert events[0]["torch"] == torch.__version__


@pytest.mark.slow
def test_the_command_trains_and_is_killed_and_goes_on(tmp_path):
    command = [sys.executable, str(MINI / "train.py"), "vae", "--out", str(tmp_path), "--steps", "3", "--base", "4"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 3
    assert last["event"] == "end"


def test_whole_repeats_the_last():
    short = torch.arange(4.0).view(1, 1, 4, 1, 1)
    assert whole(short, 6).flatten().tolist() == [0, 1, 2, 3, 3, 3]
    assert whole(short, 2).flatten().tolist() == [0, 1]
