"""Train the miniature, stage by stage: `python mini/train.py all --out DIR`, or one stage by name.

    vae       the VAE on clips drawn as it goes
    settle    its average, with latents on Wan's scale, as a folder
    decoder   the decoder alone, most of all on hard cuts, while the latents stay as they are
    latents   segments of every kind, encoded once
    base      one expert for all noise levels, together with the text encoder
    experts   two experts from it, each with its own noise levels
    loras     SVI 2.0 and 2.0 Pro by error recycling, the hard cut, the four steps
    renders   what the experts make of segments whose truth is known
    finish    the decoder alone again, on what experts make
    export    everything in bf16 as the package has it
    ablations what the LoRAs are compared with; not part of `all`

Kill it at any time and run it again: it goes on from its last checkpoint. `DIR/log.jsonl` says what ran on what.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch
from autoencoder import evaluate, make_vae, on_wans_scale, statistics
from clips import HELD_OUT
from experts import LONG, SHORT, make_learner, training_step
from export import export
from latents import SHARD, Encoder, Segments, shard_path, write_shard
from optim import Average
from options import HEIGHT, WIDTH, Options, averaged, load_averages, load_segments, load_vae, log, scored
from rendered import write_rendered
from rollouts import EVERY, Rollouts
from runs import Run
from samples import FIRST_SEEDS
from train_loras import ABLATIONS, PLANS, train_ablations, train_loras
from train_vae import train_decoder, train_finish, train_vae

COUNTS = {"plain": 8960, "later": 4480, "pro": 3072, "link": 1280, "svi20": 512, "cut": 384}
STEPS = {"base": 9400, "experts": 31_950}


def settle(options: Options) -> None:
    """Write the averaged VAE with latents of Wan's statistics to `DIR/vae`, and how good it is."""
    state = torch.load(options.out / "vae.pt", map_location="cpu", weights_only=True)
    vae = make_vae(options.base)
    average = Average(vae, 0.0)
    average.values = state["average"]
    average.copy_to(vae)
    on_wans_scale(vae, *statistics(vae, 24, 81, HEIGHT, WIDTH))
    vae.save_pretrained(options.out / "vae")
    log(options, "settle", evaluate(vae, 16, 81, HEIGHT, WIDTH))


@cache
def encoder_of(options: Options) -> Encoder:
    """The settled VAE's encoder, loaded once by every process."""
    return Encoder(load_vae(options), HEIGHT, WIDTH)


def encode_shard(options: Options, folder: Path, kind: str, shard: int, seed: int) -> None:
    """Encode some segments of a kind, in whatever process this is."""
    torch.set_num_threads(options.threads if options.workers == 1 else 1)
    write_shard(encoder_of(options), folder, kind, shard, seed)


def write_latents(options: Options) -> None:
    """Encode the segments that the experts and the LoRAs learn from, and some to hold out; shard by shard, by as many
    processes as there are workers, each with a thread."""
    folder = options.out / "latents"
    tasks = [(options, folder / "held", "plain", 0, HELD_OUT)]
    for kind in options.kinds or COUNTS:
        shards = range(-(-(options.count or COUNTS[kind]) // SHARD))
        tasks += [(options, folder, kind, shard, FIRST_SEEDS[kind]) for shard in shards]
    tasks = [task for task in tasks if not shard_path(*task[1:4]).exists()]
    if options.workers == 1 or not tasks:
        for task in tasks:
            encode_shard(*task)
        return
    with get_context("spawn").Pool(options.workers) as pool:
        pool.starmap(encode_shard, tasks, chunksize=1)


def train_experts(options: Options, stage: str) -> None:
    """`base`: one network on every level. `experts`: two that begin as it ended."""
    names = ("all",) if stage == "base" else ("high", "low")
    learner = make_learner(names, options.out / "tokenizer", options.device, 0.997)
    if stage == "experts":
        for name, average in load_averages(options, "base", {"high": "all", "low": "all", "text": "text"}).items():
            average.copy_to(learner.networks[name])
            learner.averages[name] = Average(learner.networks[name], 0.997)
    segments = load_segments(options, "plain", "later")
    held = Segments(options.out / "latents" / "held", "plain", device=options.device)
    rate, rest = (4e-3, 2e-3) if stage == "base" else (1.5e-3, 1e-3)
    steps, hold = options.steps or STEPS[stage], 0.5 if stage == "base" else 0.2
    seed = 2 if stage == "base" else 3
    run = Run(stage, options.out, steps, learner.parts(), learner.optimizers(rate, rest), seed, hold=hold)
    rollouts = Rollouts(segments, learner.prompts) if stage == "experts" else None
    run.log(event="data", segments=len(segments))

    def step(number: int, progress: float) -> torch.Tensor:
        short = (number // len(names)) % 3 < (2 if progress < 0.4 else 1) and stage == "base"
        size = SHORT if short else LONG
        if rollouts is not None and (number % EVERY == 0 or not rollouts.reached):
            rollouts.render(learner.networks, number, options.device)
        expert = names[number % len(names)]
        loss, notes = training_step(learner, segments, expert, number, size, options.device, rollouts)
        run.note(**notes)
        return loss

    def check() -> dict[str, float]:
        return scored(options, averaged(options, learner.averages), held)

    run.train(step, learner.update, check, evaluate_every=600)


STAGES: dict[str, Callable[[Options], None]] = {
    "vae": train_vae,
    "settle": settle,
    "decoder": train_decoder,
    "latents": write_latents,
    "base": lambda options: train_experts(options, "base"),
    "experts": lambda options: train_experts(options, "experts"),
    "loras": train_loras,
    "renders": write_rendered,
    "finish": train_finish,
    "export": export,
    "ablations": train_ablations,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["all", *STAGES])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="in the place of the stage's own number")
    parser.add_argument("--count", type=int, help="segments of each kind, in the place of the stage's own numbers")
    parser.add_argument("--kinds", nargs="+", choices=list(COUNTS), default=[], help="segments of these kinds only")
    parser.add_argument("--loras", nargs="+", choices=[*PLANS, *ABLATIONS], default=[], help="these LoRAs only")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for products; all cores")
    parser.add_argument("--workers", type=int, help="processes that encode segments; one a thread, on a GPU one")
    parser.add_argument("--base", type=int, default=8, help="the VAE's base channels")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    options = Options(
        given.out,
        given.device,
        given.steps,
        given.count,
        given.base,
        tuple(given.kinds),
        given.workers or (given.threads if given.device == "cpu" else 1),
        given.threads,
        tuple(given.loras),
    )
    for name in [n for n in STAGES if n != "ablations"] if given.stage == "all" else [given.stage]:
        STAGES[name](options)


if __name__ == "__main__":
    main()
