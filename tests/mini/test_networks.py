import pytest
import torch
from autoencoder import make_vae, on_wans_scale, statistics
from flow import BOUNDARY, RANGES, draw_sigmas, euler_levels, mixed, shifted, unshifted
from networks import make_expert, make_text_encoder
from optim import Muon, orthogonal, schedule
from parallel import decode, encode
from prompts import NOTHING, Prompts, make_tokenizer
from swift import short_text, velocity
from tokenizer import TRAINED_WORDS, vocabulary
from torch import nn

from svid.wan.schedule import svi_grid
from svid.wan.text import TextEncoder


@pytest.fixture(scope="module")
def vae():
    return make_vae(base=4)


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_parallel_vae_is_the_cached_one(vae, frames):
    pixels = torch.rand(1, 3, frames, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()
        assert torch.allclose(encode(vae, pixels), latents, atol=1e-4)
        assert torch.allclose(decode(vae, latents).clamp(-1, 1), vae.decode(latents).sample, atol=1e-4)


def test_latents_come_to_wans_scale_and_pixels_stay():
    vae = make_vae(base=4)
    pixels = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        before = decode(vae, encode(vae, pixels))
        on_wans_scale(vae, *statistics(vae, 3, 9, 32, 32))
        after = decode(vae, encode(vae, pixels))
    assert torch.allclose(before, after, atol=1e-3)
    mean, std = statistics(vae, 3, 9, 32, 32)
    assert mean.tolist() == pytest.approx(vae.config.latents_mean, abs=0.01)
    assert std.tolist() == pytest.approx(vae.config.latents_std, rel=0.01)


def test_the_swift_expert_is_diffusers_expert():
    model = make_expert(1)
    nn.init.normal_(model.proj_out.weight, std=0.1)
    mask = torch.zeros(2, 16)
    mask[0, :12], mask[1, :9] = 1, 1
    text = short_text(torch.randn(2, 16, 64), mask)
    full = torch.zeros(2, 512, 64)
    full[:, :16] = text.states
    x, timestep = torch.randn(2, 36, 5, 8, 8), torch.tensor([900.0, 300.0])
    with torch.no_grad():
        expected = model(x, timestep, full, return_dict=False)[0]
        assert torch.allclose(velocity(model, x, timestep, text), expected, atol=1e-4)


def test_prompts_are_embedded_as_svid_embeds_them(tmp_path):
    model = make_text_encoder(len(vocabulary(TRAINED_WORDS)), 3).eval()
    prompts = Prompts(make_tokenizer(tmp_path), model)
    captions = ["a big red star moves right slowly", *NOTHING]
    with torch.no_grad():
        text = prompts(captions)
        reference = TextEncoder(prompts.tokenizer, model)
        for row, caption in enumerate(captions):
            expected = reference.encode(caption)[0]
            length = min(text.states.shape[1], 512)
            assert torch.allclose(text.states[row, :length], expected[:length], atol=1e-4)
            assert not expected[length:].any()


def test_caption_words_are_one_piece_each(tmp_path):
    prompts = Prompts(make_tokenizer(tmp_path), make_text_encoder(len(vocabulary(TRAINED_WORDS)), 3))
    line = "a big pink triangle spins and moves left quickly on a slate dotted background, the camera zooms in"
    assert len(prompts.tokenizer(line).input_ids) == len(line.split()) + 1


def test_shift_and_its_inverse():
    for sigma in (0.0, 0.3, BOUNDARY, 1.0):
        assert shifted(unshifted(sigma)) == pytest.approx(sigma)


@pytest.mark.parametrize("expert", RANGES)
def test_noise_levels_stay_with_their_expert(expert):
    sigmas = draw_sigmas(64, expert)
    low, high = RANGES[expert]
    assert sigmas.min() >= min(low, 0.005)
    assert sigmas.max() <= high + 1e-6
    assert sigmas.unique().numel() == 64


def test_euler_levels_are_svids():
    grid = torch.tensor(svi_grid(10))
    assert torch.allclose(euler_levels(10)[:-1], shifted(grid))
    assert euler_levels(10)[-1] == 0


def test_mixed_is_noise_at_one_and_the_latents_at_zero():
    x0, noise = torch.randn(2, 16, 3, 4, 4), torch.randn(2, 16, 3, 4, 4)
    both = mixed(x0, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(both[0], x0[0])
    assert torch.equal(both[1], noise[1])


def test_orthogonal_has_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 16, 40)).float())
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_muon_fits_a_matrix():
    torch.manual_seed(0)
    layer, goal = nn.Linear(20, 10, bias=False), torch.randn(10, 20)
    optimizer = Muon(layer.parameters(), 0.05)
    for _ in range(300):
        loss = (layer.weight - goal).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05


def test_the_schedule_rises_holds_and_falls():
    assert schedule(0.0) < 0.1
    assert schedule(0.2) == 1.0
    assert 0.4 < schedule(0.7) < 0.6
    assert schedule(1.0) == pytest.approx(0.01)
