"""Scenes to pixels: anti-aliased by signed distances, pure torch, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from world import COLOURS, GROUNDS, Scene, Subject

NIGHT_GROUND = (0.31, 0.33, 0.39)
NIGHT_SUBJECT = (0.66, 0.68, 0.80)
TEXTURE = 0.055
RIM = 0.022
"""Width of the dark rim in frame heights."""
DARK = 0.35
"""How much darker the rim is."""
SOFT = 1.4
"""Pixels that an edge is wide."""
INNER = 0.46
"""Radius of a star's inner corners over that of its tips."""


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _wedge(x: torch.Tensor, y: torch.Tensor, tips: int, inner: float) -> torch.Tensor:
    """Distance to a figure of `tips` tips at radius 1 and corners at `inner` between them, negative inside.

    One side of one tip is a line; all others are that line after folding the angle into half a sector."""
    sector = math.pi / tips
    angle = torch.atan2(x, -y)
    angle = (angle - 2 * sector * torch.round(angle / (2 * sector))).abs()
    radius = torch.hypot(x, y)
    px, py = radius * torch.cos(angle), radius * torch.sin(angle)
    cx, cy = inner * math.cos(sector), inner * math.sin(sector)
    length = math.hypot(cx - 1, cy)
    return ((px - 1) * cy - py * (cx - 1)) / length


def distance(shape: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Signed distance of points to `shape` of radius 1 around the origin, tip up."""
    if shape == "circle":
        return torch.hypot(x, y) - 0.92
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.76
    if shape == "triangle":
        return _wedge(x, y + 0.0, 3, 0.5)
    return _wedge(x, y, 5, INNER)


def _lit(colour: Sequence[float], night: Sequence[float], light: torch.Tensor) -> torch.Tensor:
    """[n, 1, 1, 3]: `colour` by day, times `night` by night."""
    day, dark = torch.tensor(colour, device=light.device), torch.tensor(night, device=light.device)
    return day * (dark + (1 - dark) * light[..., None])


def _background(frames: Sequence[Scene], x: torch.Tensor, y: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """[n, H, W, 3]."""
    device, first = x.device, frames[0]
    zoom = _column([f.zoom for f in frames], device)
    u = (x - first.aspect / 2) / zoom + _column([f.shift_x for f in frames], device)
    v = (y - 0.5) / zoom + _column([f.shift_y for f in frames], device)
    tau = 2 * math.pi
    if first.texture == "striped":
        pattern = torch.sin(tau * 2.4 * (u + 0.5 * v))
    elif first.texture == "dotted":
        pattern = 1.6 * torch.relu(torch.cos(tau * 2.2 * u) * torch.cos(tau * 2.2 * v)) - 0.4
    elif first.texture == "cloudy":
        pattern = torch.sin(tau * (0.8 * u + 0.5 * v) + 1) + torch.sin(tau * (0.4 * u - 0.9 * v) + 2)
        pattern = 0.6 * (pattern + torch.sin(tau * (1.3 * u + 0.2 * v) + 4 + pattern))
    else:
        pattern = torch.zeros_like(u)
    shade = 1 + 1.6 * TEXTURE * pattern + 0.16 * (0.5 - y)
    return (_lit(GROUNDS[first.ground], NIGHT_GROUND, light) * shade[..., None]).expand(
        len(frames), y.shape[1], x.shape[2], 3
    )


def _paint(
    canvas: torch.Tensor,
    subjects: Sequence[Subject],
    zoom: torch.Tensor,
    light: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The canvas with one subject (its states over time) on it, and the subject's coverage [n, H, W]."""
    device, first = canvas.device, subjects[0]
    radius = _column([s.radius for s in subjects], device) * zoom
    dx, dy = x - _column([s.x for s in subjects], device), y - _column([s.y for s in subjects], device)
    cos = _column([math.cos(s.angle) for s in subjects], device)
    sin = _column([math.sin(s.angle) for s in subjects], device)
    # Turning the point back by the angle turns the figure forward, clockwise as y points down.
    local_x, local_y = (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius
    away = distance(first.shape, local_x, local_y) * radius
    height = canvas.shape[1]
    cover = (0.5 - away * height / SOFT).clamp(0, 1)
    rim = (0.5 + (away + RIM) * height / SOFT).clamp(0, 1)
    shade = (1 - 0.10 * (dy / radius).clamp(-1, 1))[..., None] * (1 - DARK * rim[..., None])
    colour = (_lit(COLOURS[first.colour], NIGHT_SUBJECT, light) * shade).clamp(0, 1)
    return canvas + cover[..., None] * (colour - canvas), cover


def draw_shot(
    frames: Sequence[Scene], height: int, width: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of one shot (same subjects and background in all): pixels [n, H, W, 3] fp32 in [0, 1] and the visible part
    of each subject [n, subjects, H, W] in [0, 1]."""
    device = torch.device(device)
    y = ((torch.arange(height, device=device) + 0.5) / height)[None, :, None]
    x = ((torch.arange(width, device=device) + 0.5) / height)[None, None, :]
    zoom = _column([f.zoom for f in frames], device)
    light = _column([f.light for f in frames], device)
    canvas = _background(frames, x, y, light).clamp(0, 1)
    covers: list[torch.Tensor] = []
    for index in reversed(range(len(frames[0].subjects))):
        canvas, cover = _paint(canvas, [f.subjects[index] for f in frames], zoom, light, x, y)
        covers = [cover, *(other * (1 - cover) for other in covers)]
    masks = torch.stack(covers, 1) if covers else canvas.new_zeros(len(frames), 0, height, width)
    return canvas, masks


def _look(scene: Scene) -> tuple[object, ...]:
    return scene.ground, scene.texture, scene.close, tuple((s.shape, s.colour, s.radius) for s in scene.subjects)


def shots(frames: Sequence[Scene]) -> list[list[Scene]]:
    """`frames` cut where the subjects or the background become others."""
    groups: list[list[Scene]] = []
    for frame in frames:
        if groups and _look(groups[-1][-1]) == _look(frame):
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def draw(
    frames: Sequence[Scene], height: int = 64, width: int = 64, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Any frames, with cuts or without: pixels [n, H, W, 3] fp32 in [0, 1]."""
    return torch.cat([draw_shot(shot, height, width, device)[0] for shot in shots(frames)])


def masks(
    frames: Sequence[Scene], height: int = 64, width: int = 64, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Where any subject is seen: [n, H, W] in [0, 1]."""
    return torch.cat([draw_shot(shot, height, width, device)[1].sum(1).clamp(0, 1) for shot in shots(frames)])


def quantized(pixels: torch.Tensor) -> torch.Tensor:
    """[0, 1] to uint8, rounded."""
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)
