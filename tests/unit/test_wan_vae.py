"""The streaming decode against diffusers' own, and the edges of the VAE."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from diffusers import AutoencoderKLWan

from svid.wan.conditioning import to_pixels
from svid.wan.vae import decode_frames, encode_normalized, latent_statistics, to_uint8


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=8, z_dim=16).eval().requires_grad_(False)


def whole(vae, z):
    mean, std = latent_statistics(vae)
    with torch.no_grad():
        return to_uint8(vae.decode(z * std + mean).sample)


@pytest.mark.parametrize("latents", [1, 2, 5])
def test_streamed_frames_are_those_of_one_decode(vae, latents):
    z = torch.randn(1, 16, latents, 4, 6, generator=torch.Generator().manual_seed(1))
    parts = list(decode_frames(vae, z))
    assert [len(part) for part in parts] == [1] + [4] * (latents - 1)
    assert all(part.dtype == torch.uint8 for part in parts)
    frames = torch.cat(parts)
    assert frames.shape == (4 * latents - 3, 32, 48, 3)
    assert torch.equal(frames, whole(vae, z))


def test_streams_do_not_disturb_each_other(vae):
    """Also an encode in between, and a stream that nobody finishes."""
    first, second = (torch.randn(1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    one, two, lost = decode_frames(vae, first), decode_frames(vae, second), decode_frames(vae, first)
    next(lost)
    lost.close()
    frames = [[], []]
    for _ in range(3):
        frames[0].append(next(one))
        encode_normalized(vae, torch.zeros(1, 3, 5, 16, 16))
        frames[1].append(next(two))
    assert torch.equal(torch.cat(frames[0]), whole(vae, first))
    assert torch.equal(torch.cat(frames[1]), whole(vae, second))


def test_frames_already_taken_are_not_kept(vae):
    stream = decode_frames(vae, torch.zeros(1, 16, 4, 2, 2))
    taken = weakref.ref(next(stream))
    next(stream)
    gc.collect()
    assert taken() is None


def test_encoding_is_the_normalized_mode(vae):
    pixels = to_pixels(torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8))
    z = encode_normalized(vae, pixels)
    assert z.shape == (1, 16, 2, 2, 2)
    assert z.dtype == torch.float32
    mean, std = latent_statistics(vae)
    with torch.no_grad():
        mu = vae.encode(pixels).latent_dist.mean
    assert torch.allclose(z * std + mean, mu, atol=1e-5)
    assert latent_statistics(vae)[0].flatten()[0] == pytest.approx(-0.7571)


def test_levels_are_cut_off_not_rounded():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0]).view(1, 1, 1, 1, 6).expand(1, 3, 1, 1, 6)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]
