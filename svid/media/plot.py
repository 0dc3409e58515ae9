"""Line charts as PNG files, drawn with Pillow: as much as it takes to see drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from svid.media.lettering import INK, PALE, PAPER, fitted, font
from svid.media.sheet import png

COLOURS = ((238, 119, 84), (92, 176, 255), (140, 210, 110), (220, 180, 80))
"""Of the first, the second, ... line of every panel."""
WIDTH, HEIGHT = 420, 240
"""Of a panel, in pixels."""
LEFT, TOP, RIGHT, BOTTOM = 64, 34, 14, 24
"""What of a panel is left for words."""
GRID = (58, 58, 66)
HEAD = 30
SIZE = 12
FINE = 2
"""Everything is drawn larger by this and then scaled down, because Pillow's lines have jagged edges."""


@dataclass(frozen=True)
class Panel:
    """One chart: lines by name, each a value per segment from 1 on. `low` and `high` bound what is always seen."""

    title: str
    lines: Mapping[str, Sequence[float]]
    low: float = 0.0
    high: float = 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value to be shown, 0 among them, and never the same."""
        values = [0.0, self.low, self.high, *(value for line in self.lines.values() for value in line)]
        low, high = min(values), max(values)
        return (low, high) if high > low else (low, low + 1e-6)


def draw_panels(title: str, panels: Sequence[Panel]) -> bytes:
    """A PNG with the panels two by two under a title that says which colour is which line."""
    columns, rows = min(2, len(panels)), (len(panels) + 1) // 2
    sheet = Image.new("RGB", (columns * WIDTH * FINE, (HEAD + rows * HEIGHT) * FINE), PAPER)
    pen = ImageDraw.Draw(sheet)
    _heading(pen, title, list(panels[0].lines), columns * WIDTH)
    for number, panel in enumerate(panels):
        _panel(pen, panel, number % 2 * WIDTH, HEAD + number // 2 * HEIGHT)
    return png(sheet.resize((sheet.width // FINE, sheet.height // FINE), Image.Resampling.LANCZOS))


def _heading(pen: ImageDraw.ImageDraw, title: str, names: Sequence[str], width: int) -> None:
    _words(pen, LEFT, 10, fitted(title, width // 2, SIZE), INK)
    right = width - RIGHT
    for name, colour in reversed(list(zip(names, COLOURS, strict=False))):
        right -= int(font(SIZE).getlength(name))
        _words(pen, right, 10, name, colour)
        right -= 24


def _panel(pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    low, high = panel.bounds
    most = max(len(line) for line in panel.lines.values())
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(segment: int, value: float) -> tuple[float, float]:
        x = left + LEFT + width * (segment - 1) / max(most - 1, 1)
        return x * FINE, (top + TOP + height * (high - value) / (high - low)) * FINE

    _words(pen, left + LEFT, top + 12, panel.title, INK)
    for value in sorted({low, 0.0, high}):
        pen.line([at(1, value), at(max(most, 2), value)], PALE if value == 0 else GRID, FINE)
    for value in (low, high) if low < 0 < high else (0.0, low or high):
        label = f"{value:+.3f}" if value else "0"
        _words(pen, left + LEFT - 8 - int(font(SIZE).getlength(label)), int(at(1, value)[1] / FINE) - 7, label, PALE)
    for segment in sorted({1, (most + 1) // 2, most}):
        _words(pen, int(at(segment, low)[0] / FINE) - 4, top + HEIGHT - BOTTOM + 6, str(segment), PALE)
    for line, colour in zip(panel.lines.values(), COLOURS, strict=False):
        points = [at(segment, value) for segment, value in enumerate(line, 1)]
        pen.line(points, colour, 2 * FINE, joint="curve")
        for x, y in points:
            pen.ellipse((x - 3 * FINE, y - 3 * FINE, x + 3 * FINE, y + 3 * FINE), colour)


def _words(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, colour: tuple[int, int, int]) -> None:
    pen.text((x * FINE, y * FINE), text, colour, font(SIZE * FINE))
