"""Homes whose path has what means something in addresses and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import quick_home
from tests.e2e.tools import run


@pytest.mark.parametrize("name", ["who?", "p%20q", "100% sure", "a#b", "a;b&c=d", "?mode=ro"])
def test_a_home_s_path_is_a_path_and_no_address(tmp_path: Path, name: str) -> None:
    home = quick_home(tmp_path / "homes" / name)
    run(home, "tree")
    assert home.database.is_file()
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [name]
    assert "0 wrong" in run(home, "verify").output
    run(home, "recover", "--yes")
    assert "can't be read" not in run(home, "recover").output
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [name]
    copied = tmp_path / f"copy {name}"
    run(home, "backup", str(copied))
    assert len(list(copied.rglob("db/svid.db"))) == 1
