"""Flow matching as Wan has it: noisy latents, the velocity, noise levels by expert, Euler's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from precision import fast_products
from swift import Text, velocity

SHIFT = 5.0
GUIDANCE = 1.5
"""Guidance scale that the miniature is measured with, that of its entry in svid.toml."""
BOUNDARY = 0.9
"""Wan 2.2 I2V: the high-noise expert has the levels from 0.9 up."""
RANGES: Mapping[str, tuple[float, float]] = {"all": (0.0, 1.0), "high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}


def shifted(u: torch.Tensor | float) -> Any:
    """Wan's shift: 5u / (1 + 4u)."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def unshifted(sigma: float) -> float:
    """The inverse of `shifted`."""
    return sigma / (SHIFT - (SHIFT - 1) * sigma)


def draw_sigmas(count: int, expert: str, generator: torch.Generator | None = None) -> torch.Tensor:
    """Noise levels [count] as sampling visits them: even before the shift, one in each of `count` strata."""
    low, high = (unshifted(edge) for edge in RANGES[expert])
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    sigmas: torch.Tensor = shifted(low + (high - low) * u).clamp(0.005, 1.0)
    return sigmas


def mixed(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(1 - sigma) x0 + sigma noise."""
    s = sigma[:, None, None, None, None]
    return (1 - s) * x0 + s * noise


def masked(condition: torch.Tensor, given: int = 1) -> torch.Tensor:
    """The image latents [B, 16, T, h, w] behind the mask, 1 in the first `given` latents: [B, 20, T, h, w]."""
    mask = condition.new_zeros(condition.shape[0], 4, *condition.shape[2:])
    mask[:, :, :given] = 1
    return torch.cat([mask, condition], 1)


def predict(model: Any, x: torch.Tensor, y: torch.Tensor, sigma: torch.Tensor, text: Text) -> torch.Tensor:
    """The velocity of noisy latents x [B, 16, T, h, w] given y [B, 20, T, h, w]."""
    return velocity(model, torch.cat([x, y], 1), sigma * 1000, text)


def euler_levels(steps: int) -> torch.Tensor:
    """SVI's grid: 1 - i/N, shifted, and 0 at the end."""
    levels: torch.Tensor = shifted(torch.linspace(1, 0, steps + 1))
    return levels


@torch.no_grad()
def sample(
    experts: Mapping[str, Any],
    noise: torch.Tensor,
    condition: torch.Tensor,
    text: Text,
    steps: int = 8,
    watch: Callable[[float, torch.Tensor], None] | None = None,
    given: int = 1,
    unsaid: Text | None = None,
    begin: int = 0,
) -> torch.Tensor:
    """Latents [B, 16, T, h, w] after `steps` Euler steps; `watch(sigma, x)` sees what each one begins from, `given`
    latents are marked in the mask; with `unsaid`, what stands for no prompt, guided by GUIDANCE. Where the first
    `begin` steps are left out, `noise` is what they would have come to."""
    x, y, levels = noise, masked(condition, given), euler_levels(steps)[begin:]
    for now, then in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        model = experts["high" if now >= BOUNDARY else "low"]
        sigma = torch.full((len(x),), now, device=x.device)
        if watch is not None:
            watch(now, x)
        with fast_products(x.device.type):
            v = predict(model, x, y, sigma, text)
            if unsaid is not None:
                without = predict(model, x, y, sigma, unsaid)
                v = without + GUIDANCE * (v - without)
        x = x + (then - now) * v
    return x
