"""The benchmark of drift prints what docs/mini.md says that it prints."""

import json
import subprocess
import sys
from pathlib import Path

DRIFT = Path(__file__).parents[2] / "benchmarks" / "drift.py"


def drift(*arguments):
    return subprocess.run([sys.executable, DRIFT, *arguments], capture_output=True, text=True, timeout=600, check=False)


def test_it_prints_one_object_about_the_miniature_in_the_package():
    done = drift("--json", "--arms", "i2v", "svi-2.0-pro", "--chains", "1", "--segments", "2", "--steps", "1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["segments"] == len(found["rows"]["i2v"]) == len(found["rows"]["svi-2.0-pro"]) == 2
    for figure in ("drift", "seam"):
        assert found[f"{figure}_i2v"] > 0
        assert found[f"{figure}_svi_pro"] > 0
    for name in ("i2v", "svi_pro"):
        assert 0 <= found[f"kept_{name}"] <= 1


def test_other_streams_can_be_measured():
    quick = ("--json", "--arms", "i2v", "--chains", "1", "--segments", "2", "--steps", "1")
    assert drift(*quick).stdout == drift(*quick).stdout != drift(*quick, "--skip", "1").stdout != ""


def test_an_arm_whose_lora_is_not_there_is_refused(tmp_path):
    done = drift(DRIFT.parents[1] / "svid/embedded/wan22-mini", tmp_path, "--arms", "i2v", "pro-short")
    assert done.returncode == 2
    assert f"no LoRA for pro-short in {tmp_path}" in done.stderr


def test_the_ablations_of_the_page_are_there():
    files = {file.name for file in (DRIFT.parent / "ablations").iterdir()}
    for name in ("pro-short", "pro-layout-only", "pro-no-anchor"):
        assert {f"{name}_high.safetensors", f"{name}_low.safetensors"} <= files
