"""What the parity tests share: the results of a run, which become the table in the docs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity import table


@pytest.fixture(scope="session")
def results() -> Iterator[table.Results]:
    """Every case's result; written as a page to SVID_PARITY_TABLE when all tests have run."""
    target, kept = os.environ.get("SVID_PARITY_TABLE"), {}
    if target and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("SVID_PARITY_TABLE needs a run in one process: leave out -n")
    yield kept
    if target:
        table.write(Path(target), kept)
