"""Where a run is and what it is made of: what all stages share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from experts import Learner, held_out_loss, make_learner
from latents import Encoder, Segments
from optim import Average
from score import held_out, render, score

HEIGHT, WIDTH = 64, 64


@dataclass(frozen=True)
class Options:
    """The folder of the run, the device, and what stands in the place of the stages' own numbers."""

    out: Path
    device: str
    steps: int | None
    count: int | None
    base: int
    kinds: tuple[str, ...] = ()
    workers: int = 1
    threads: int = 1
    loras: tuple[str, ...] = ()


def load_vae(options: Options) -> Any:
    """The settled VAE."""
    return AutoencoderKLWan.from_pretrained(options.out / "vae").eval().requires_grad_(False).to(options.device)


def load_segments(options: Options, *kinds: str) -> Segments:
    """All segments of some kinds that are there; ValueError where one has none."""
    folder = options.out / "latents"
    for kind in kinds:
        if not any(folder.glob(f"{kind}-*.safetensors")):
            said = f"expected {kind}-*.safetensors, found none; run `train.py latents --kinds {kind}`"
            raise ValueError(f"{folder}: {said}")
    return Segments(folder, *kinds, device=options.device)


def load_averages(options: Options, stage: str, names: dict[str, str]) -> dict[str, Average]:
    """Averages out of a stage's checkpoint: `names` says what each is called there."""
    state = torch.load(options.out / f"{stage}.pt", map_location=options.device, weights_only=True)
    found = {}
    for name, there in names.items():
        found[name] = Average(torch.nn.Module(), 0.0)
        found[name].values = state[f"average {there}"]
    return found


def averaged(options: Options, averages: dict[str, Average]) -> Learner:
    """A learner whose networks are the averages."""
    learner = make_learner(tuple(n for n in averages if n != "text"), options.out / "tokenizer", options.device, 0.0)
    for name, average in averages.items():
        average.copy_to(learner.networks[name].eval().requires_grad_(False))
    return learner


def scored(options: Options, learner: Learner, held: Segments, count: int = 24) -> dict[str, float]:
    """Velocity errors on held-out segments, and what a detector says of `count` rendered ones; where there is one
    expert for all levels it stands for both."""
    networks = learner.networks
    experts = {name: networks.get(name, networks.get("all")) for name in ("high", "low")}
    found = held_out_loss(experts, learner.prompts, held, options.device)
    samples = held_out(count, WIDTH / HEIGHT)
    with torch.no_grad():
        videos = render(experts, learner.prompts, Encoder(load_vae(options), HEIGHT, WIDTH), samples, steps=8)
    return {**found, **score(videos, samples, HEIGHT, WIDTH)}


def log(options: Options, stage: str, values: dict[str, Any]) -> None:
    """A line in the log of a stage that has no steps."""
    line = json.dumps({"stage": stage, **{k: round(v, 4) for k, v in values.items()}})
    print(line, flush=True)
    with (options.out / "log.jsonl").open("a") as file:
        file.write(line + "\n")
