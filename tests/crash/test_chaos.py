"""The short form of `make crash`: two daemons and one, killed a few times in a mix of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.chaos import run


@pytest.mark.slow
def test_a_few_kills_lose_nothing_do_nothing_twice_and_change_no_byte(tmp_path: Path) -> None:
    found = run(tmp_path, kills=5, seed=3, points=False)
    assert (found["lost"], found["twice"], found["wrong_bytes"]) == (0, 0, 0)
    assert found["kills"] >= 5
    assert found["jobs"] >= 4
