"""Sigmas, timesteps and which expert takes which step."""

from __future__ import annotations

from typing import Any

import diffusers.schedulers
import numpy as np
import torch

from svid.api import Expert, Sampling
from svid.wan.samplers import final_sigmas, sampler_named

TIMESTEPS = 1000


def svi_grid(steps: int) -> list[float]:
    """The authors' grid before the shift: 1 - i/N for i = 0 ... N-1, in fp32 as they compute it.

    diffusers' own grid ends elsewhere and is off by up to 0.69 in sigma. Source: V1 diffsynth/schedulers/flow_match.py,
    V22 diffsynth/diffusion/flow_match.py; the shift s*x / (1 + (s-1)*x) is the scheduler's.
    """
    grid: list[float] = torch.linspace(1, 0, steps + 1)[:-1].tolist()
    return grid


def make_scheduler(sampling: Sampling, device: torch.device | str) -> Any:
    """The diffusers scheduler of `sampling.sampler`, its timesteps set, its step counter at 0.

    `sampling.sigmas`, where given, are final: no shift is applied and `steps` is not read.

    Raises:
        Refused: unknown sampler, or sigmas that it can't take.
    """
    sampler = sampler_named(sampling.sampler)
    sigmas = None
    if sampling.sigmas is not None:
        sigmas = final_sigmas(sampling.sampler, sampling.sigmas)
    shift = sampling.shift if sigmas is None else 1.0
    if sigmas is None and sampler.grid:
        sigmas = svi_grid(sampling.steps)
    scheduler = getattr(diffusers.schedulers, sampler.scheduler)(**sampler.kwargs, **{sampler.shift: shift})
    if sigmas is None:
        scheduler.set_timesteps(sampling.steps, device=device)
    else:
        scheduler.set_timesteps(sigmas=np.asarray(sigmas), device=device)
    # Without it the first step is looked up by its timestep, and rounded timesteps can occur twice.
    scheduler.set_begin_index(0)
    return scheduler


def experts_per_step(timesteps: torch.Tensor, boundary: float) -> tuple[Expert, ...]:
    """Which expert takes each of `timesteps` [N]: high while t >= 1000 * boundary, compared in fp32.

    fp32 decides at the knife edge: N = 50, shift 3 gives t[15] = 874.99994, which is the low expert's at 0.875; float64
    would give 875.0 (parity/NOTES.md 6).
    """
    edge = torch.tensor(boundary * TIMESTEPS, dtype=torch.float32)
    high = timesteps.detach().cpu().to(torch.float32) >= edge
    return tuple("high" if flag else "low" for flag in high.tolist())
