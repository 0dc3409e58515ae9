"""The same words mean the same: svid's measures of drift are those that the miniature is judged by."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch
from measure import STATISTICS, Row, drift_of, statistics

from svid.media.drift import MEASURES, Look, drift, look_of


def test_the_measures_are_the_miniatures() -> None:
    assert MEASURES == STATISTICS
    video = torch.rand(5, 12, 16, 3, generator=torch.Generator().manual_seed(1)).mul(255).to(torch.uint8)
    assert astuple(look_of(video.numpy())) == pytest.approx(statistics(video / 255).tolist(), abs=1e-5)


def test_the_one_number_is_the_miniatures() -> None:
    change = Look(0.1, 0.2, 0.05, 0.7)
    row = Row(2, dict(zip(MEASURES, astuple(change), strict=True)), 1.0, 0.0)
    assert drift(change) == pytest.approx(drift_of(row))
