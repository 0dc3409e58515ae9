"""Manifests that change within what the schema allows: most mistakes that matter are made with values that are fine."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

from svid.config import Config, read_config
from svid.home import bundled_dir
from svid.manifest.schema import json_schema
from svid.media.codecs import CODECS
from svid.plugin.manager import Plugins
from svid.wan.samplers import SAMPLERS

TEXTS = (
    *(
        "a boat, the camera makes a hard cut",
        "the sea",
        "b",
        "x" * 500,
        "한국어 " * 9,
        "e\u0301\u0301\u0301",
        "\u202eab",
    ),
    *("𠮷" * 80, "🙂" * 60, ".", "..", "-", "a/b", "a\\b", "CON", "%s %d", "{x}", "'; --", '"', "&lt;b&gt;"),
    *("\ud800", "\x07"),
)
PICTURES, CLIPS = ("harbour.png", "gull.png", "asset:" + "0" * 64), ("film.mp4", "film.mkv")
STEPS = {"frames": 4}
"""Beside `multipleOf`."""


@functools.cache
def bundled() -> tuple[Config, Plugins]:
    """What a fresh home has."""
    return read_config(bundled_dir() / "svid.toml"), Plugins.load(bundled_dir() / "plugins")


@functools.cache
def names() -> dict[str, Sequence[str]]:
    """What strings may stand under a key that are no free text."""
    config, plugins = bundled()
    found: dict[str, Sequence[str]] = {"recipe": sorted(plugins.recipes()), "model": sorted(config.models)}
    found |= {"sampler": tuple(SAMPLERS), "codec": tuple(CODECS), "clip": CLIPS, "$schema": ("x",)}
    found |= {"extend": ("v",), "branch": ("v@1", "v@2")}
    found |= dict.fromkeys(("loras.name", "lora"), sorted(config.lora_names()))
    return found | dict.fromkeys(("image", "anchor", "anchors", "end_image"), PICTURES)


@functools.cache
def _schema() -> dict[str, Any]:
    return json_schema({})


def varied(data: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """A manifest with one key changed, added or taken away; of a table that it has, rather one of its keys."""
    return _varied(data, _schema(), dice)


def _varied(table: dict[str, Any], schema: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    if table and dice.random() < 0.15:
        gone = dice.choice(list(table))
        return {key: value for key, value in table.items() if key != gone}
    places: dict[str, Any] = schema.get("properties", {})
    if not places:
        return table
    key = dice.choice(list(places))
    inner = _resolved(places[key])
    if inner.get("properties") and isinstance(table.get(key), dict) and dice.random() < 0.8:
        return {**table, key: _varied(table[key], inner, dice)}
    return {**table, key: _value(inner, key, dice)}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _value(schema: dict[str, Any], key: str, dice: random.Random) -> Any:
    schema = _resolved(schema)
    if "anyOf" in schema:
        return _value(dice.choice(schema["anyOf"]), key, dice)
    if "enum" in schema:
        return dice.choice(schema["enum"])
    return MAKERS[schema["type"]](schema, key, dice)


def _text(schema: dict[str, Any], key: str, dice: random.Random) -> str:
    return dice.choice(names().get(key, TEXTS))


def _whole(schema: dict[str, Any], key: str, dice: random.Random) -> int:
    low, high = schema.get("minimum", 0), schema.get("maximum", 100)
    step = schema.get("multipleOf", STEPS.get(key, 1))
    return high if dice.random() < 0.05 else min(high, low + step * dice.choice((0, 0, 1, 1, 2, 3, 4, 9)))


def _number(schema: dict[str, Any], key: str, dice: random.Random) -> float:
    low, high = schema.get("minimum", 0.01), schema.get("maximum", 100.0)
    return dice.choice((low, high, 1.0, min(high, low + 0.9), min(high, low + 15), round(dice.uniform(low, high), 3)))


def _list(schema: dict[str, Any], key: str, dice: random.Random) -> list[Any]:
    inner = schema.get("prefixItems") or [schema["items"]] * dice.choice((1, 1, 2, 3))
    return [_value(one, key, dice) for one in inner]


def _table(schema: dict[str, Any], key: str, dice: random.Random) -> dict[str, Any]:
    required = schema.get("required", ())
    places = schema.get("properties", {})
    return {
        name: _value(one, f"{key}.{name}" if f"{key}.{name}" in names() else name, dice)
        for name, one in places.items()
        if name in required or dice.random() < 1.5 / len(places)
    }


MAKERS = {
    "string": _text,
    "integer": _whole,
    "number": _number,
    "boolean": lambda schema, key, dice: dice.random() < 0.5,
    "array": _list,
    "object": _table,
}
