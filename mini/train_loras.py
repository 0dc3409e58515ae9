"""The stage `loras`: each LoRA by itself, from the experts as they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

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
    expert is on segments with a cut, which it would smooth otherwise; `mean`: the LoRA that is written is the mean of
    what it was so many steps before the end and of what it is there, neither of which goes astray where the other does;
    `strength`: what it is written with, so that it does at strength 1 what it was trained for."""

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
    mean: int = 0
    strength: float = 1.0


CUTS = 6
BOTH = ("high", "low")
PLANS = {
    "svi-2.0-pro": Plan("svi-2.0-pro", "pro", BOTH, 20, 23_600, Recycling(), cuts=True, mean=1400),
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


@dataclass
class Earlier:
    """What LoRAs were at an earlier step, by expert: a part of a run's checkpoint."""

    step: int = 0
    values: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def keep(self, loras: dict[str, Lora], step: int) -> None:
        """Keep what they are now."""
        self.step = step
        self.values = {e: {n: p.detach().clone() for n, p in lora.named_parameters()} for e, lora in loras.items()}

    @torch.no_grad()
    def mix(self, loras: dict[str, Lora]) -> None:
        """Make them the mean of what they are and of what was kept, if anything was."""
        for expert, values in self.values.items():
            for name, parameter in loras[expert].named_parameters():
                parameter.lerp_(values[name].to(parameter), 0.5)

    def state_dict(self) -> dict[str, Any]:
        """Both, as `torch.save` takes them."""
        return {"step": self.step, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        self.step, self.values = state["step"], state["values"]


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
    earlier = Earlier()
    parts: dict[str, Any] = {**loras, "earlier": earlier} if plan.mean else dict(loras)
    run = Run(name, options.out, options.steps or plan.steps, parts, [optimizer], seed=9, warm=0.03, hold=0.3)

    fixed = {e: [(options.out / "loras" / f"{plan.beside}_{e}.safetensors", 1.0)] for e in plan.experts if plan.beside}

    def step(number: int, progress: float) -> torch.Tensor:
        if plan.mean and earlier.step < run.steps - plan.mean <= number:
            earlier.keep(loras, number)
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
    earlier.mix(loras)
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
