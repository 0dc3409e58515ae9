"""Every recorded case against svid's plugins, the copies here or those under SVID_PARITY_CASES."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.parity import harness, layouts
from tests.parity.cases import DATA, Case, NotServed, case_folders, root

LATER = ("svi-talk", "svi-dance")
"""Variants without a plugin. Their cases must fail for that reason and no other."""


def _comes_later(folder):
    try:
        variant = json.loads((folder / "case.json").read_text())["variant"]
    except (OSError, ValueError, KeyError):
        variant = ""
    return folder.name.startswith(LATER) or variant.startswith(LATER)


def _cases():
    later = pytest.mark.xfail(strict=True, raises=NotServed, reason="no plugin serves this variant yet")
    return [
        pytest.param(folder, id=folder.name, marks=[later] if _comes_later(folder) else [])
        for folder in case_folders(root())
    ]


def _served_videos():
    return [
        case for case in map(Case, case_folders(DATA)) if case.kind == "video" and not case.variant.startswith(LATER)
    ]


@pytest.mark.parametrize("folder", _cases())
def test_case(folder, tmp_path, results):
    try:
        results[folder.name] = harness.compare(folder, tmp_path)
    except NotServed as error:
        results[folder.name] = str(error)
        raise


def test_no_case_is_missing():
    """There are cases, and every one that the manifest lists, as it was recorded."""
    base = root()
    names = [folder.name for folder in case_folders(base)]
    assert names, f"expected folders of cases under {base}, found none"
    if base == DATA or (base / "manifest.json").is_file():
        manifest = json.loads((base / "manifest.json").read_text())
        assert {case["name"] for case in manifest["cases"]} <= set(names)
        files = {path: file["sha256"] for path, file in manifest["files"].items()}
        found = {path: hashlib.sha256((base / path).read_bytes()).hexdigest() for path in files}
        assert found == files


@pytest.mark.parametrize("case", _served_videos(), ids=lambda case: case.name)
def test_the_recipe_is_the_recorded_one(case):
    """Of the cases here, the padding, the side of a seam that gives way, the rate and the stride of the seeds are those
    of the authors' run, not only what a case asks for."""
    recipe, p = layouts.recipe_on(case.variant, case.spec["base"]), case.params
    assert recipe.layout.pad == p["pad"]
    assert recipe.layout.seam == layouts.SEAMS[p["trim"]["which"]]
    assert (recipe.fps, recipe.seed_stride) == (p["fps"], p["seed_times"])
