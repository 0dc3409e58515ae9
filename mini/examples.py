"""Draws the pictures of the miniature's world that come with svid: `python mini/examples.py [FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from chain import MEASURED, held_out_streams
from draw import draw, quantized
from PIL import Image
from world import SIZES, Scene, Subject

FOLDER = Path(__file__).resolve().parent.parent / "watch/examples"
SIDE = 256
"""Pixels: four times what the miniature renders, so that it is scaled down for any size."""
TYPICAL = 3
"""Of the sixteen streams that `benchmarks/drift.py` measures, counted from 0, the one that is eighth where they are in
order by how far plain chaining drifts on them in twenty segments (`rows.i2v[19].streams`)."""
SCENES = {
    "star.png": Scene((Subject("star", "yellow", "big", 0.375, 0.5, 0.0, SIZES["big"]),), "pale", "plain"),
    "green-star.png": held_out_streams(1, 1, 1.0, MEASURED + TYPICAL)[0].scene,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args().folder
    for name, scene in SCENES.items():
        Image.fromarray(quantized(draw([scene], SIDE, SIDE)[0]).numpy()).save(folder / name)


if __name__ == "__main__":
    main()
