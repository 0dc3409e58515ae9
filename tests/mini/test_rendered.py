"""What the experts render of known segments, and what the decoder learns from it."""

import json

import pytest
import rendered
import torch
import train_vae
from autoencoder import decoder_loss, make_vae, on_wans_scale, unrest
from experts import make_learner
from flow import BOUNDARY, euler_levels, sample
from latents import ITEMS, Encoder
from options import Options, load_vae
from rendered import BEGINS, FRAMES, SHAPES, STEPS, TIMES, Rendered, render_shard
from safetensors.torch import save_file
from samples import FIRST_SEEDS
from torch import nn

SIZE, COUNT = 16, 3
"""Pixels a side, segments of a shard."""


@pytest.fixture(scope="module")
def encoder():
    return Encoder(make_vae(base=4).eval(), SIZE, SIZE)


@pytest.fixture
def options(tmp_path):
    return Options(tmp_path, "cpu", None, None, 4)


@pytest.fixture
def learner(tmp_path):
    learner = make_learner(("high", "low"), tmp_path, "cpu", 0.9)
    nn.init.normal_(learner.networks["low"].proj_out.weight, std=0.1)
    return learner


@pytest.mark.parametrize("kind", FRAMES)
def test_a_rendered_shard_shows_the_truth_of_what_was_encoded(encoder, options, learner, kind, monkeypatch):
    for name in ("HEIGHT", "WIDTH"):
        monkeypatch.setattr(rendered, name, SIZE)
    seed = FIRST_SEEDS[kind] + 2 * rendered.SHARD
    items = [ITEMS[kind](encoder, seed + i, 1.0) for i in range(COUNT)]
    words = {name: json.dumps([w[name] for _, w in items]) for name in ("caption", "kind")}
    (options.out / "latents").mkdir()
    stacked = {name: torch.stack([t[name] for t, _ in items]).contiguous() for name in items[0][0]}
    save_file(stacked, options.out / "latents" / f"{kind}-0002.safetensors", words)
    shard = render_shard(options, learner.networks, learner.prompts, kind, "0002")
    assert shard["made"].shape == (COUNT, TIMES, 16, 21, SIZE // 8, SIZE // 8)
    assert torch.equal(shard["z"], stacked["z"])
    for pixels, z in zip(shard["pixels"], shard["z"], strict=True):
        assert torch.allclose(encoder(pixels.float() / 127.5 - 1).float(), z.float(), atol=0.01)
    assert shard["mask"].shape == (COUNT, 81, SIZE, SIZE)
    first, second = shard["made"].float().unbind(1)
    assert not torch.equal(first, second)
    assert 0 < (first - shard["z"].float()).abs().mean() < shard["z"].float().abs().mean() + 2


def test_all_levels_to_begin_from_are_the_low_noise_experts():
    assert float(euler_levels(STEPS)[min(BEGINS)]) < BOUNDARY
    assert max(BEGINS) < STEPS


def test_sampling_may_leave_out_its_first_steps(learner):
    seen: list[float] = []
    noise, text = torch.randn(1, 16, 3, 2, 2), learner.prompts(["a big red star"])
    sample(learner.networks, noise, torch.zeros_like(noise), text, 8, lambda level, _: seen.append(level), begin=5)
    assert seen == euler_levels(8)[5:-1].tolist()


def written(options, made, z, pixels, mask):
    (options.out / "rendered").mkdir()
    save_file(
        {"made": made.half(), "z": z.half(), "pixels": pixels, "mask": mask},
        options.out / "rendered" / "plain-0000.safetensors",
    )
    vae = make_vae(base=4)
    on_wans_scale(vae, torch.zeros(16), torch.ones(16))
    return Rendered(options, vae)


@pytest.mark.parametrize("shape", SHAPES)
def test_latents_and_pixels_are_cut_out_of_one_place(options, shape):
    rows = torch.arange(8.0)[:, None] * 8 + torch.arange(8.0)
    z = rows.expand(4, 16, 21, 8, 8).contiguous()
    pixels = rows.repeat_interleave(8, 0).repeat_interleave(8, 1).to(torch.uint8).expand(4, 3, 81, 64, 64).contiguous()
    mask = torch.zeros(4, 81, 64, 64, dtype=torch.uint8)
    mask[:, :, 40:44, 20:24] = 255
    renders = written(options, z[:, None].repeat(1, TIMES, 1, 1, 1, 1), z, pixels, mask)
    latents, shown, where = renders.batch(3, *shape)
    frames, count, crop = shape
    assert shown.shape == (count, 3, frames, crop or 64, crop or 64)
    assert where.shape == (count, frames, crop or 64, crop or 64)
    assert latents.shape[2] == (frames - 1) // 4 + 1
    plain = (latents - renders.mean) / renders.std
    there = ((shown[:, :, :1, ::8, ::8] + 1) * 127.5).expand(-1, -1, latents.shape[2], -1, -1)
    assert torch.allclose(plain[:, :3], there, atol=0.01)
    assert where.amax((1, 2, 3)).eq(1).all()
    assert torch.equal(latents, renders.batch(3, *shape)[0])


def test_half_of_the_segments_go_on_with_another_rendering(options):
    z = torch.zeros(2, 16, 21, 8, 8)
    made = torch.stack([torch.ones_like(z), -torch.ones_like(z)], 1)
    renders = written(
        options, made, z, torch.zeros(2, 3, 81, 64, 64, dtype=torch.uint8), torch.zeros(2, 81, 64, 64).byte()
    )
    latents = (renders.batch(1, 33, 64, 0)[0] - renders.mean) / renders.std
    signs = latents[:, 0, :, 0, 0].sign()
    turns = (signs[:, 1:] != signs[:, :-1]).sum(1)
    assert set(turns.tolist()) == {0, 1}
    assert 20 < int(turns.sum()) < 44
    assert (signs[:, 0] == signs[:, 1]).all()
    assert float(latents.abs().min()) >= 0.49
    assert float(latents.abs().max()) <= 1.11


def test_renderings_that_are_not_there_are_asked_for(options):
    with pytest.raises(ValueError, match=r"run `train\.py renders`"):
        Rendered(options, make_vae(base=4))


def test_what_changes_as_it_should_has_no_unrest():
    pixels = torch.rand(2, 3, 5, 4, 4)
    assert unrest(pixels + 0.3, pixels) < 1e-6
    assert unrest(pixels[:, :, :1], pixels[:, :, :1]) == 0
    flicker = torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0])[:, None, None]
    assert float(unrest(pixels + flicker, pixels)) == pytest.approx(0.1, abs=1e-5)


def test_unrest_counts_where_it_is_asked_for():
    vae = make_vae(base=4)
    pixels, mask = torch.rand(1, 3, 5, SIZE, SIZE), torch.zeros(1, 5, SIZE, SIZE)
    losses = []
    for still in (0.0, 1.0):
        torch.manual_seed(1)
        losses.append(float(decoder_loss(vae, pixels, mask, still)[0].detach()))
    assert losses[1] > losses[0]


def test_the_decoder_goes_a_share_of_the_way(options, monkeypatch):
    vae = make_vae(base=4)
    on_wans_scale(vae, torch.zeros(16), torch.ones(16))
    vae.save_pretrained(options.out / "vae")
    before = load_vae(options)

    def further(options, stage, vae, trained, step):
        for _, parameter in trained:
            parameter.data += 1
        return vae

    monkeypatch.setattr(train_vae, "fit_vae", further)
    monkeypatch.setattr(train_vae, "evaluate", lambda *_: {})
    train_vae._fit_decoder(options, "finish", load_vae(options), None, 0.75)
    after = dict(load_vae(options).named_parameters())
    for name, parameter in before.named_parameters():
        moved = 0.75 if name.startswith(("decoder", "post_quant_conv")) else 0.0
        assert torch.allclose(after[name], parameter + moved, atol=1e-5), name
