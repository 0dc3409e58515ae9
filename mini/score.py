"""How good the experts are: video rendered for held-out captions, against what the world says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from autoencoder import psnr
from clips import HELD_OUT
from detect import judge
from draw import draw
from flow import sample
from latents import Encoder, whole
from parallel import decode
from precision import fast_products
from samples import Sample, draw_sample
from shapes import shape_kept
from swift import Text
from world import SEGMENT

from svid.wan.prompts import NEGATIVE_ZH

SCORED = HELD_OUT + 500_000
"""Seeds from which segments are drawn to be scored."""


@torch.no_grad()
def pixels_of(vae: Any, z: torch.Tensor) -> torch.Tensor:
    """Normalized latents [B, 16, T, h, w] to what a viewer gets: [B, n, H, W, 3] in steps of 1/255."""
    mean = torch.tensor(vae.config.latents_mean, device=z.device)[:, None, None, None]
    std = torch.tensor(vae.config.latents_std, device=z.device)[:, None, None, None]
    videos = []
    for one in z:
        with fast_products(z.device.type):
            video = decode(vae, (one * std + mean)[None])[0]
        videos.append(((video.float() + 1) * 127.5).clamp(0, 255).floor().permute(1, 2, 3, 0) / 255)
    return torch.stack(videos)


def held_out(count: int, aspect: float, first: int = SCORED) -> list[Sample]:
    """Plain segments that training never sees."""
    return [draw_sample(first + i, aspect, "plain") for i in range(count)]


@torch.no_grad()
def render(
    experts: Mapping[str, Any], prompts: Any, encoder: Encoder, samples: list[Sample], steps: int, seed: int = 5
) -> torch.Tensor:
    """Videos [B, 81, H, W, 3] from the first frames and the captions of `samples`."""
    firsts = [encoder.padded(encoder.pixels(s.frames[:1]), 0.0) for s in samples]
    condition = whole(torch.stack(firsts).float().to(encoder.device), (SEGMENT - 1) // 4 + 1)
    noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(seed)).to(encoder.device)
    text: Text = prompts([s.caption for s in samples])
    unsaid = prompts([NEGATIVE_ZH] * len(samples))
    return pixels_of(encoder.vae, sample(experts, noise, condition, text, steps, unsaid=unsaid))


def score(videos: torch.Tensor, samples: list[Sample], height: int, width: int) -> dict[str, float]:
    """Share of subjects that are there at the end in the right colour, share that is kept in the right size and place
    as well, share that went the right way, share that has its own shape and no other, and PSNR."""
    present: list[bool] = []
    kept: list[bool] = []
    ways: list[bool] = []
    shapes: list[bool] = []
    error = 0.0
    for video, one in zip(videos.cpu(), samples, strict=True):
        truth = draw(one.frames, height, width)
        error += float((video - truth).square().mean()) / len(samples)
        for index in range(len(one.frames[0].subjects)):
            verdict = judge(video, one.frames, index)
            if verdict.present is not None and verdict.kept is not None:
                present.append(verdict.present)
                kept.append(verdict.kept)
            if verdict.direction is not None:
                ways.append(verdict.direction)
            shape = shape_kept(video, one.frames, index)
            if shape is not None:
                shapes.append(shape)
    shares = {"present": present, "kept": kept, "direction": ways, "shape": shapes}
    return {name: sum(some) / max(len(some), 1) for name, some in shares.items()} | {"psnr": psnr(4 * error)}
