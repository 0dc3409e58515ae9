"""The same frames give the same bytes on every run: an encoder that reads memory it never wrote gives itself away where
the memory held other things before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from svid.api import Encoding
from svid.media.clips import write_clip
from svid.media.codecs import CODECS, codec


def smooth(side: int) -> torch.Tensor:
    """uint8 [12, side, side, 3]: waves, in which a lookahead finds motion."""
    y, x, t = torch.meshgrid(torch.arange(side), torch.arange(side), torch.arange(12), indexing="ij")
    waves = [128 + 60 * torch.sin(x / 7 + t / 3 + c) + 40 * torch.cos(y / 5 - t / 4 + c) for c in range(3)]
    return torch.stack(waves, -1).permute(2, 0, 1, 3).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("name", "side"),
    [(one.name, side) for one in CODECS.values() for side in (32, 64, 96, 160) if side >= one.smallest],
)
def test_the_bytes_do_not_depend_on_what_memory_held(name: str, side: int, tmp_path: Path) -> None:
    dice, written = np.random.default_rng(1), set()
    for go in range(6):
        dirt = [dice.integers(0, 255, size=dice.integers(1, 1_000_000), dtype=np.uint8) for _ in range(20)]
        del dirt
        out = tmp_path / f"{go}{codec(name).suffix}"
        write_clip(smooth(side).split(4), out, 16.0, Encoding(name))
        written.add(out.read_bytes())
    assert len(written) == 1
