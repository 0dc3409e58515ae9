"""A manifest that names a LoRA file which is none is refused when it is accepted, not when it is rendered."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from svid.cli.open import desk_of
from svid.config import EMBEDDED
from svid.errors import ManifestError
from svid.home import Home
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import new

CONFIG = """
[loras.short]
high = "short.safetensors"

[loras.pickle]
high = "pickle.safetensors"

[loras.model]
high = "model.safetensors"

[loras.empty]
high = "empty.safetensors"
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    root = tmp_path_factory.mktemp("loras") / "home"
    quick_home(root)
    with (root / "svid.toml").open("a") as file:
        file.write(CONFIG)
    sound = next(Path(EMBEDDED).glob("*-loras/*.safetensors")).read_bytes()
    (root / "short.safetensors").write_bytes(sound[:-100])
    (root / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    save_file({"blocks.0.attn.weight": torch.zeros(2)}, root / "model.safetensors")
    save_file({}, root / "empty.safetensors")
    home = Home(root)
    return Workbench(home, desk_of(home))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", r"short\.safetensors: .*expected .* found"),
        ("pickle", r"pickle\.safetensors: "),
        ("model", r"model\.safetensors: blocks\.0\.attn\.weight: expected a LoRA key"),
        ("empty", r"empty\.safetensors: expected LoRA tensors, found none"),
    ],
)
def test_a_file_that_is_no_lora_is_refused_at_once(bench: Workbench, name: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        bench.accept(new(name, "one", loras=[{"name": name}]))


def test_all_of_them_are_told_at_once(bench: Workbench) -> None:
    with pytest.raises(ManifestError) as caught:
        bench.accept(new("all", "one", loras=[{"name": "model"}, {"name": "empty"}]))
    assert [problem.file for problem in caught.value.problems] == ["empty.safetensors", "model.safetensors"]
