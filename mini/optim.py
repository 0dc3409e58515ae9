"""Muon for matrices and AdamW for the rest, a schedule, and a running average of the weights.

Muon (Keller Jordan, 2024): momentum whose matrix is replaced by the nearest orthogonal one. For networks this small it
takes about a third of AdamW's steps. Convolutions count as matrices [out, in * kernel].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from precision import product_dtype

QUINTIC = (3.4445, -4.7750, 2.0315)
"""The polynomial of Muon's Newton-Schulz iteration: fast, with singular values between 0.7 and 1.2 at the end."""


def orthogonal(stack: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """About the nearest orthogonal matrices of `stack` [n, rows, columns], rows <= columns, found in low precision."""
    a, b, c = QUINTIC
    x = stack.to(product_dtype(stack.device.type))
    x = x / (x.float().flatten(1).norm(dim=1)[:, None, None] + 1e-7).to(x.dtype)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = x.to(stack.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal. A step of `lr` changes a weight by about lr / sqrt(fan in), which is lr times
    the spread that a weight of gain 1 has, whatever its shape."""

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; weights of one shape are made orthogonal together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape[0], weight[0].numel()].append(weight)
            for (rows, columns), weights in shapes.items():
                grads = torch.stack([w.grad.reshape(rows, columns) for w in weights if w.grad is not None])
                for weight in weights:
                    self.state[weight].setdefault("momentum", torch.zeros(rows, columns, device=weight.device))
                momenta = torch.stack([self.state[w]["momentum"] for w in weights])
                momenta.lerp_(grads.to(momenta.dtype), 1 - group["momentum"])
                for weight, momentum in zip(weights, momenta, strict=True):
                    self.state[weight]["momentum"].copy_(momentum)
                ahead = momenta.lerp(grads.to(momenta.dtype), 1 - group["momentum"])
                updates = orthogonal(ahead) if rows <= columns else orthogonal(ahead.mT).mT
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(update.reshape(weight.shape).to(weight.dtype), alpha=-scale)


def split(named: Iterable[tuple[str, torch.nn.Parameter]], plain: tuple[str, ...] = ()) -> tuple[list[Any], list[Any]]:
    """(matrices for Muon, everything else): what has two dimensions or more and more than three rows, and a name
    without any part of `plain` (embeddings and outputs do better with AdamW)."""
    matrices: list[Any] = []
    others: list[Any] = []
    for name, weight in named:
        matrix = weight.ndim >= 2 and min(weight.shape[0], weight[0].numel()) > 3
        (matrices if matrix and not any(part in name for part in plain) else others).append(weight)
    return matrices, others


def schedule(progress: float, warm: float = 0.01, hold: float = 0.4, end: float = 0.01) -> float:
    """Factor on the learning rate: up over `warm`, level until `hold`, then straight down to `end`."""
    if progress < warm:
        return max(progress / warm, 0.05)
    return 1.0 if progress < hold else end + (1 - end) * max(0.0, (1 - progress) / (1 - hold))


class Average:
    """An exponential average of a module's parameters."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move towards `module`; faster in the first steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        names = list(self.values)
        now = dict(module.named_parameters())
        torch._foreach_lerp_([self.values[n] for n in names], [now[n].detach() for n in names], weight)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        """Put the average into `module`."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.values[name])
