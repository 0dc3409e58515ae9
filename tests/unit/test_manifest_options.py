"""A plugin's options, as they are read from a manifest and written down in an ask."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import pytest
import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, computed_field

from svid.errors import ManifestError, PluginError
from svid.manifest.options import as_table, build, keys_of, lost
from svid.manifest.read import build_options
from svid.testing import stub
from tests.unit.plugging import alone

PRINTS = """
from pydantic import BaseModel
from svid.manifest.options import as_table, build

class Inner(BaseModel):
    words: frozenset[str] = frozenset()

class Options(BaseModel):
    tags: set[str] = set()
    inner: list[Inner] = []

letters = list("abcdefgh")
print(as_table(build(Options, {"tags": letters, "inner": [{"words": letters}]})))
"""


class Aliased(BaseModel):
    level: int = Field(0, alias="lvl")

    @computed_field
    def twice(self) -> int:
        return 2 * self.level


class Either(BaseModel):
    model_config = ConfigDict(validate_by_name=True)
    level: int = Field(0, validation_alias=AliasChoices("lvl", "strength"), serialization_alias="lvl")


class Secret(BaseModel):
    key: SecretStr = SecretStr("")


class Excluded(BaseModel):
    key: str = Field("", exclude=True)


class Renamed(BaseModel):
    level: int = Field(0, validation_alias="lvl")


class Endless(BaseModel):
    limit: float = float("inf")


class Dtype(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    dtype: torch.dtype = torch.float32


class Bytes(BaseModel):
    mark: bytes = b"\xff"


def test_sets_are_written_in_one_order() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PRINTS],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }
    assert said == {f"{{'tags': {list('abcdefgh')}, 'inner': [{{'words': {list('abcdefgh')}}}]}}\n"}


def test_an_alias_is_the_key_and_what_is_computed_is_none() -> None:
    options = build(Aliased, {"lvl": 3})
    assert (keys_of(Aliased), as_table(options)) == ({"lvl"}, {"lvl": 3})
    assert build(Aliased, as_table(options)) == options
    assert lost(options) == ""


def test_every_name_that_a_field_may_have_is_a_key() -> None:
    assert keys_of(Either) == {"lvl", "strength", "level"}
    for key in keys_of(Either):
        assert build_options({"p": {key: 3}}, {"p": Either}) == {"p": Either(level=3)}
    assert lost(Either(level=3)) == ""


@pytest.mark.parametrize(
    ("model", "table", "place"), [(Secret, {"key": "k1"}, "key"), (Excluded, {"key": "k1"}, "key")]
)
def test_what_can_not_be_read_again_is_refused(model: type[BaseModel], table: dict[str, Any], place: str) -> None:
    """Two manifests that differ in it would be one ask."""
    assert lost(model()) == ""
    with pytest.raises(ManifestError, match=f"options.p: what the plugin p makes of it can't be kept: {place}: is not"):
        build_options({"p": table}, {"p": model})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Renamed, "Renamed: its defaults can't be kept: level: is written under this name and read under another"),
        (Endless, "Endless: its defaults can't be kept: limit: expected a finite number, found inf"),
        (Dtype, "Dtype: expected options that are plain data, as TOML has it: pydantic_core"),
        (Bytes, "Bytes: expected options that are plain data, as TOML has it: "),
    ],
)
def test_options_that_no_ask_can_hold_are_told_when_the_plugin_is_loaded(model: type[BaseModel], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        alone({"p": stub("svid_options", cast("Any", lambda: model))}).option_models()
