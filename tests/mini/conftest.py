"""What the miniature's tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# `mini/` holds scripts and is no package: what they import from each other is found as they find it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mini"))


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    """Rendering turns gradients off for its whole process, and another test of this one may have rendered."""
    with torch.enable_grad():
        yield
