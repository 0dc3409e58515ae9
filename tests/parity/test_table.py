"""The page in the docs lists every case here."""

from __future__ import annotations

import pytest

from tests.parity import table
from tests.parity.cases import DATA, Case, case_folders

PAGE = DATA.parents[2] / "docs" / "parity.md"


def test_the_page_lists_every_case_and_its_reference():
    references = PAGE.read_text().partition(table.REFERENCES)[2].splitlines()
    for case in map(Case, case_folders(DATA)):
        line = next((line for line in references if line.startswith(f"| `{case.name}` |")), "")
        assert line, f"docs/parity.md does not list {case.name}: write it anew"
        assert case.commits()
        assert all(commit in line for commit in case.commits())


def test_the_page_has_a_result_of_every_case():
    results = PAGE.read_text().partition(table.REFERENCES)[0]
    for folder in case_folders(DATA):
        assert f"`{folder.name}`" in results, f"docs/parity.md has no result of {folder.name}: write it anew"


def test_an_incomplete_run_writes_no_page(tmp_path):
    with pytest.raises(RuntimeError, match="no result of"):
        table.write(tmp_path / "parity.md", {})
    assert not (tmp_path / "parity.md").exists()
