"""What counts as wrong with a velocity: subjects more than background, and a background's colour as a whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F

TINT, FAINT = 30.0, 0.002
"""Weight of the background's colour: a little too light everywhere in a frame is what drift is made of and is seen at
once, but weighs next to nothing position by position."""
SMALL, MOST = 1 / 6, 4.0
"""A subject that takes less than this share of a segment weighs more, up to so many times: a chain that loses a small
one drifts, too, and small ones weigh next to nothing otherwise."""
CONTRAST, CLEARER = 1.7, 2.0
"""How far from its background a subject is in latents, mean square, on average, and how much less or more one may weigh
that is farther or nearer: pink is half as far from any background as blue, and is what a chain loses."""


def weighted(errors: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Square errors [B, 16, T, h, w] to one per segment [B].

    What shows a subject (`where` [B, 1, T, h, w]) weighs up to four times as much as background. Where a caption leaves
    nothing open the best prediction is the same, but subjects are learned earlier."""
    weight = 1 + 3 * where
    mean: torch.Tensor = (weight * errors).mean((1, 2, 3, 4)) / weight.mean((1, 2, 3, 4))
    return mean


def tint(errors: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Whether the background's colour is right, one number per segment [B]: the square of the mean error
    [B, 16, T, h, w] of a latent's background, and of what is above FAINT, as where day and night come, its logarithm.
    `where` as for `weighted`."""
    ground = (1 - where).clamp(min=0)
    mean = (errors * ground).sum((3, 4)) / ground.sum((3, 4)).clamp(min=1)
    found: torch.Tensor = FAINT * torch.log1p(mean.square().mean((1, 2)) / FAINT)
    return found


def mass(errors: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Whether what a latent shows of subjects is right in all, one number per segment [B]: the square of the mean error
    [B, 16, T, h, w] where they are and one position around. `where` as for `weighted`."""
    near = F.max_pool3d((where > 0).to(errors), (1, 3, 3), 1, (0, 1, 1))
    mean = (errors * near).sum((3, 4)) / near.sum((3, 4)).clamp(min=1)
    return mean.square().mean((1, 2))


def shown(errors: torch.Tensor, where: torch.Tensor, whole: float = 0.0) -> torch.Tensor:
    """What is wrong with velocities by their errors [B, 16, T, h, w], one number per segment [B]; `whole`: what `mass`
    weighs."""
    found = weighted(errors.square(), where) + TINT * tint(errors, where)
    return found + whole * mass(errors, where) if whole else found


def even(where: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """`where` [B, 1, T, h, w] with subjects weighing more that are small, or hardly other than their background in the
    latents z [B, 16, T, h, w], so that it may be above 1."""
    share = where.mean((1, 2, 3, 4), keepdim=True)
    ground = 1 - where
    around = (z * ground).sum((3, 4), keepdim=True) / ground.sum((3, 4), keepdim=True).clamp(min=1)
    seen = ((z - around).square().mean(1, keepdim=True) * where).sum((1, 2, 3, 4), keepdim=True)
    contrast = seen / where.sum((1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
    plain = (CONTRAST / contrast.clamp(min=1e-6)).clamp(1 / CLEARER, CLEARER)
    return where * (SMALL / share.clamp(min=1e-6)).clamp(1.0, MOST) * plain
