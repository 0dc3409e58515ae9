"""@GRID@/benchmarks/drift.py with fast_encode and fast_decode, its arms one after another in this process (`--jobs`
does nothing): `OMP_NUM_THREADS=1 @PYTHON@ @RUN@/fast/drift.py [--json] ...`, arguments as there.

DRIFT_SLOW=1 leaves the fast ways out, to compare. @GRID@ names another checkout than @GRID@."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE, GRID = Path(__file__).resolve().parent, Path(os.environ.get("GRID", "@GRID@"))
sys.path[:] = [str(GRID / "mini"), str(GRID)] + [p for p in sys.path if Path(p or ".").resolve() != HERE] + [str(HERE)]

import precision
precision.NATIVE = ()
if not os.environ.get("DRIFT_SLOW"):
    import patched  # noqa: F401

spec = importlib.util.spec_from_file_location("grid_drift", GRID / "benchmarks" / "drift.py")
drift = importlib.util.module_from_spec(spec)  # this file has the name `drift`
sys.modules["grid_drift"] = drift
spec.loader.exec_module(drift)


def measured(given: argparse.Namespace) -> Iterator[tuple[str, list[Any]]]:
    """As drift.measured, here."""
    for name in given.arms:
        yield name, drift.run(name, given)


drift.measured = measured
if __name__ == "__main__":
    drift.main()
