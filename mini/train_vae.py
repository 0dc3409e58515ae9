"""The stages `vae`, `decoder` and `finish`: the whole VAE, and its decoder while all latents stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from autoencoder import decoder_loss, evaluate, loss_of, make_vae, reconstruction
from clips import CUTS, EARLY, LATE, batch
from experts import Averaged
from optim import Average, Muon, split
from options import HEIGHT, WIDTH, Options, load_vae, log
from precision import fast_products
from rendered import SHAPES, Rendered
from runs import Run


@dataclass(frozen=True)
class Course:
    """How a stage trains: steps, the rates of Muon and AdamW and how long they stay, the decay of the average, the
    share of clips with a hard cut, the seed."""

    steps: int
    rate: float
    rest: float
    hold: float
    decay: float
    cuts: float
    seed: int


COURSES = {
    "vae": Course(7900, 3e-3, 2e-3, 0.4, 0.998, CUTS, 1),
    "decoder": Course(2500, 2e-3, 1.4e-3, 0.1, 0.998, 0.6, 4),
    "finish": Course(1500, 1.5e-3, 1e-3, 0.3, 0.995, 0.4, 15),
}
STILL = 0.5
"""What a change from frame to frame that is not the truth's counts beside the mean error, in `finish`."""
SHARE = 0.75
"""How far `DIR/vae` goes from the decoder that was to the one that `finish` ends with."""
Step = Callable[[int, float], tuple[torch.Tensor, dict[str, float]]]


def clips(options: Options, course: Course, number: int, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Clips of a shape, drawn for a step."""
    return batch(course.seed * 1_000_000 + number, *shape, HEIGHT, WIDTH, options.device, course.cuts)


def fit_vae(options: Options, stage: str, vae: Any, trained: list[tuple[str, Any]], step_of: Step) -> Any:
    """Train the parameters `trained` of a VAE; returns a VAE with their average."""
    course = COURSES[stage]
    matrices, others = split(trained)
    optimizers = [Muon(matrices, course.rate), torch.optim.AdamW(others, course.rest, (0.9, 0.95), weight_decay=0.0)]
    average, shadow = Average(vae, course.decay), copy.deepcopy(vae)
    parts = {"model": vae, "average": Averaged(average)}
    run = Run(stage, options.out, options.steps or course.steps, parts, optimizers, course.seed, hold=course.hold)

    def step(number: int, progress: float) -> torch.Tensor:
        loss, notes = step_of(number, progress)
        run.note(**notes)
        return loss

    def check() -> dict[str, float]:
        average.copy_to(shadow)
        return evaluate(shadow, 12, 33, HEIGHT, WIDTH, bf16=True)

    run.train(step, lambda number: average.update(vae, number), check)
    average.copy_to(shadow)
    return shadow


def train_vae(options: Options) -> None:
    """The whole VAE."""
    vae, course = make_vae(options.base).to(options.device), COURSES["vae"]

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        shapes = EARLY if progress < 0.5 else LATE
        drawn = clips(options, course, number, shapes[number % len(shapes)])
        with fast_products(options.device):
            return loss_of(vae, *drawn)

    fit_vae(options, "vae", vae, list(vae.named_parameters()), step)


def train_decoder(options: Options) -> None:
    """The decoder again, most of all on hard cuts; `DIR/vae` gets the better decoder."""
    vae, course = load_vae(options), COURSES["decoder"]

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        drawn = clips(options, course, number, LATE[number % len(LATE)])
        with fast_products(options.device):
            return decoder_loss(vae, *drawn)

    _fit_decoder(options, "decoder", vae, step)


def train_finish(options: Options) -> None:
    """The decoder once more, in two steps of three on what the experts render; `DIR/vae` goes SHARE of the way."""
    vae, course = load_vae(options), COURSES["finish"]
    renders = Rendered(options, vae)

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        if number % 3 == 2:
            drawn = clips(options, course, number, LATE[number // 3 % len(LATE)])
            with fast_products(options.device):
                loss, notes = decoder_loss(vae, *drawn, STILL)
            return loss, {f"clean {name}": value for name, value in notes.items()}
        made = renders.batch(number, *SHAPES[(number - number // 3) % len(SHAPES)])
        with fast_products(options.device):
            loss, absolute, square = reconstruction(vae, *made, STILL)
        return loss, {"l1": absolute.item(), "mse": square.item()}

    _fit_decoder(options, "finish", vae, step, SHARE)


def _fit_decoder(options: Options, stage: str, vae: Any, step: Step, share: float = 1.0) -> None:
    before = copy.deepcopy(vae)
    trained = [(n, p) for n, p in vae.named_parameters() if n.startswith(("decoder", "post_quant_conv"))]
    for _, parameter in trained:
        parameter.requires_grad_(True)
    better = fit_vae(options, stage, vae, trained, step)
    with torch.no_grad():
        for old, new in zip(before.parameters(), better.parameters(), strict=True):
            new.copy_(old.lerp(new, share))
    better.save_pretrained(options.out / "vae")
    log(options, stage, evaluate(better, 16, 81, HEIGHT, WIDTH))
