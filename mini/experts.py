"""Training of the text encoder and of both experts: one network on all noise levels first, which then becomes two."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from errors import even, shown
from flow import BOUNDARY, draw_sigmas, masked, mixed, predict
from latents import Segments, whole
from networks import make_expert, make_text_encoder
from optim import Average, Muon, split
from precision import fast_products
from prompts import NOTHING, Prompts, make_tokenizer
from rollouts import Rollouts
from tokenizer import TRAINED_WORDS, vocabulary

SEEDS = {"all": 2201, "high": 2201, "low": 2202, "text": 2204}
SHORT, LONG = (9, 32), (21, 14)
"""(latents, segments) of one step: the start of a segment, as latents are causal, or a whole one."""
UNPROMPTED = 12
"""Every so many steps nothing is said."""
PAIRS = 0.3
"""Share of segments with two subjects, once there are two experts: a tenth of the world, and the hardest to learn."""
HARD = {" star": 0.25, "small ": 0.15, "camera pans": 0.06, "turns to": 0.06}
"""Words of captions, and the share of segments that are drawn with them, once there are two experts, besides those that
have them anyway: what is drawn worst."""
TRIES = 1000
"""Draws for a segment with such words, after which another one will do: a few segments may have none."""
ANY = 0.36
"""Share of segments of which any latents are given, and not the first one alone."""
OWN = {"high": 3, "low": 5}
"""Segments of a step, once there are two experts, whose noisy latents are those of a rendering of theirs."""
FINE = 0.6
"""Noise level below which these weigh less: what is wrong with a rendering stays while the noise goes, so that all the
more would be left to the velocity."""
PLAIN = ("shared", "patch_embedding", "proj_out", "relative_attention_bias", "time_proj", "scale_shift")
"""Parameters that AdamW trains although they are matrices."""


@dataclass
class Learner:
    """Networks by name with the optimizers, averages and prompts that belong to them."""

    networks: dict[str, Any]
    prompts: Prompts
    averages: dict[str, Average]

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {**self.networks, **{f"average {n}": Averaged(a) for n, a in self.averages.items()}}

    def optimizers(self, rate: float, rest: float) -> list[torch.optim.Optimizer]:
        """Muon and AdamW over all of them."""
        named = [(f"{n}.{k}", p) for n, m in self.networks.items() for k, p in m.named_parameters()]
        matrices, others = split(named, PLAIN)
        return [Muon(matrices, rate, decay=0.01), torch.optim.AdamW(others, rest, (0.9, 0.98), weight_decay=0.0)]

    def update(self, step: int) -> None:
        """Move the averages."""
        for name, average in self.averages.items():
            average.update(self.networks[name], step)


class Averaged:
    """A module's running average as a part of a checkpoint."""

    def __init__(self, average: Average) -> None:
        self.average = average

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averaged values."""
        return self.average.values

    def load_state_dict(self, values: dict[str, torch.Tensor]) -> None:
        """Take the values of a checkpoint."""
        for name, value in values.items():
            self.average.values[name].copy_(value)


def make_learner(names: tuple[str, ...], tokenizer_folder: Any, device: str, decay: float) -> Learner:
    """The text encoder and the experts `names`, as they begin."""
    networks = {name: make_expert(SEEDS[name]).to(device) for name in names}
    networks["text"] = make_text_encoder(len(vocabulary(TRAINED_WORDS)), SEEDS["text"]).to(device)
    prompts = Prompts(make_tokenizer(tokenizer_folder), networks["text"])
    return Learner(networks, prompts, {name: Average(module, decay) for name, module in networks.items()})


def wanted(expert: str, rng: random.Random) -> tuple[str, ...]:
    """Words that the caption of a segment for `expert` has to have."""
    if expert == "all":
        return ()
    words = rng.choices([*HARD, ""], [*HARD.values(), 1 - sum(HARD.values())])
    return (*words, " and a ") if rng.random() < PAIRS else (*words,)


def choose(segments: Segments, expert: str, count: int, rng: random.Random) -> list[int]:
    """Segments for `expert`, more of what is hard to draw. A video with a cut is seen below the boundary only: what is
    shown is decided at high noise, so that the hard-cut LoRA has something to change there. Captions that are not
    followed are seen by both, so that the low-noise expert finishes a cut that it finds and makes none because it is
    told to."""
    able = [index for index, kind in enumerate(segments.kinds) if (expert, kind) != ("high", "cut")]
    chosen: list[int] = []
    for _ in range(count):
        words, index = wanted(expert, rng), rng.choice(able)
        for _ in range(TRIES):
            if all(word in segments.captions[index] for word in words):
                break
            index = rng.choice(able)
        chosen.append(index)
    return chosen


def levels(segments: Segments, chosen: list[int], expert: str) -> torch.Tensor:
    """A noise level per segment, in the expert's range; one network for all of them keeps to what `choose` says."""
    sigmas = draw_sigmas(len(chosen), expert)
    if expert == "all":
        for row, index in enumerate(chosen):
            if segments.kinds[index] == "cut":
                sigmas[row] = draw_sigmas(1, "low")
    return sigmas


def slots(latents: int, rng: random.Random) -> list[int]:
    """Which of a segment's `latents` are given: its first two or three, the first and the last, one near the head, or
    any."""
    kind = rng.random()
    if kind < 0.5:
        return list(range(rng.choice((2, 2, 3))))
    if kind < 0.65:
        return [0, latents - 1]
    if kind < 0.85:
        return [rng.choice((1, 1, 2))]
    return rng.sample(range(latents), rng.choice((1, 2, 3)))


def any_given(z: torch.Tensor, y: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Image latents behind their mask [B, 20, T, h, w] of clean z and plain I2V's y [B, 16, T, h, w]; a share ANY of
    rows has other latents given and marked.

    Wan's I2V has learned that too: to go on with a video, to end where a frame is, to fill in what is between frames
    (Wan, arXiv 2503.20314). What is given in the second slot and not in the first is what SVI 2.0 Pro builds on."""
    shown = masked(y)
    for row in rng.sample(range(len(z)), round(ANY * len(z))):
        given = slots(z.shape[2], rng)
        if 0 not in given:
            shown[row] = 0.0
        elif rng.random() < 0.5:  # zero latents as SVI pads, or grey frames as plain I2V
            shown[row, 4:, 1:] = 0.0
        shown[row][:4, given] = 1.0
        later = [slot for slot in given if slot]
        shown[row][4:, later] = z[row][:, later]
    return shown


def training_step(
    learner: Learner,
    segments: Segments,
    expert: str,
    number: int,
    size: tuple[int, int],
    device: str,
    rollouts: Rollouts | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """One step of plain I2V for one expert; of `rollouts`, of the same segments, OWN come in their place."""
    latents, count = size
    rng = random.Random(number)
    own = rollouts.draw(expert, OWN[expert], rng) if rollouts is not None else []
    fresh = count - len(own)
    chosen = choose(segments, expert, fresh, rng)
    sigma = torch.cat([levels(segments, chosen, expert), torch.tensor([one.sigma for one in own])]).to(device)
    tensors, captions = segments.batch(chosen + [one.index for one in own])
    if number % UNPROMPTED == UNPROMPTED - 1:
        captions = [rng.choices(NOTHING, (2, 2, 1))[0]] * count
    z, where, y = (whole(tensors[name], latents) for name in ("z", "where", "y"))
    y = torch.cat([any_given(z[:fresh], y[:fresh], rng), masked(y[fresh:])])
    x = mixed(z, torch.randn_like(z), sigma)
    for row, one in enumerate(own, fresh):
        x[row] = one.x[:, :latents]
    with fast_products(device):
        v = predict(learner.networks[expert], x, y, sigma, learner.prompts(captions))
        errors = shown(v - (x - z) / sigma[:, None, None, None, None], even(where, z))
    errors[fresh:] *= (sigma[fresh:] / FINE).square().clamp(max=1)
    high = (sigma >= BOUNDARY)[:fresh]
    parts = {"v high": errors[:fresh][high], "v low": errors[:fresh][~high], "v own": errors[fresh:]}
    return errors.mean(), {name: float(part.mean().detach()) for name, part in parts.items() if len(part)}


@torch.no_grad()
def held_out_loss(
    experts: Mapping[str, Any], prompts: Prompts, segments: Segments, device: str, count: int = 28
) -> dict[str, float]:
    """Velocity error on held-out whole segments at fixed noise levels."""
    found = {}
    generator = torch.Generator().manual_seed(3)
    indices = [i for i in range(len(segments)) if segments.kinds[i] == "plain"][:count]
    tensors, captions = segments.batch(indices)
    y = masked(whole(tensors["y"], tensors["z"].shape[2]))
    noise = torch.randn(tensors["z"].shape, generator=generator).to(device)
    for level in (0.3, 0.6, 0.8, 0.95, 0.995):
        sigma = torch.full((len(indices),), level, device=device)
        with fast_products(device):
            model = experts["high" if level >= BOUNDARY else "low"]
            v = predict(model, mixed(tensors["z"], noise, sigma), y, sigma, prompts(captions))
        found[f"held out {level}"] = float((v - (noise - tensors["z"])).square().mean())
    return found
