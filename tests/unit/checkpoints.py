"""A snapshot, a folder for it, and the checkpoint of a segment that writes it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from svid.api import Snapshot
from svid.render.checkpoint import Pace, SegmentCheckpoint
from svid.store.snapshots import Snapshots

KEY = "a" * 64
TENSORS = {
    "latents": torch.randn(1, 16, 2, 3, 3, generator=torch.Generator().manual_seed(1)),
    "scalar": torch.tensor(1 / 3, dtype=torch.float64),
    "count": torch.tensor([2**62 + 1, -1]),
    "half": torch.tensor([1.5, -0.0, float("nan")]).bfloat16(),
    "none": torch.zeros(0, 4),
    "bytes": torch.Generator().manual_seed(3).get_state(),
}
SNAPSHOT = Snapshot(3, 8, TENSORS, {"state": {"order": 2, "sigma": 0.1, "list": [None, True, {"tensor": "count"}]}})
ENV = {"threads": 1, "libraries": {"torch": "1", "diffusers": "2"}}


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    (tmp_path / "db/tmp").mkdir(parents=True)
    return Snapshots(tmp_path / "db/snapshots", tmp_path / "db/tmp")


def checkpoint(snapshots: Snapshots, heard: list[Snapshot] | None = None, **more: Any) -> SegmentCheckpoint:
    given = {"pace": Pace(0, lambda: 0.0), "env": ENV} | more
    resumed = (heard if heard is not None else []).append
    return SegmentCheckpoint(snapshots, key=KEY, resumed=resumed, **given)
