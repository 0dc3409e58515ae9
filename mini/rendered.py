"""What the experts make of segments whose truth is known, for the decoder to learn from: the stage `renders`.

The encoder's latents are not what the experts make, and what is wrong with those is not noise: a background is a little
too light in one latent and not in the next, which a viewer sees as flicker, and most of all where two segments meet. A
rendering that begins from the truth, at a noise level of the low-noise expert, has the same mistakes with everything
still in its place, so that a decoder which learns to put them right is not taught to move subjects.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from clips import corner, pixels_and_mask, square
from flow import euler_levels, mixed, sample
from latents import SHARD, Segments, whole
from options import HEIGHT, WIDTH, Options, averaged, load_averages
from restore import Applied
from safetensors.torch import load_file, save_file
from samples import FIRST_SEEDS, draw_joint, draw_sample
from world import Scene

from svid.wan.prompts import NEGATIVE_ZH

LORA = "svi-2.0-pro"
"""On the experts for segments of kind `pro`."""
STEPS, BEGINS = 8, (3, 3, 4, 4, 4, 5, 5, 5, 6, 6)
"""A batch goes through the last of so many steps, from one of these on; all of them are the low-noise expert's."""
AT_ONCE = 12
SHARDS = {"plain": 2, "pro": 3}
"""Shards of encoded segments that are rendered."""
TIMES = 2
"""Renderings of each segment: those of one truth are joined as two segments are."""
SHAPES = ((9, 4, 0), (17, 2, 0), (33, 2, 0), (9, 12, 32), (17, 7, 32), (81, 1, 0))
"""(frames, segments, crop or whole frames) of one step in turn, from the first frame on."""

FRAMES: dict[str, Callable[[int, float], list[Scene]]] = {
    "plain": lambda seed, aspect: draw_sample(seed, aspect).frames,
    "pro": lambda seed, aspect: draw_joint(seed, aspect).frames,
}
"""What segments of a kind show."""


def condition_of(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The image latents [B, 16, T, h, w] of encoded segments: as SVI 2.0 Pro has them, or plain I2V."""
    z = tensors["z"]
    if "y" in tensors:
        return whole(tensors["y"], z.shape[2])
    condition = torch.zeros_like(z)
    condition[:, :, :1], condition[:, :, 1:2] = tensors["anchor"], tensors["motion"]
    return condition


@torch.no_grad()
def rerendered(
    experts: dict[str, Any], prompts: Any, tensors: dict[str, torch.Tensor], captions: list[str], seed: int
) -> torch.Tensor:
    """Latents [B, 16, T, h, w] rendered from the truth at one of the levels BEGINS."""
    z = tensors["z"]
    begin = random.Random(seed).choice(BEGINS)
    level = torch.full((len(z),), float(euler_levels(STEPS)[begin]), device=z.device)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed)).to(z)
    text, unsaid = prompts(captions), prompts([NEGATIVE_ZH] * len(z))
    return sample(experts, mixed(z, noise, level), condition_of(tensors), text, STEPS, unsaid=unsaid, begin=begin)


def render_shard(options: Options, experts: dict[str, Any], prompts: Any, kind: str, shard: str) -> dict[str, Any]:
    """A shard of encoded segments [n], rendered: `made` [n, TIMES, 16, T, h, w] and `z` [n, 16, T, h, w] in fp16,
    `pixels` [n, 3, F, H, W] and `mask` [n, F, H, W] in 8 bits."""
    segments = Segments(options.out / "latents", kind, device=options.device, shard=shard)
    seed = FIRST_SEEDS[kind] + int(shard) * SHARD
    made = []
    for time in range(TIMES):
        parts = []
        for start in range(0, len(segments), AT_ONCE):
            tensors, captions = segments.batch(list(range(start, min(start + AT_ONCE, len(segments)))))
            parts.append(rerendered(experts, prompts, tensors, captions, time * 10**8 + seed + start).half().cpu())
        made.append(torch.cat(parts))
    drawn = [pixels_and_mask(FRAMES[kind](seed + i, WIDTH / HEIGHT), HEIGHT, WIDTH) for i in range(len(segments))]
    return {
        "made": torch.stack(made, 1),
        "z": segments.tensors["z"].cpu(),
        "pixels": torch.stack([((pixels + 1) * 127.5).round().to(torch.uint8) for pixels, _ in drawn]),
        "mask": torch.stack([(mask * 255).round().to(torch.uint8) for _, mask in drawn]),
    }


def write_rendered(options: Options) -> None:
    """Render the first SHARDS of each kind, or what of them is not there yet, to `DIR/rendered`."""
    learner = averaged(options, load_averages(options, "experts", {n: n for n in ("high", "low", "text")}))
    experts = {name: learner.networks[name] for name in ("high", "low")}
    pro = {name: [(options.out / "loras" / f"{LORA}_{name}.safetensors", 1.0)] for name in experts}
    folder = options.out / "rendered"
    folder.mkdir(exist_ok=True)
    for kind, count in SHARDS.items():
        with Applied(experts, pro if kind == "pro" else {}):
            for encoded in sorted((options.out / "latents").glob(f"{kind}-[0-9]*.safetensors"))[:count]:
                path = folder / encoded.name
                if not path.exists():
                    shard = encoded.stem.removeprefix(f"{kind}-")
                    save_file(render_shard(options, experts, learner.prompts, kind, shard), path.with_suffix(".tmp"))
                    path.with_suffix(".tmp").replace(path)


class Rendered:
    """All that `write_rendered` wrote, in memory: 1.5 MB a segment."""

    def __init__(self, options: Options, vae: Any) -> None:
        files = [load_file(path) for path in sorted((options.out / "rendered").glob("*.safetensors"))]
        if not files:
            raise ValueError(f"{options.out / 'rendered'}: expected renderings, found none; run `train.py renders`")
        self.tensors = {name: torch.cat([file[name] for file in files]) for name in files[0]}
        self.mean = torch.tensor(vae.config.latents_mean)[:, None, None, None]
        self.std = torch.tensor(vae.config.latents_std)[:, None, None, None]
        self.device = options.device

    def batch(self, seed: int, frames: int, count: int, crop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(raw latents [B, 16, T, h, w], pixels [B, 3, n, H, W] in [-1, 1], masks [B, n, H, W]) of the first frames of
        `count` segments, cut to squares of `crop` pixels unless 0."""
        rng = random.Random(seed)
        rows = [self._one(rng, frames, crop) for _ in range(count)]
        latents, pixels, masks = (torch.stack(parts).to(self.device) for parts in zip(*rows, strict=True))
        return latents, pixels, masks

    def _one(self, rng: random.Random, frames: int, crop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index, latents = rng.randrange(len(self.tensors["z"])), (frames - 1) // 4 + 1
        true = self.tensors["z"][index, :, :latents].float()
        wrong = self.tensors["made"][index, :, :, :latents].float() - true
        first, then = rng.sample(range(TIMES), 2)
        z = true + rng.uniform(0.5, 1.1) * wrong[first]
        if rng.random() < 0.5:  # what another rendering goes on with, as at a seam
            at = rng.randrange(2, latents)
            z[:, at:] = (true + rng.uniform(0.5, 1.1) * wrong[then])[:, at:]
        pixels = self.tensors["pixels"][index, :, :frames].float() / 127.5 - 1
        mask = self.tensors["mask"][index, :frames].float() / 255
        if crop:
            top, left = corner(F.max_pool2d(mask, 8), crop // 8, rng)
            z = square(z, top, left, crop // 8)
            pixels, mask = square(pixels, 8 * top, 8 * left, crop), square(mask, 8 * top, 8 * left, crop)
        return z * self.std + self.mean, pixels, mask
