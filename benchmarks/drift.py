"""How much long chains drift, by recipe: `python benchmarks/drift.py [--json]`, of the miniature in the package.

Chains of held-out prompt streams of the miniature's world, whose truth is known: what is measured is how far a chain
goes from its first segment beyond what the world does. The figures are about the miniature, not about the 14B.
An arm takes about ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "mini"))

from chain import I2V, MEASURED, PRO, SVI20, Way, chain, held_out_streams
from measure import STREAM, Row, drift_of, measure
from restore import LORAS, MODEL, Applied, restore

from svid.layout import Layout

ABLATIONS = Path(__file__).parent / "ablations"


@dataclass(frozen=True)
class Arm:
    """One way to chain, the LoRA's name (none for plain I2V) and its strengths."""

    way: Way
    lora: str | None = None
    high: float = 1.0
    low: float = 1.0


def knob(**changed: Any) -> Arm:
    """Pro with something else in `[conditioning]`."""
    layout = Layout.model_validate({**PRO.layout.model_dump(), **changed})
    return Arm(replace(PRO, layout=layout), "svi-2.0-pro")


ARMS = {
    "i2v": Arm(I2V),
    "svi-2.0-wan22": Arm(SVI20, "svi-2.0-wan22"),
    "svi-2.0-pro": Arm(PRO, "svi-2.0-pro"),
    "pro-short": Arm(PRO, "pro-short"),
    "pro-layout-only": Arm(PRO, "pro-layout-only"),
    "pro-no-anchor": Arm(knob(anchor_strength=0.0).way, "pro-no-anchor"),
    "pro, no lora": Arm(PRO),
    "pro, lora high 0.6": Arm(PRO, "svi-2.0-pro", high=0.6),
    "pro, anchor_strength 0.5": knob(anchor_strength=0.5),
    "pro, motion_latents 2": knob(motion_latents=2),
    "pro, pad reference": knob(pad="reference"),
    "pro, mask given-frames": knob(mask="given-frames"),
    "pro, motion_amplitude 1.15": knob(motion_amplitude=1.15),
}
"""What is compared. `pro-short`, `pro-layout-only` and `pro-no-anchor` had the same few steps: the second without
recycling, the third with recycling and without an anchor. `seam` and `decode` need no arms: every row has the seam in
every way."""


def files_of(arm: Arm, folders: Sequence[Path]) -> dict[str, list[tuple[Path, float]]] | None:
    """The LoRA files of an arm with their strengths, from the first folder that has them; None where none does."""
    if arm.lora is None:
        return {}
    strengths = {"high": arm.high, "low": arm.low}
    for folder in folders:
        files = {expert: folder / f"{arm.lora}_{expert}.safetensors" for expert in strengths}
        if all(file.exists() for file in files.values()):
            return {expert: [(file, strengths[expert])] for expert, file in files.items()}
    return None


def run(name: str, given: argparse.Namespace) -> list[Row]:
    """The rows of one arm, on one thread: so they are the same however many arms are measured at once."""
    torch.set_num_threads(1)
    mini, arm = restore(given.model), ARMS[name]
    encoder = mini.encoder
    aspect = encoder.width / encoder.height
    streams = held_out_streams(given.chains, given.segments, aspect, MEASURED + given.skip)
    with Applied(mini.experts, files_of(arm, given.loras) or {}):
        videos = chain(arm.way, mini.experts, mini.prompts, encoder, streams, given.steps)
        return measure(arm.way, streams, videos, encoder.height, encoder.width)


def measured(given: argparse.Namespace) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each arm, in their order."""
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        yield from zip(given.arms, pool.map(partial(run, given=given), given.arms), strict=True)


def mean(values: list[float]) -> float:
    """Of a figure over segments; 0 where there are none."""
    return round(sum(values) / max(len(values), 1), 5)


def summary(table: dict[str, list[Row]]) -> dict[str, float]:
    """Drift at the end, the mean seam and what is kept, of plain I2V and of Pro; `by_clip`: the seam of a chain that
    svid is told not to decode as one stream."""
    found: dict[str, float] = {}
    for name, short in (("i2v", "i2v"), ("svi-2.0-pro", "svi_pro")):
        if name in table:
            rows = table[name]
            found[f"drift_{short}"] = round(drift_of(rows[-1]), 3)
            found[f"seam_{short}"] = mean([row.seam for row in rows[1:]])
            if STREAM in rows[-1].seams:
                found[f"seam_{short}_by_clip"] = mean([row.seams["head"] for row in rows[1:]])
            found[f"kept_{short}"] = round(rows[-1].kept, 3)
    return found


def arguments() -> argparse.Namespace:
    """The command line. Ends the program where an arm is named whose LoRA is not there; those that are not named and
    lack it are told and left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, help="a folder in diffusers layout")
    parser.add_argument("loras", type=Path, nargs="*", help="folders with NAME_high.safetensors and NAME_low")
    parser.add_argument("--json", action="store_true", help="one object and nothing else")
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--skip", type=int, default=0, help="held-out streams before the first that is measured")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), help="all whose LoRAs are there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="arms at once, each on one core")
    given = parser.parse_args()
    given.loras = given.loras or [LORAS, ABLATIONS]
    missing = [name for name in given.arms or ARMS if files_of(ARMS[name], given.loras) is None]
    if missing:
        said = f"no LoRA for {', '.join(missing)} in {' or '.join(map(str, given.loras))}"
        if given.arms:
            parser.error(said)
        print(f"left out: {said}", file=sys.stderr)
    given.arms = [name for name in given.arms or ARMS if name not in missing]
    return given


def main() -> None:
    """Measure, and print a table or one JSON object."""
    given = arguments()
    table: dict[str, list[Row]] = {}
    for name, table[name] in measured(given):
        if given.json:
            print(f"{name}: measured", file=sys.stderr)
        else:
            show(name, table[name])
    if given.json:
        rows = {name: [asdict(row) for row in arm] for name, arm in table.items()}
        print(json.dumps({**summary(table), "segments": given.segments, "chains": given.chains, "rows": rows}))


def show(name: str, rows: list[Row]) -> None:
    """A few rows of one arm as text."""
    for row in rows:
        if row.segment in (2, 4, 8, 12, 16, 20):
            values = "  ".join(f"{k} {100 * v:5.2f}" for k, v in row.drift.items())
            seams = "  ".join(f"{k} {100 * v:.2f}" for k, v in row.seams.items())
            print(f"{name:26} {row.segment:3}  {values}  kept {row.kept:.2f}  seam {seams}", flush=True)


if __name__ == "__main__":
    main()
