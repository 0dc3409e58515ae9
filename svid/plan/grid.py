"""Which expert a step falls to, told from numbers alone, before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection

from svid.api import Expert
from svid.plan.settings import LoraStrength, SamplingSettings

TWO_RUNS = ("heun",)
"""Samplers that run the model twice in most steps, so that a step is not one run."""


def experts(
    sampler: str, steps: int, shift: float, sigmas: tuple[float, ...] | None, boundary: float
) -> tuple[int, int]:
    """How many steps fall to the high-noise and to the low-noise expert on the authors' grid. Samplers with another
    grid may move one step over the boundary."""
    if sigmas is None:
        line = [1 - step / steps for step in range(steps)]
        sigmas = tuple(shift * s / (1 + (shift - 1) * s) for s in line)
    high = sum(sigma >= boundary for sigma in sigmas)
    return high, len(sigmas) - high


def can_act(lora: LoraStrength, has: Collection[Expert], sampling: SamplingSettings) -> bool:
    """Whether a LoRA with files for the experts `has` is on at any step of one of them. Where the sampler's grid may
    differ from the authors' by a step, that step counts for both."""
    high, low = experts(sampling.sampler, sampling.steps, sampling.shift, sampling.sigmas, sampling.boundary)
    unsure = 0 if sampling.sampler == "euler" or sampling.sigmas is not None else 1
    runs: dict[Expert, range] = {
        "high": range(1, high + unsure + 1),
        "low": range(max(1, high + 1 - unsure), high + low + 1),
    }
    first, last = lora.steps or (1, sampling.steps)
    return any(lora.of(expert) and any(first <= step <= last for step in runs[expert]) for expert in has)
