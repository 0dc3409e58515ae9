"""Words in pictures that svid draws: Pillow's own font, which is the same on every machine that has this Pillow."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

from svid.errors import plain

INK = (228, 228, 232)
PALE = (150, 150, 158)
PAPER = (24, 24, 28)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """The font in this size, in pixels."""
    return ImageFont.load_default(size)


def fitted(text: str, width: int, size: int) -> str:
    """`text` in one line of at most `width` pixels, its end left out where it is longer."""
    letters, line = font(size), plain(text)
    line = line[: width // 2 + 1]  # no letter is narrower than two pixels, and prompts may be long
    if line == plain(text) and letters.getlength(line) <= width:
        return line
    while line and letters.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..." if line else ""
