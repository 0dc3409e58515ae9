"""What a video shows: which colours of subjects are there, how large, where, and which way they go.

A pixel belongs to the subject colour whose hue is nearest, as far as it is saturated: backgrounds hardly are, by day or
by night (world.GROUNDS). Nothing is known of the truth here; `judge` compares with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from draw import draw_shot, shots
from world import COLOURS, Scene

SATURATED = (0.45, 0.65)
"""Saturation (of HSV) below which a pixel counts nothing, and above which it counts fully."""
REACH = 22.0
"""Degrees of hue around a colour that are still that colour."""
VISIBLE = 0.01
"""Share of the frame below which nothing can be said of a subject."""


def hue_and_saturation(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[..., 3] in [0, 1] to hue in degrees and saturation in [0, 1]; black counts as not saturated."""
    high, low = pixels.amax(-1), pixels.amin(-1)
    chroma = (high - low).clamp_min(1e-6)
    r, g, b = pixels.unbind(-1)
    hue = torch.where(
        high == r, ((g - b) / chroma) % 6, torch.where(high == g, (b - r) / chroma + 2, (r - g) / chroma + 4)
    )
    return hue * 60, torch.where(high > 0.12, (high - low) / high.clamp_min(1e-6), 0.0)


def _hue(colour: str) -> float:
    return float(hue_and_saturation(torch.tensor(COLOURS[colour]))[0])


def presence(pixels: torch.Tensor, colour: str) -> torch.Tensor:
    """How much each pixel of [..., 3] in [0, 1] is of `colour`: [...] in [0, 1]."""
    hue, saturation = hue_and_saturation(pixels)
    away = (hue - _hue(colour) + 180) % 360 - 180
    low, high = SATURATED
    return ((saturation - low) / (high - low)).clamp(0, 1) * (away.abs() <= REACH)


@dataclass(frozen=True)
class Track:
    """A colour over time: area [n] as a share of the frame, centre [n, 2] (x, y) in frame heights, NaN where unseen."""

    area: torch.Tensor
    centre: torch.Tensor


def track(pixels: torch.Tensor, colour: str) -> Track:
    """Follow `colour` through frames [n, H, W, 3] in [0, 1]."""
    weight = presence(pixels, colour)
    height, width = weight.shape[1:]
    total = weight.sum((1, 2))
    y = (torch.arange(height, device=pixels.device) + 0.5) / height
    x = (torch.arange(width, device=pixels.device) + 0.5) / height
    centre = torch.stack([(weight * x).sum((1, 2)), (weight * y[:, None]).sum((1, 2))], 1) / total[:, None]
    area = total / (height * width)
    return Track(area, torch.where((area > VISIBLE / 4)[:, None], centre, math.nan))


def strongest(pixels: torch.Tensor) -> str:
    """The subject colour that most of the frames [n, H, W, 3] is of."""
    return max(COLOURS, key=lambda colour: float(presence(pixels, colour).sum()))


def visible(frames: list[Scene], index: int, height: int, width: int) -> torch.Tensor:
    """The true visible share [n] of subject `index` in frames of one shot."""
    (shot,) = shots(frames)
    return draw_shot(shot, height, width)[1][:, index].mean((1, 2))


@dataclass(frozen=True)
class Verdict:
    """Of one subject in one video: is it there at the end in its colour, and as large as it should be and where it
    should; did it go the right way. None: can't be told, as of one that the truth hides behind another."""

    present: bool | None
    kept: bool | None
    direction: bool | None
    area_ratio: float


LAST = 8
FAR = 0.08
"""Frame heights that a subject must really go for its direction to be judged, and the most that a still one may."""


def judge(pixels: torch.Tensor, frames: list[Scene], index: int = 0) -> Verdict:
    """Compare subject `index` of a video [n, H, W, 3] in [0, 1] with the truth.

    Present: in the last 8 frames its colour covers half of the true visible area or more. Kept: not more than twice of
    it, too, and within 0.3 frame heights of the true place. Nothing is said of one that the truth hides there.
    Direction: until the truth first turns round, the way from start to end points where the truth's does within 45
    degrees and is 0.4 to 1.8 times as long; where the truth stands still, it moves less than FAR.
    """
    truth = visible(frames, index, *pixels.shape[1:3])
    subject = frames[0].subjects[index]
    seen = track(pixels, subject.colour)
    ratio = float(seen.area[-LAST:].mean() / truth[-LAST:].mean().clamp_min(1e-6))
    places = torch.tensor([[f.subjects[index].x, f.subjects[index].y] for f in frames])
    gap = (seen.centre[-LAST:].cpu() - places[-LAST:]).norm(dim=1).nanmean()
    shown = float(truth[-LAST:].mean()) >= VISIBLE
    present = ratio >= 0.5 if shown else None
    kept = present and ratio <= 2.0 and bool(gap < 0.3)
    if float(truth.min()) < 0.6 * float(truth.max()) and len(frames[0].subjects) > 1:
        return Verdict(present, kept, None, ratio)
    return Verdict(present, kept, _direction(seen.centre.cpu(), places), ratio)


def turning(places: torch.Tensor) -> int:
    """The last frame before the path [n, 2] first turns round; the last of all where it never does."""
    steps = places[1:] - places[:-1]
    first = steps[0]
    back = (steps @ first < -1e-9).nonzero()
    return int(back[0]) if len(back) else len(places) - 1


def _direction(seen: torch.Tensor, places: torch.Tensor) -> bool | None:
    span = (places - places[0]).norm(dim=1).max()
    if span < 1e-4:
        way = seen[-LAST:].nanmean(0) - seen[:2].nanmean(0)
        return bool(way.norm() < FAR)
    end = turning(places)
    true_way = places[end] - places[0]
    if true_way.norm() < FAR:
        return None
    way = seen[max(end - 2, 0) : end + 1].nanmean(0) - seen[:2].nanmean(0)
    length, goal = way.norm(), true_way.norm()
    cosine = (way @ true_way) / (length * goal).clamp_min(1e-6)
    return bool(cosine > 0.7 and 0.4 <= length / goal <= 1.8)
