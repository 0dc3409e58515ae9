"""Small manifests, what they may name, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from svid.errors import ManifestError, Problem
from svid.manifest.model import Manifest
from svid.manifest.read import Known, validate

KNOWN = Known(
    recipes=["svi-2.0-pro", "svi-film", "i2v"],
    models={"wan22-mini", "wan22-a14b"},
    loras=["lightx2v-1022", "hard-cut"],
    samplers=["euler", "unipc"],
    codecs=["h264", "ffv1"],
)


class TintOptions(BaseModel):
    model_config = ConfigDict(frozen=True)
    amount: float = Field(0.0, ge=0, le=1)
    colours: tuple[str, ...] = ()

    @field_validator("colours")
    @classmethod
    def known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "plaid" in value:
            raise ValueError("expected colours, not patterns")
        return value


OPTIONS: dict[str, type[BaseModel]] = {"tint": TintOptions}

NEW: dict[str, Any] = {"image": "harbour.png", "prompts": ["boats rest at anchor"]}
MORE: dict[str, Any] = {"extend": "harbour"}


def check(data: dict[str, Any]) -> Manifest:
    return validate(data, "m.toml", OPTIONS, KNOWN)


def problems(data: dict[str, Any]) -> list[Problem]:
    with pytest.raises(ManifestError) as caught:
        check(data)
    return list(caught.value.problems)


def one(data: dict[str, Any]) -> Problem:
    found = problems(data)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]
