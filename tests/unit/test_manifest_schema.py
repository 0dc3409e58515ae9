"""The JSON Schema: complete, described, without null, with the options of every plugin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from svid.manifest.model import Manifest
from svid.manifest.schema import DIALECT, json_schema


class Inner(BaseModel):
    size: int = 1


class Tint(BaseModel):
    """Tints."""

    amount: float = Field(0.0, ge=0, le=1, description="how much")
    colour: str | None = Field(None, description="which")
    inner: Inner = Inner()


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(item)


def test_it_is_a_schema_of_2020_12_in_plain_json() -> None:
    schema = json_schema({"tint": Tint})
    assert schema["$schema"] == DIALECT
    assert schema["title"] == "svid manifest"
    assert "$id" not in schema
    assert json.loads(json.dumps(schema)) == schema


def test_every_key_of_a_manifest_is_in_it_and_described() -> None:
    schema = json_schema({})
    assert set(schema["properties"]) == {"$schema", *Manifest.model_fields}
    assert schema["additionalProperties"] is False
    tables = [schema, *schema["$defs"].values()]
    for table in tables:
        for name, field in table["properties"].items():
            assert name == "$schema" or field.get("description"), name


def test_there_is_no_null_and_no_default_that_says_nothing() -> None:
    for node in nodes(json_schema({"tint": Tint})):
        assert node.get("type") != "null"
        assert node.get("default", 0) is not None
        assert node.get("default", 0) not in ({}, [])


def test_plugins_bring_their_options() -> None:
    schema = json_schema({"tint": Tint, "also": Tint})
    options = schema["properties"]["options"]
    assert list(options["properties"]) == ["also", "tint"]
    assert options["additionalProperties"] is False
    tint = schema["$defs"][options["properties"]["tint"]["$ref"].rpartition("/")[2]]
    assert tint["properties"]["amount"]["maximum"] == 1
    assert tint["properties"]["colour"]["type"] == "string"


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema({"tint": Tint})
    for node in nodes(schema):
        if "$ref" in node:
            assert node["$ref"].rpartition("/")[2] in schema["$defs"]


def test_two_plugins_may_call_their_models_alike() -> None:
    class Options(BaseModel):
        a: int = 1

    first = Options

    class Options(BaseModel):  # type: ignore[no-redef]
        b: int = 2

    schema = json_schema({"one": first, "two": Options})
    properties = schema["properties"]["options"]["properties"]
    one, two = (schema["$defs"][properties[name]["$ref"].rpartition("/")[2]] for name in ("one", "two"))
    assert (set(one["properties"]), set(two["properties"])) == ({"a"}, {"b"})


def test_the_ways_to_begin_are_in_it() -> None:
    ways = [["image", "prompts"], ["clip", "prompts"], ["extend"], ["branch"], ["redo"], ["reproduce"]]
    assert [way["required"] for way in json_schema({})["oneOf"]] == ways
