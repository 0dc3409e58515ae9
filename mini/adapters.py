"""Training of the LoRAs: SVI 2.0 Pro and SVI 2.0 by error recycling, the hard cut, the distilled steps.

The experts and the text encoder are fixed. High and low are two LoRAs that never see each other's noise levels; they
are trained in turn and share one bank of errors, as a chain hands over what both of them made.
"""

from __future__ import annotations

import random
from itertools import pairwise

import torch
from batches import BATCHES, COUNT, OWN, Reached, Trainee, first_segments, joined
from errors import shown, weighted
from experts import FINE
from flow import BOUNDARY, draw_sigmas, euler_levels, masked, mixed, predict, sample
from precision import fast_products
from prompts import NOTHING
from recycle import FINISHED, recycled_target, worn_latents

from svid.wan.prompts import NEGATIVE_ZH

MASS = 5.0
"""Weight of a subject as a whole: one that comes out a little larger or smaller in every segment is what a chain drifts
by, and weighs little position by position."""
ROLL = 12
"""A batch is rendered to the end every so many steps, and its errors are banked."""
BEGUN = 4
"""First segments of a batch that is rendered for Pro, beside the next ones of chains. What single steps do well a
rendering may still lose, and what the first segment loses no later one has."""


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
    fine = torch.ones_like(sigma)
    reached = trainee.reached[expert]
    for row in rng.sample(range(len(z)), OWN) if reached else ():
        own = reached[rng.randrange(len(reached))]
        for rows, value in ((x, own.x), (z, own.z), (where, own.where), (condition, own.condition)):
            rows[row] = value
        captions[row], sigma[row] = own.caption, own.sigma
        target[row] = (x[row] - z[row]) / own.sigma
        fine[row] = min(own.sigma / FINE, 1.0) ** 2
    with fast_products(device):
        v = predict(trainee.experts[expert], x, masked(condition), sigma, trainee.text(captions))
        errors = shown(v - target, where, MASS) * fine
    found = x - sigma[:, None, None, None, None] * v.detach()
    for row in range(0, len(z), 3):
        trainee.bank.add(float(sigma[row]), (found - z)[row : row + 1])
    return errors.mean(), {f"v {expert}": float(errors.detach().mean())}


@torch.no_grad()
def roll(trainee: Trainee, kind: str, number: int, device: str) -> float:
    """Render a batch to the end as a chain would, or the next segments of chains, and bank how far from the truth that
    is, and what every level but the first began from; returns the spread."""
    rng = random.Random(number)
    links: list[int] = []
    if trainee.chains is None:
        z, where, condition, captions = BATCHES[kind](trainee, rng)
        aim = z
    else:
        links = trainee.chains.advance(COUNT - BEGUN, rng)
        tensors, captions = trainee.chains.segments.batch(links)
        handed = trainee.chains.handed(links, tensors["motion"], [1.0] * len(links))
        begun, begun_where, begun_condition, more = first_segments(trainee, rng, BEGUN)
        rows = zip(joined(tensors, handed, trainee.anchored), (begun, begun_where, begun_condition), strict=True)
        aim, where, condition = (torch.cat(both) for both in rows)
        z, captions = torch.cat([tensors["z"], begun]), captions + more

    def keep(sigma: float, x: torch.Tensor) -> None:
        if sigma < 1:
            found = trainee.reached["high" if sigma >= BOUNDARY else "low"]
            rows = zip(x, aim, where, condition, captions, strict=True)
            found.extend(Reached(one, sigma, *rest) for one, *rest in rows)

    unsaid, text = trainee.text([NEGATIVE_ZH] * len(z)), trainee.text(captions)
    made = sample(trainee.experts, torch.randn_like(z), condition, text, 8, keep, unsaid=unsaid)
    trainee.bank.add(FINISHED, made - z)
    if trainee.chains is not None:
        trainee.chains.keep(links, (made - z)[: len(links), :, -1:])
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
