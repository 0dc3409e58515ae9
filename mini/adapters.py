"""Training of the LoRAs: SVI 2.0 Pro and SVI 2.0 by error recycling, the hard cut, the distilled steps.

The experts and the text encoder are fixed. High and low are two LoRAs that never see each other's noise levels; they
are trained in turn and share one bank of errors, as a chain hands over what both of them made.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from experts import weighted
from flow import BOUNDARY, draw_sigmas, euler_levels, masked, mixed, predict, sample
from latents import Segments, whole
from lora import Lora
from precision import fast_products
from prompts import NOTHING, Prompts
from recycle import FINISHED, ErrorBank, Recycling, recycled_target, worn, worn_latents
from swift import Text

COUNT = 12
"""Segments of one step."""
FIRST = 0.35
"""Share of first segments, which nothing goes before."""
ROLL = 60
"""A batch is rendered to the end every so many steps, and its errors are banked."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]
"""Latents z, where they show a subject, image latents (z and these [B, 16, T, h, w]), and captions."""


@dataclass
class Trainee:
    """The experts with LoRAs on them, the prompts, what is learned from."""

    experts: dict[str, Any]
    loras: dict[str, Lora]
    prompts: Prompts
    plain: Segments
    special: Segments
    recycling: Recycling = field(default_factory=Recycling)
    bank: ErrorBank = field(default_factory=ErrorBank)
    anchored: bool = True

    def text(self, captions: list[str]) -> Text:
        """Embedded captions, nothing to be learned in them."""
        with torch.no_grad():
            return self.prompts(captions)


def draw_plain(trainee: Trainee, rng: random.Random, count: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Plain segments without cuts."""
    chosen: list[int] = []
    while len(chosen) < count:
        index = rng.randrange(len(trainee.plain))
        if trainee.plain.kinds[index] == "plain":
            chosen.append(index)
    return trainee.plain.batch(chosen)


def draw_special(trainee: Trainee, rng: random.Random, count: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Segments of the kind that the LoRA is for."""
    return trainee.special.batch([rng.randrange(len(trainee.special)) for _ in range(count)])


def pro_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """SVI 2.0 Pro: [anchor, motion, zeros], or for a first segment [anchor, zeros] with its own first frame."""
    firsts = sum(rng.random() < FIRST for _ in range(COUNT))
    later, captions = draw_special(trainee, rng, COUNT - firsts)
    anchor = worn(later["anchor"], 0, trainee.bank, trainee.recycling.anchor, rng)
    motion = worn(later["motion"], -1, trainee.bank, trainee.recycling.motion, rng)
    condition = torch.zeros_like(later["z"])
    condition[:, :, :1] = anchor if trainee.anchored else 0.0
    condition[:, :, 1:2] = motion
    if not firsts:
        return later["z"], later["where"], condition, captions
    first, more = draw_plain(trainee, rng, firsts)
    begun = torch.zeros_like(first["z"])
    begun[:, :, :1] = first["z"][:, :, :1]
    z, where = (torch.cat([later[name], first[name]]) for name in ("z", "where"))
    return z, where, torch.cat([condition, begun]), captions + more


def svi20_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """SVI 2.0 on Wan 2.2: the last frame, then copies of the anchor; a first segment is its own anchor, and an anchor
    that is the last frame is as good as any."""
    later, captions = draw_special(trainee, rng, COUNT)
    condition = whole(later["y"], later["z"].shape[2])
    error = worn(condition[:, :, :1], 0, trainee.bank, trainee.recycling.motion, rng) - condition[:, :, :1]
    condition[:, :, :1] += error
    return later["z"], later["where"], condition, captions


def cut_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """Plain I2V whose caption has a hard cut that the video has too, and some without. There are such segments among
    the plain ones as well."""
    some = COUNT // 4
    also = [i for i, kind in enumerate(trainee.plain.kinds) if kind == "cut"]
    own = sum(rng.randrange(len(also) + len(trainee.special)) >= len(also) for _ in range(COUNT - some))
    cut, captions = draw_special(trainee, rng, own)
    more_cuts, words = trainee.plain.batch(rng.choices(also, k=COUNT - some - own))
    cut = {name: torch.cat([cut[name], more_cuts[name]]) for name in ("z", "where", "y")}
    captions += words
    plain, more = draw_plain(trainee, rng, some)
    z, where, y = (torch.cat([cut[name], plain[name]]) for name in ("z", "where", "y"))
    return z, where, whole(y, z.shape[2]), captions + more


def pro_cut_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """As `cut_batch`, in the layout of SVI 2.0 Pro: the segment's own first latents stand for anchor and motion, or the
    anchor alone where nothing goes before."""
    z, where, _, captions = cut_batch(trainee, rng)
    later = torch.tensor([rng.random() >= FIRST for _ in captions])
    condition = torch.zeros_like(z)
    condition[:, :, :1] = z[:, :, :1]
    condition[later, :, 1:2] = z[later, :, 1:2]
    return z, where, condition, captions


def plain_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """Plain I2V."""
    plain, captions = draw_plain(trainee, rng, COUNT)
    return plain["z"], plain["where"], whole(plain["y"], plain["z"].shape[2]), captions


BATCHES: dict[str, Callable[[Trainee, random.Random], Batch]] = {
    "svi-2.0-pro": pro_batch,
    "svi-2.0-wan22": svi20_batch,
    "hard-cut": cut_batch,
    "hard-cut, svi-2.0-pro": pro_cut_batch,
    "distill": plain_batch,
}


def recycling_step(
    trainee: Trainee, kind: str, expert: str, number: int, device: str
) -> tuple[torch.Tensor, dict[str, float]]:
    """One step of a LoRA; what it got wrong goes into the bank."""
    rng = random.Random(number)
    z, where, condition, captions = BATCHES[kind](trainee, rng)
    if number % 12 == 11:
        captions = [rng.choices(NOTHING, (2, 2, 1))[0]] * len(z)
    sigma = draw_sigmas(len(z), expert).to(device)
    x, target = recycled_target(
        z, worn_latents(z, sigma, trainee.bank, trainee.recycling.latents, rng), torch.randn_like(z), sigma
    )
    with fast_products(device):
        v = predict(trainee.experts[expert], x, masked(condition), sigma, trainee.text(captions))
        errors = weighted((v - target).square(), where)
    found = x - sigma[:, None, None, None, None] * v.detach()
    for row in range(0, len(z), 3):
        trainee.bank.add(float(sigma[row]), (found - z)[row : row + 1])
    return errors.mean(), {f"v {expert}": float(errors.detach().mean())}


@torch.no_grad()
def roll(trainee: Trainee, kind: str, number: int, device: str) -> float:
    """Render a batch to the end as a chain would and bank how far from the truth it is; returns that spread."""
    z, _, condition, captions = BATCHES[kind](trainee, random.Random(number))
    made = sample(trainee.experts, torch.randn_like(z), condition, trainee.text(captions), steps=8)
    trainee.bank.add(FINISHED, made - z)
    return float((made - z).std())


def distill_step(trainee: Trainee, expert: str, number: int, device: str) -> tuple[torch.Tensor, dict[str, float]]:
    """One step of a LoRA that goes in one step where the expert alone takes four, on the grids of 4 and 6 steps."""
    rng = random.Random(number)
    z, where, condition, captions = BATCHES["distill"](trainee, rng)
    grid = euler_levels(rng.choice((4, 4, 6))).tolist()
    able = [(a, b) for a, b in pairwise(grid) if (a >= BOUNDARY) == (expert == "high")]
    now, then = rng.choice(able)
    text, y = trainee.text(captions), masked(condition)
    begin = mixed(z, torch.randn_like(z), torch.full((len(z),), now, device=device))
    lora = trainee.loras[expert]
    with fast_products(device):
        lora.set_strength(0.0)
        with torch.no_grad():
            end, edges = begin, torch.linspace(now, then, 5).tolist()
            for here, there in pairwise(edges):
                level = torch.full((len(z),), here, device=device)
                end = end + (there - here) * predict(trainee.experts[expert], end, y, level, text)
        lora.set_strength(1.0)
        v = predict(trainee.experts[expert], begin, y, torch.full((len(z),), now, device=device), text)
    loss = weighted((v - (end - begin) / (then - now)).square(), where).mean()
    return loss, {f"v {expert}": loss.item()}
