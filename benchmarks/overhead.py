"""What svid costs beside the model's own work, and whether that grows with a video's length. See README.md here."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bare import BareLoop

from svid.cli.open import desk_of
from svid.home import Home, make_home
from svid.media.images import open_picture, resized
from svid.render.watch import Watch
from svid.workbench import Workbench

PAIRS = 7
LENGTH = 40
ROUNDS = 9


class Bench(Workbench):
    """A workbench that takes the time from manifest to answer."""

    def __init__(self, root: Path) -> None:
        home: Home = make_home(root)
        (home.inbox / "a.png").write_bytes((home.watch / "examples/harbour.png").read_bytes())
        super().__init__(home, desk_of(home))

    def timed(self, manifest: Mapping[str, Any], watch: Watch | None = None) -> tuple[str, float]:
        """Do one manifest; returns its video and the seconds that it took."""
        began = time.perf_counter()
        self.accept(manifest)
        video = self.work(watch).video_id
        return video, time.perf_counter() - began


def new(name: str, segments: int, frames: int, steps: int) -> dict[str, Any]:
    """A manifest for a new video."""
    sample = {"steps": steps}
    prompts = [f"scene {number}" for number in range(segments)]
    return {"name": name, "image": "a.png", "prompts": prompts, "frames": frames, "sample": sample, "reuse": False}


def overhead(bench: Bench, folder: Path, steps: int) -> dict[str, float]:
    """svid and the bare loop, a segment of each in turn."""
    svid_s: list[float] = []
    bare_s: list[float] = []
    loop: list[BareLoop] = []
    began = [0.0]

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] != "committed":
            return
        svid_s.append(time.perf_counter() - began[0])
        number = int(event["index"])
        if not loop:
            loop.append(_bare(bench, event["job"]))
        start = time.perf_counter()
        loop[0].render(f"scene {number}", 42 * number, folder / f"{number}.mp4", 15)
        bare_s.append(time.perf_counter() - start)
        began[0] = time.perf_counter()

    bench.timed(new("pairs", PAIRS + 1, 81, steps), Watch(tell))
    # The first of each loads and warms up.
    ours, theirs = statistics.median(svid_s[1:]), statistics.median(bare_s[1:])
    pairs = statistics.median(a / b for a, b in zip(svid_s[1:], bare_s[1:], strict=True))
    return {"svid_s": ours, "bare_s": theirs, "ratio": pairs}


def _bare(bench: Bench, job: str) -> BareLoop:
    """The bare loop over copies of the very modules that svid renders with, its LoRAs merged into them."""
    from svid.manifest.model import Manifest
    from svid.plan.build import build_plan
    from svid.plan.settings import PictureRef
    from svid.render.commit import job_row

    row = job_row(bench.desk.store, job)
    pictures = {place: PictureRef.model_validate(ref) for place, ref in row.pictures.items()}
    manifest = Manifest.model_validate(row.manifest, strict=False)
    plan = build_plan(manifest, bench.studio.config, bench.studio.recipes, pictures)
    seen = bench.studio.job(row.id, "pairs", row.video_id, plan.settings)
    anchor = bench.studio.picture(pictures["image"].sha256, pictures["image"].pixels)
    segment = bench.studio.segment(plan.segments[1], seen.recipe, anchor)
    model = bench.studio.load(seen, segment)
    pixels = resized(open_picture(anchor.path), segment.width, segment.height)
    return BareLoop(model, segment, pixels)


def length(bench: Bench) -> tuple[str, dict[str, float]]:
    """One video of 40 segments: seconds and memory early and late."""
    seconds: list[float] = []
    memory: list[float] = []
    last = [time.perf_counter()]

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "committed":
            seconds.append(time.perf_counter() - last[0])
            memory.append(resident_mb())
        if event["event"] in ("job", "committed"):
            last[0] = time.perf_counter()

    video, _ = bench.timed(new("long", LENGTH, 33, 6), Watch(tell))
    return video, {
        "rss_mb_segment_4": memory[3],
        "rss_mb_segment_40": memory[39],
        "s_segment_4": statistics.median(seconds[1:8]),
        "s_segment_40": statistics.median(seconds[33:40]),
    }


def extensions(bench: Bench, video: str) -> dict[str, float]:
    """Extending by one: a video of 40 segments, and its own first 4, in turn."""
    short, _ = bench.timed({"branch": f"{video}@4", "name": "short"})
    took: dict[str, list[float]] = {short: [], video: []}
    for number in range(ROUNDS):
        for one, seconds in took.items():
            ask = {"extend": one, "prompts": [f"more {number}"], "seed": 1000 + number, "reuse": False}
            seconds.append(bench.timed(ask)[1])
    return {"s_extend_4": statistics.median(took[short]), "s_extend_40": statistics.median(took[video])}


def resident_mb() -> float:
    """Resident memory of this process in MB (10**6 bytes), without what is free and only kept by the allocator, which
    goes up and down by a hundred MB from one segment to the next."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=12, help="denoising steps of the segments that are compared")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "home")
        found = overhead(bench, Path(folder), arguments.steps)
        video, flat = length(bench)
        found |= flat | extensions(bench, video)
    found = {key: round(value, 4) for key, value in found.items()}
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"81 frames: svid {found['svid_s']:.3f} s, bare {found['bare_s']:.3f} s, ratio {found['ratio']:.3f}")
    for what, unit in (("rss_mb_segment", "MB"), ("s_segment", "s"), ("s_extend", "s")):
        early, late = found[f"{what}_4"], found[f"{what}_40"]
        print(f"{what:15} at 4: {early:9.3f} {unit}   at 40: {late:9.3f} {unit}   ratio {late / early:.3f}")


if __name__ == "__main__":
    main()
