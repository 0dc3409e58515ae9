"""The stage `loras`: each LoRA by itself, from the experts as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from adapters import ROLL, distill_step, recycling_step, roll
from batches import COUNT, Trainee
from lora import Lora, write_lora
from optim import Muon
from options import Options, averaged, load_averages, load_segments
from recycle import Chains, Recycling
from restore import Applied
from runs import Run
from samples import DEPTH

NONE = Recycling(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Plan:
    """How one LoRA is trained: kind of batch, segments, experts, rank, steps, recycling, key format; `beside`: the LoRA
    that is on and fixed, with batches of its own, in every other step; `cuts`: every CUTS-th step of the low-noise
    expert is on segments with a cut, which it would smooth otherwise; `strength`: what it is written with, so that it
    does at strength 1 what it was trained for."""

    kind: str
    segments: str
    experts: tuple[str, ...]
    rank: int
    steps: int
    recycling: Recycling = NONE
    official: bool = True
    anchored: bool = True
    rate: float = 1.5e-2
    beside: str = ""
    cuts: bool = False
    strength: float = 1.0


CUTS = 6
BOTH = ("high", "low")
PLANS = {
    "svi-2.0-pro": Plan("svi-2.0-pro", "pro", BOTH, 20, 30_000, Recycling(), cuts=True),
    "hard-cut": Plan("hard-cut", "cut", ("high",), 6, 5550, official=False, beside="svi-2.0-pro", strength=1.4),
    "svi-2.0-wan22": Plan("svi-2.0-wan22", "svi20", BOTH, 4, 4400, Recycling(motion=0.4)),
    "distill": Plan("distill", "plain", BOTH, 3, 940, official=False),
}
"""What is shipped, in the order of training."""
SHORT = 600
ABLATIONS = {
    "pro-short": Plan("svi-2.0-pro", "pro", BOTH, 20, SHORT, Recycling()),
    "pro-layout-only": Plan("svi-2.0-pro", "pro", BOTH, 20, SHORT),
    "pro-no-anchor": Plan("svi-2.0-pro", "pro", BOTH, 20, SHORT, Recycling(), anchored=False),
}
"""What each part of Pro's training is worth: a few steps of it, and step for step the same without recycling, or
without an anchor."""


def load_chains(options: Options) -> Chains:
    """Chains that nothing of has been rendered; ValueError where there are too few to be rendered together."""
    chains = Chains(load_segments(options, "link"))
    if (found := len(chains.segments)) < COUNT * DEPTH:
        said = f"expected {COUNT} chains of {DEPTH} segments or more, found {found} segments"
        command = f"train.py latents --kinds link --count {COUNT * DEPTH}"
        raise ValueError(f"{options.out / 'latents'}: {said}; run `{command}`")
    return chains


def train_lora(options: Options, name: str, plan: Plan) -> None:
    """Train one LoRA and write its files to `DIR/loras`."""
    learner = averaged(options, load_averages(options, "experts", {n: n for n in ("high", "low", "text")}))
    experts = {n: learner.networks[n] for n in BOTH}
    loras = {e: Lora(experts[e], plan.rank, seed=20 + i).to(options.device) for i, e in enumerate(plan.experts)}
    plain, special = load_segments(options, "plain"), load_segments(options, plan.segments)
    trainee = Trainee(experts, loras, learner.prompts, plain, special, plan.recycling, anchored=plan.anchored)
    if plan.kind == "svi-2.0-pro" and plan.recycling != NONE:
        trainee.chains = load_chains(options)
    cutter = replace(trainee, special=load_segments(options, "cut")) if plan.cuts else None
    parameters = [p for lora in loras.values() for p in lora.parameters()]
    optimizer = Muon(parameters, plan.rate)
    steps = options.steps or plan.steps
    run = Run(name, options.out, steps, dict(loras), [optimizer], seed=9, warm=0.03, hold=0.3)

    fixed = {e: [(options.out / "loras" / f"{plan.beside}_{e}.safetensors", 1.0)] for e in plan.experts if plan.beside}

    def step(number: int, progress: float) -> torch.Tensor:
        expert = plan.experts[number % len(plan.experts)]
        if plan.kind == "distill":
            loss, notes = distill_step(trainee, expert, number, options.device)
        elif fixed and number % 2:
            with Applied(experts, fixed):
                loss, notes = recycling_step(trainee, f"{plan.kind}, {plan.beside}", expert, number, options.device)
        elif cutter and expert == "low" and number // len(plan.experts) % CUTS == 0:
            loss, notes = recycling_step(cutter, f"hard-cut, {plan.kind}", expert, number, options.device)
        else:
            loss, notes = recycling_step(trainee, plan.kind, expert, number, options.device)
        run.note(**notes)
        return loss

    def after(number: int) -> None:
        if plan.recycling != NONE and number % ROLL == 0:
            run.note(finished=roll(trainee, plan.kind, number, options.device))

    run.train(step, after)
    for expert, lora in loras.items():
        write_lora(lora, options.out / "loras" / f"{name}_{expert}.safetensors", plan.official, plan.strength)


def train_loras(options: Options) -> None:
    """All that are shipped."""
    _train(options, PLANS)


def train_ablations(options: Options) -> None:
    """What the shipped ones are compared with."""
    _train(options, ABLATIONS)


def _train(options: Options, plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        if name in options.loras or not options.loras:
            train_lora(options, name, plan)
