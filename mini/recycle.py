"""Error recycling (Stable Video Infinity, arXiv 2510.09212): the model's own errors, banked by noise level, are put
into what it is conditioned on and into its latents, while what it is to find stays the truth; and what chains of the
model's own hand over stands in the place of a clean motion latent."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import torch
from flow import mixed
from latents import Segments
from samples import DEPTH

BINS = 10
KEPT = 24
"""Errors kept per noise level; the oldest go first."""
FINISHED = "finished"
"""The bank of whole renderings: what a chain really hands over."""


@dataclass
class ErrorBank:
    """Errors [16, T, h, w] of the clean latents that the model predicts, by noise level, and of finished renderings."""

    banks: dict[str, deque[torch.Tensor]] = field(default_factory=dict)

    def add(self, level: float | str, errors: torch.Tensor) -> None:
        """Bank errors [B, 16, T, h, w] made at a noise level, or FINISHED."""
        name = level if isinstance(level, str) else str(min(int(level * BINS), BINS - 1))
        bank = self.banks.setdefault(name, deque(maxlen=KEPT if name != FINISHED else 4 * KEPT))
        bank.extend(errors.detach().half().cpu())

    def draw(self, level: float | str, rng: random.Random) -> torch.Tensor | None:
        """One error from a noise level, fp32, or None while there is none."""
        name = level if isinstance(level, str) else str(min(int(level * BINS), BINS - 1))
        bank = self.banks.get(name)
        return bank[rng.randrange(len(bank))].float() if bank else None

    def draw_any(self, rng: random.Random, finished: float = 0.6, highest: int = 8) -> torch.Tensor | None:
        """One error of any noise level below `highest` tenths, or (probability `finished`) of a finished rendering."""
        names = [name for name in self.banks if name != FINISHED and int(name) < highest]
        if FINISHED in self.banks and (rng.random() < finished or not names):
            return self.draw(FINISHED, rng)
        return self.draw(int(rng.choice(names)) / BINS + 0.01, rng) if names else None

    def spread(self) -> dict[str, float]:
        """The standard deviation of what is banked, by bank."""
        return {name: float(torch.stack(list(bank)).float().std()) for name, bank in sorted(self.banks.items())}


@dataclass
class Chains:
    """Chains that the model renders, a segment at a time, while its LoRA learns: what a segment really hands over after
    several, with what is wrong where it is wrong. A banked error in another segment is seldom a subject that is gone.

    `segments`: DEPTH of each chain in a row; `errors`: how far from the truth the last latent of a rendered one is;
    `after`: by chain, which one is to be rendered next."""

    segments: Segments
    errors: dict[int, torch.Tensor] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)

    def advance(self, count: int, rng: random.Random) -> list[int]:
        """What to render now: of some chains the segment after the last one rendered, or the first again."""
        chains = rng.sample(range(len(self.segments) // DEPTH), count)
        links = [DEPTH * chain + self.after.get(chain, 0) for chain in chains]
        self.after |= {link // DEPTH: (link + 1) % DEPTH for link in links}
        return links

    def keep(self, links: list[int], errors: torch.Tensor) -> None:
        """What is wrong with the last latents [B, 16, 1, h, w] of segments."""
        self.errors |= dict(zip(links, errors.cpu(), strict=True))

    def able(self) -> list[int]:
        """Segments before which one has been rendered."""
        return [index + 1 for index in self.errors if (index + 1) % DEPTH]

    def handed(self, links: list[int], motion: torch.Tensor, shares: list[float]) -> torch.Tensor:
        """The motion latents [B, 16, 1, h, w] of segments with a share of what is wrong with what the ones before hand
        over: 1 as a chain really goes on, 0 clean. Nothing is before a first segment."""
        handed = motion.clone()
        for row, (index, share) in enumerate(zip(links, shares, strict=True)):
            if index % DEPTH:
                handed[row] += share * self.errors[index - 1].to(motion.device)
        return handed


@dataclass(frozen=True)
class Recycling:
    """How often errors are put where: banked ones into motion latents and into the latents, those of chains of its own
    into what goes on from these, and those of subjects gone astray. All zero: the layout alone, without recycling. The
    anchor is clean, as it is in every segment of a chain: a picture that was given."""

    motion: float = 0.2
    latents: float = 0.3
    chained: float = 0.35
    astray: float = 0.5


def worn(given: torch.Tensor, slot: int, bank: ErrorBank, probability: float, rng: random.Random) -> torch.Tensor:
    """What is handed over [B, 16, 1, h, w] with banked errors of latent `slot` in some rows: one error, seldom two,
    each at a quarter to one and a quarter of its size. What comes clean, or nearly, is to be taken up exactly: a model
    that has seen little of it trusts nothing, and its seams show that."""
    worn = given.clone()
    for row in range(len(given)):
        if rng.random() >= probability:
            continue
        for _ in range(rng.choice((1, 1, 1, 2))):
            error = bank.draw_any(rng)
            if error is not None:
                worn[row] += rng.uniform(0.25, 1.25) * error[:, slot][:, None].to(given.device)
    return worn


def strayed(errors: torch.Tensor, probability: float, rng: random.Random) -> torch.Tensor:
    """A share of what is wrong with motion latents whose subjects have gone astray, errors [B, 16, 1, h, w], in some
    rows; nothing in the others."""
    shares = [rng.uniform(0.25, 1.1) if rng.random() < probability else 0.0 for _ in range(len(errors))]
    return errors * errors.new_tensor(shares)[:, None, None, None, None]


def worn_latents(
    z: torch.Tensor, sigma: torch.Tensor, bank: ErrorBank, probability: float, rng: random.Random
) -> torch.Tensor:
    """The latents [B, 16, T, h, w] that noise is mixed into, some with an error of their own noise level in them; none
    below 0.3, where the truth is too near for the velocity to lead back to it."""
    worn = z.clone()
    for row, level in enumerate(sigma.tolist()):
        error = bank.draw(level, rng) if level > 0.3 and rng.random() < probability else None
        if error is not None:
            worn[row] += error.to(z.device)
    return worn


def recycled_target(
    z: torch.Tensor, worn: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(noisy latents made of the worn ones, the velocity from there to the clean ones: (x - z) / sigma)."""
    x = mixed(worn, noise, sigma)
    return x, (x - z) / sigma[:, None, None, None, None]
