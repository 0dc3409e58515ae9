"""Homes that several files of end-to-end tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from svid.cli.open import desk_of
from svid.home import Home
from svid.workbench import Workbench
from tests.e2e.shared import sharing
from tests.e2e.tools import bench_in, new


@pytest.fixture(scope="module")
def cli_bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A home with a video of three segments, a fork of it, and a manifest that was refused."""
    made = bench_in(tmp_path_factory.mktemp("cli") / "home")
    made.run(new("harbour at dawn", "boats", "gulls", "sun"))
    made.run({"branch": "harbour at dawn@1", "name": "in fog", "prompts": ["fog"]})
    return made


@pytest.fixture
def cli_home(cli_bench: Workbench) -> Home:
    """The home of the bench, its inbox as it was."""
    for file in cli_bench.home.inbox.iterdir():
        if file.suffix in (".json", ".toml"):
            file.unlink()
    return cli_bench.home


@pytest.fixture
def day(tmp_path: Path) -> Workbench:
    """A home with a video, whose database is that of `night` too."""
    made = bench_in(tmp_path / "day")
    made.run(new("harbour", "boats", "gulls"))
    return made


@pytest.fixture
def night(day: Workbench, tmp_path: Path) -> Workbench:
    home = sharing(tmp_path / "night", "../day/db")
    return Workbench(home, desk_of(home))
