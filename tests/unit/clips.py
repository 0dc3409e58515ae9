"""Pictures that move, and clips of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from svid.api import Clip, Encoding
from svid.media.clips import write_clip
from svid.media.codecs import codec


def moving(frames: int, shift: int = 0, height: int = 64, width: int = 96) -> torch.Tensor:
    """Smooth pictures that move, uint8 [frames, height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pictures = []
    for frame in range(frames):
        t = frame + 9 * shift
        red, green = 30 + 180 * x / width + t, 220 - 160 * y / height
        pictures.append(np.stack([red, green, 128 + 70 * np.sin((x + y + 3 * t) / 40)], -1))
    return torch.from_numpy(np.stack(pictures).clip(0, 255).astype(np.uint8))


def write(folder: Path, name: str, frames: torch.Tensor, label: object = "", fps: float = 16.0, by: int = 4) -> Clip:
    out = folder / f"clip{label}{codec(name).suffix}.part"
    return Clip(out, write_clip(iter(frames.split(by)), out, fps, Encoding(name)))
