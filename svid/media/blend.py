"""Mixing the frames that two segments have in common."""

from __future__ import annotations

import torch


def linear_blend(old: torch.Tensor, new: torch.Tensor, first: int = 0, count: int | None = None) -> torch.Tensor:
    """(1 - a) old + a new for uint8 frames [n, H, W, 3], fp32 in [0, 1]; a = (i + 1) / (count + 1) for frame i.

    `first` is the place of these frames among the `count` of the seam (n unless given). Source: ComfyUI-KJNodes
    @3f20054 nodes/image_nodes.py ImageBatchExtendWithOverlap, mode linear_blend.
    """
    steps = (len(new) if count is None else count) + 1
    alpha = torch.linspace(0, 1, steps + 1)[1 + first : 1 + first + len(new)].view(-1, 1, 1, 1)
    return (1 - alpha) * (old.float() / 255) + alpha * (new.float() / 255)


def as_levels(frames: torch.Tensor) -> torch.Tensor:
    """fp32 in [0, 1] to uint8, rounded: cut off, what is the same in both segments would lose a level at the seam."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8)
