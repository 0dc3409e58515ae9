"""The denoising loop: who is called how often, in which precision, and what passes through."""

from __future__ import annotations

import pytest
import torch

from svid.api import Conditioning, Sampling
from svid.errors import Cancelled, Refused
from svid.wan.model import AnchorCache, WanModel
from svid.wan.samplers import SAMPLERS
from svid.wan.sampling import denoise, initial_noise
from svid.wan.schedule import make_scheduler

SHAPE = (1, 16, 3, 2, 2)
COND, UNCOND = torch.full((1, 512, 4), 1.0), torch.full((1, 512, 4), -1.0)
Y = Conditioning(y=torch.arange(20.0).view(1, 20, 1, 1, 1).expand(1, 20, 3, 2, 2))


class Expert:
    """A velocity of 0.1 with the prompt and 0.3 without, and a diary."""

    def __init__(self):
        self.seen = []

    def __call__(self, inputs, time, prompt, return_dict):
        positive = bool(prompt.mean() > 0)
        self.seen.append((time.clone(), positive, inputs.dtype, inputs[0, :, 0, 0, 0].clone()))
        return (inputs[:, :16] * 0.5 + (0.1 if positive else 0.3),)


def wan(dtype=torch.float32):
    return WanModel({"high": Expert(), "low": Expert()}, None, None, torch.device("cpu"), dtype)


def run(model, high=1.0, low=1.0, sampler="euler", steps=6, progress=lambda step, steps: None, uncond=UNCOND, seed=1):
    sampling = Sampling(sampler, steps, 5.0, {"high": high, "low": low}, 0.9)
    noise, generator = initial_noise(SHAPE, seed)
    scheduler = make_scheduler(sampling, "cpu")
    return denoise(model, Y, COND, uncond, scheduler, sampling, noise, progress, generator)


def test_noise_is_that_of_the_seed():
    noise, generator = initial_noise(SHAPE, 42)
    assert torch.equal(noise, torch.randn(SHAPE, generator=torch.Generator().manual_seed(42)))
    assert not torch.equal(noise, torch.randn(SHAPE, generator=generator))


@pytest.mark.parametrize(
    ("high", "low", "passes"), [(1.0, 1.0, (3, 3)), (3.5, 1.0, (6, 3)), (1.0, 2.0, (3, 6)), (4.0, 4.0, (6, 6))]
)
def test_the_unconditional_pass_is_skipped_per_expert(high, low, passes):
    model = wan()
    run(model, high, low)
    assert (len(model.experts["high"].seen), len(model.experts["low"].seen)) == passes
    assert all(time >= 900 for time, *_ in model.experts["high"].seen)
    assert all(time < 900 for time, *_ in model.experts["low"].seen)


def test_guidance_extrapolates_from_the_negative():
    model = wan()
    noise, _ = initial_noise(SHAPE, 1)
    velocity = noise * 0.5 + 0.3 + 4.0 * (0.1 - 0.3)
    assert torch.allclose(run(model, 4.0, 4.0, steps=1), noise - velocity, atol=1e-6)


class Looking(Expert):
    """Wan 2.1's transformer, which is shown a picture in every pass."""

    def __call__(self, inputs, time, prompt, return_dict, encoder_hidden_states_image):
        self.pictures = [*getattr(self, "pictures", []), encoder_hidden_states_image]
        return super().__call__(inputs, time, prompt, return_dict)


def test_one_transformer_takes_every_step_and_sees_the_picture_in_both_passes():
    picture = torch.ones(1, 257, 3)
    model = WanModel({"high": Looking()}, None, None, torch.device("cpu"), torch.bfloat16, image=object())
    sampling = Sampling("euler", 6, 5.0, {"high": 5.0, "low": 5.0}, 0.0)
    noise, _ = initial_noise(SHAPE, 1)
    given = (COND, UNCOND, make_scheduler(sampling, "cpu"), sampling, noise, lambda step, steps: None)
    denoise(model, Conditioning(Y.y, picture), *given)
    assert len(model.experts["high"].seen) == 12
    assert all(torch.equal(seen, picture.bfloat16()) for seen in model.experts["high"].pictures)
    with pytest.raises(Refused, match="embedded picture for Wan"):
        denoise(model, Y, *given)


def test_without_guidance_no_negative_is_needed():
    assert run(wan(), uncond=None).shape == SHAPE
    with pytest.raises(Refused, match="guidance is not 1"):
        run(wan(), high=2.0, uncond=None)


def test_the_input_is_noise_mask_image_in_the_models_dtype():
    model = wan(torch.bfloat16)
    latents = run(model)
    time, _, dtype, channels = model.experts["high"].seen[1]
    assert dtype == torch.bfloat16
    assert time.dtype == torch.float32
    assert torch.equal(channels[16:].float(), torch.arange(20.0))
    assert latents.dtype == torch.float32
    assert not torch.equal(latents, latents.bfloat16().float())


def test_progress_counts_every_step_and_can_stop():
    seen = []
    run(wan(), progress=lambda step, steps: seen.append((step, steps)))
    assert seen == [(step, 6) for step in range(1, 7)]

    def stop(step, steps):
        if step == 2:
            raise Cancelled

    model = wan()
    with pytest.raises(Cancelled):
        run(model, progress=stop)
    assert len(model.experts["high"].seen) == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_sampler_runs_and_repeats_itself(sampler, steps):
    first, second, other = (run(wan(), sampler=sampler, steps=steps, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_the_anchor_cache_is_bounded():
    cache = AnchorCache(keep=2)
    for name in "aba":
        cache.put((name, 1, 1), torch.tensor(0))
    cache.put(("c", 1, 1), torch.tensor(0))
    assert cache.get(("b", 1, 1)) is None
    assert cache.get(("a", 1, 1)) is not None
