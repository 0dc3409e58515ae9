"""One case, from its folder to a comparison."""

from __future__ import annotations

from pathlib import Path

from tests.parity import conditioning, parts, stitching, videos
from tests.parity.cases import Case, NotUnderstood
from tests.parity.comparison import Comparison

KINDS = {
    "video": videos.compare,
    "conditioning": conditioning.compare,
    "stitch": stitching.compare,
    "dit": parts.velocities,
    "vae": parts.vae,
    "scheduler": parts.schedule,
    "lora": parts.loras,
    "size_rule": parts.sizes,
}


def compare(folder: Path, scratch: Path) -> Comparison:
    """Run the case in `folder` and compare what comes out; files are written to `scratch`.

    Raises NotServed where no plugin serves its variant, NotUnderstood or Mismatch with everything that is wrong.
    """
    case = Case(folder)
    if case.kind not in KINDS:
        raise NotUnderstood(f"{case.name}: expected one of the kinds {', '.join(KINDS)}, found {case.kind!r}")
    found = Comparison(case)
    if case.kind == "conditioning":
        conditioning.compare(case, found, scratch)
    else:
        KINDS[case.kind](case, found)
    found.done()
    return found
