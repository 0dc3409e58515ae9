"""Sigmas, experts and samplers: the golden values of the SVI spec, section 13, and flows that are known exactly."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from svid.api import Sampling
from svid.errors import Refused
from svid.wan.samplers import SAMPLERS, final_sigmas, sampler_named
from svid.wan.schedule import experts_per_step, make_scheduler

GUIDANCE = {"high": 1.0, "low": 1.0}


def scheduler(name, steps, shift=5.0, sigmas=None):
    return make_scheduler(Sampling(name, steps, shift, GUIDANCE, 0.9, sigmas), "cpu")


@pytest.mark.parametrize(
    ("steps", "shift", "sigmas"),
    [
        (6, 5.0, [1, 0.961538, 0.909091, 0.833333, 0.714286, 0.5, 0]),
        (6, 8.0, [1, 0.97561, 0.941176, 0.888889, 0.8, 0.615385, 0]),
        (1, 5.0, [1, 0]),
    ],
)
def test_golden_sigmas(steps, shift, sigmas):
    made = scheduler("euler", steps, shift)
    assert made.sigmas.tolist() == pytest.approx(sigmas, abs=1e-6)
    assert made.timesteps.tolist() == pytest.approx([1000 * sigma for sigma in sigmas[:-1]], abs=1e-3)


@pytest.mark.parametrize(
    ("steps", "shift", "boundary", "high"),
    [
        (50, 5.0, 0.875, 21),
        (50, 5.0, 0.9, 18),
        (6, 5.0, 0.875, 3),
        (6, 8.0, 0.875, 4),
        (6, 8.0, 0.9, 3),
        (40, 5.0, 0.875, 17),
        (40, 5.0, 0.9, 15),
        (8, 8.0, 0.875, 5),
        # Knife edge: 874.99994 in fp32, 875.0 in float64.
        (50, 3.0, 0.875, 15),
    ],
)
def test_golden_high_noise_steps(steps, shift, boundary, high):
    experts = experts_per_step(scheduler("euler", steps, shift).timesteps, boundary)
    assert experts == ("high",) * high + ("low",) * (steps - high)


def test_the_boundary_itself_is_high():
    assert experts_per_step(torch.tensor([900.0, 899.99994]), 0.9) == ("high", "low")
    assert experts_per_step(torch.tensor([900, 899]), 0.9) == ("high", "low")


def flow(made, name, x, velocity):
    """Run the sampler on a velocity field known exactly."""
    generator = torch.Generator().manual_seed(3)
    extra = {"generator": generator} if SAMPLERS[name].stochastic else {}
    for timestep in made.timesteps:
        # The sigma that the sampler means, not its rounded timestep.
        sigma = float(made.sigmas[made.step_index or 0])
        x = made.step(velocity(x, sigma), timestep, x, return_dict=False, **extra)[0]
    return x


def gaussian(mean, std):
    """The velocity of flow matching from N(0, 1) to N(mean, std^2): E[noise - data | x]."""

    def velocity(x, sigma):
        rest = x - (1 - sigma) * mean
        variance = ((1 - sigma) * std) ** 2 + sigma**2
        return sigma / variance * rest - (mean + (1 - sigma) * std**2 / variance * rest)

    return velocity


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [4, 7, 20])
def test_every_sampler_lands_on_a_point(name, steps):
    """Where all data is one point, any right solver ends exactly there; a sampler that keeps noise does not."""
    noise = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    end = flow(scheduler(name, steps), name, noise, lambda x, sigma: (x - 1.5) / sigma)
    assert (end - 1.5).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("unipc", 2), ("dpm++", 2), ("dpm++_2s", 2), ("heun", 2)])
def test_deterministic_samplers_converge_to_the_exact_flow(name, order):
    noise = torch.randn(1, 16, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    exact = 1.5 + 0.5 * noise
    error = [
        float((flow(scheduler(name, steps), name, noise, gaussian(1.5, 0.5)) - exact).square().mean().sqrt())
        for steps in (10, 80)
    ]
    assert error[1] < (0.03 if order == 1 else 0.013)
    assert error[0] / error[1] > (4 if order == 1 else 9)


@pytest.mark.parametrize(("name", "spread"), [("dpm++_sde", (0.48, 0.54)), ("lcm", (0.25, 0.5))])
def test_stochastic_samplers_keep_the_distribution_and_obey_their_generator(name, spread):
    noise = torch.randn(1, 16, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    ends = [flow(scheduler(name, 50), name, noise, gaussian(1.5, 0.5)) for _ in range(2)]
    assert torch.equal(*ends)
    assert float(ends[0].mean()) == pytest.approx(1.5, abs=0.02)
    # LCM jumps to the mean of what is possible and so narrows the distribution: that is the method, not a fault.
    assert spread[0] < float(ends[0].std()) < spread[1]


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.sigmas])
def test_given_sigmas_are_final(name):
    sigmas = (0.999, 0.9, 0.5, 0.25)
    made = scheduler(name, 50, 5.0, sigmas)
    assert made.sigmas.tolist() == pytest.approx([*sigmas, 0], abs=1e-6)
    assert scheduler(name, 50, 5.0, (*sigmas, 0.0)).sigmas.tolist() == made.sigmas.tolist()


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if not sampler.sigmas])
def test_sigmas_are_refused_by_samplers_with_their_own(name):
    with pytest.raises(Refused, match="samplers that take sigmas: euler, unipc, lcm"):
        scheduler(name, 4, 5.0, (1.0, 0.5))


@pytest.mark.parametrize("sigmas", [(), (0.0,), (0.5, 0.5), (0.5, 0.9), (1.2, 0.5), (0.5, -0.1), (float("nan"), 0.5)])
def test_senseless_sigmas_are_refused(sigmas):
    with pytest.raises(Refused, match="falling numbers"):
        final_sigmas("euler", sigmas)


def test_unknown_samplers_get_a_suggestion():
    with pytest.raises(Refused, match="did you mean 'unipc'"):
        sampler_named("uni_pc")
    with pytest.raises(Refused, match=r"expected one of euler, unipc"):
        scheduler("zzz", 4)


def test_the_names_need_no_torch():
    code = "import sys, svid.wan.samplers, svid.wan.folder, svid.wan.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
