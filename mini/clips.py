"""Clips for the VAE, drawn as they are needed: moving, across cuts and nightfall, or a picture and its padding."""

from __future__ import annotations

import random

import torch
from draw import draw_shot, quantized, shots
from grammar import draw_scene, draw_script
from world import CUT_FRAME, SEGMENT, Scene, advance

HELD_OUT = 1_000_000_000
"""Seeds from here on are never trained on."""
CROP = 32
EARLY = ((1, 16, 0), (5, 12, CROP), (9, 7, CROP), (5, 12, CROP), (17, 4, CROP), (9, 2, 0))
LATE = (
    (5, 12, CROP),
    (9, 7, CROP),
    (17, 4, CROP),
    (9, 2, 0),
    (5, 3, 0),
    (17, 2, 0),
    (1, 12, 0),
    (33, 2, 0),
    (81, 1, CROP),
)
"""(frames, clips, crop or whole frames) of one step in turn, about as many pixels in each. What teaches colours is how
many scenes a step has, so most are small cuts around a subject; whole frames and long clips come later, and not one at
a time where torch would be slow (see parallel.py)."""


CUTS = 0.12
"""Share of clips with a hard cut."""


def scenes_of_clip(rng: random.Random, frames: int, aspect: float, cuts: float = CUTS) -> list[Scene]:
    """`frames` scenes in a row from somewhere in a segment."""
    scene = draw_scene(rng, aspect)
    scene = advance(scene, draw_script(rng, scene), rng.choice((0, SEGMENT - 1)))
    cut = rng.random() < cuts
    script = draw_script(rng, scene, cut=cut)
    start = rng.randrange(SEGMENT - frames + 1)
    if cut:  # in the clip, and between two latents
        start = CUT_FRAME - 1 - 4 * rng.randrange(max((frames - 1) // 4, 1))
    return [advance(scene, script, n) for n in range(start, start + frames)]


def pixels_and_mask(
    scenes: list[Scene], height: int, width: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """[3, n, H, W] in [-1, 1] of 8 bits a value, and where the subjects are, [n, H, W] in [0, 1]."""
    parts = [draw_shot(shot, height, width, device) for shot in shots(scenes)]
    pixels = torch.cat([p for p, _ in parts])
    masks = torch.cat([m.sum(1).clamp(0, 1) for _, m in parts])
    return (quantized(pixels).float() * (2 / 255) - 1).permute(3, 0, 1, 2), masks


def clip(
    seed: int,
    frames: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    pad: float = 0.12,
    cuts: float = CUTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One clip as `pixels_and_mask`. With probability `pad` it is what conditionings are made of: one picture, then
    grey, or copies of another picture of the same scene."""
    rng = random.Random(seed)
    scenes = scenes_of_clip(rng, frames, width / height, cuts)
    pixels, mask = pixels_and_mask(scenes, height, width, device)
    if frames > 1 and rng.random() < pad:
        if rng.random() < 0.5:
            pixels[:, 1:], mask[1:] = 0.0, 0.0
        else:
            pixels[:, 1:], mask[1:] = pixels[:, -1:].clone(), mask[-1:].clone()
    return pixels, mask


def corner(mask: torch.Tensor, size: int, rng: random.Random) -> tuple[int, int]:
    """The upper left corner of a square of `size` somewhere around where the first frame of `mask` [n, H, W] has a
    subject, or anywhere."""
    height, width = mask.shape[1:]
    places = (mask[0] > 0.5).nonzero()
    if len(places):
        row, column = places[rng.randrange(len(places))].tolist()
        top, left = row - rng.randrange(size), column - rng.randrange(size)
    else:
        top, left = rng.randrange(height), rng.randrange(width)
    return max(0, min(height - size, top)), max(0, min(width - size, left))


def square(video: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    """A square cut out of the last two dimensions."""
    return video[..., top : top + size, left : left + size]


def cropped(
    pixels: torch.Tensor, mask: torch.Tensor, size: int, rng: random.Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of `size` pixels around a subject."""
    top, left = corner(mask, size, rng)
    return square(pixels, top, left, size), square(mask, top, left, size)


def batch(
    seed: int,
    frames: int,
    count: int,
    crop: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    cuts: float = CUTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` clips, cut to squares of `crop` pixels unless 0: [B, 3, n, H, W] and [B, n, H, W]."""
    pairs = [clip(seed * 64 + i, frames, height, width, device, cuts=cuts) for i in range(count)]
    if crop:
        rng = random.Random(seed)
        pairs = [cropped(*pair, crop, rng) for pair in pairs]
    return torch.stack([p for p, _ in pairs]), torch.stack([m for _, m in pairs])
