"""Which shape a subject has, by what is seen of it alone: whichever of the world's shapes, turned as it fits best, of
the same place and size covers most of it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from detect import LAST, VISIBLE, presence, visible
from draw import INNER, SOFT, distance
from world import SHAPES, Scene

AREAS = {"circle": math.pi * 0.92**2, "square": 4 * 0.76**2, "triangle": 3 * 3**0.5 / 4}
"""Of shapes of radius 1; a star's is that of ten triangles."""
TIPS = {"circle": 1, "square": 4, "triangle": 3, "star": 5}
ANGLES = 8
"""Positions that are tried of each shape, evenly until it looks the same again."""
WHOLE = 0.95
"""Share of a subject that the truth must show for its shape to be judged: not cut off, not behind another."""
SEEN = (-LAST, -LAST // 2, -1)
"""Frames that are looked at."""


def area(shape: str) -> float:
    """The area of a shape of radius 1."""
    return AREAS.get(shape, 5 * math.sin(math.pi / 5) * INNER)


@lru_cache(maxsize=1)
def _turns() -> list[tuple[str, float]]:
    return [
        (shape, 2 * math.pi / TIPS[shape] * turn / ANGLES)
        for shape in SHAPES
        for turn in range(ANGLES if shape != "circle" else 1)
    ]


def fits(weight: torch.Tensor) -> dict[str, float]:
    """How well each shape fits what is seen of a colour, `weight` [H, W] in [0, 1]: what both cover over what either
    does, 0 where nothing is seen."""
    height, width = weight.shape
    total = weight.sum()
    found = dict.fromkeys(SHAPES, 0.0)
    if float(total) < VISIBLE / 4 * weight.numel():
        return found
    y = ((torch.arange(height, device=weight.device) + 0.5) / height)[:, None]
    x = ((torch.arange(width, device=weight.device) + 0.5) / height)[None, :]
    dx, dy = x - (weight * x).sum() / total, y - (weight * y).sum() / total
    for shape, angle in _turns():
        radius = math.sqrt(float(total) / height**2 / area(shape))
        cos, sin = math.cos(angle), math.sin(angle)
        away = distance(shape, (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius) * radius
        cover = (0.5 - away * height / SOFT).clamp(0, 1)
        fit = float(torch.minimum(cover, weight).sum() / torch.maximum(cover, weight).sum())
        found[shape] = max(found[shape], fit)
    return found


def shape_kept(pixels: torch.Tensor, frames: list[Scene], index: int = 0) -> bool | None:
    """Whether subject `index` of a video [n, H, W, 3] in [0, 1] ends as the shape that it is and not as another one;
    None where the truth does not show it whole."""
    subject, zoom = frames[0].subjects[index], frames[-1].zoom
    truth = visible(frames, index, *pixels.shape[1:3])[-LAST:] * frames[0].aspect
    full = area(subject.shape) * (subject.radius * zoom) ** 2
    if float(truth.min()) < max(VISIBLE, WHOLE * full):
        return None
    each = [fits(presence(pixels[at], subject.colour)) for at in SEEN]
    means = {shape: sum(found[shape] for found in each) / len(each) for shape in SHAPES}
    return means[subject.shape] > max(fit for shape, fit in means.items() if shape != subject.shape)
