"""Read a manifest: `parse` its bytes, then `validate` the data. Errors read like a compiler's, and come all at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from svid.errors import Problem
from svid.manifest.across import across
from svid.manifest.model import Manifest
from svid.manifest.options import build, keys_of, lost
from svid.manifest.syntax import MAX_BYTES, parse
from svid.manifest.tables import Conditioning, Cut, Decode, Encode, End, Guidance, LoraUse, Sample
from svid.manifest.words import at, expected, near, place, refuse, shorten

__all__ = ["MAX_BYTES", "Known", "build_options", "handed_on", "parse", "validate"]

_TABLES: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Manifest,
    ("sample",): Sample,
    ("sample", "guidance"): Guidance,
    ("loras",): LoraUse,
    ("cuts",): Cut,
    ("ends",): End,
    ("conditioning",): Conditioning,
    ("decode",): Decode,
    ("encode",): Encode,
}


@dataclass(frozen=True)
class Known:
    """The names that a manifest may use in this home."""

    recipes: Collection[str] = ()
    models: Collection[str] = ()
    loras: Collection[str] = ()
    samplers: Collection[str] = ()
    codecs: Collection[str] = ()


def validate(data: dict[str, Any], shown: str, options: Mapping[str, type[BaseModel]], known: Known) -> Manifest:
    """The manifest that `parse` found the data of. `options` are the plugins' models of their own tables.

    Raises ManifestError with every mistake: unknown keys and names, wrong values, rules between fields, plugin options.
    """
    refuse(_mistakes(data, shown, options, known))
    return Manifest.model_validate(data)


def _mistakes(
    data: dict[str, Any], shown: str, options: Mapping[str, type[BaseModel]], known: Known
) -> Iterator[Problem]:
    try:
        Manifest.model_validate(data)
    except ValidationError as error:
        yield from _in_fields(error, data, (), shown)
    for fault in across(data):
        yield Problem(shown, *fault)
    yield from _in_names(data, shown, known)
    yield from _in_options(data.get("options"), shown, options)


def build_options(
    tables: Mapping[str, Mapping[str, Any]], options: Mapping[str, type[BaseModel]]
) -> dict[str, BaseModel]:
    """The options of every plugin, by name, with defaults where a manifest says nothing. Raises ManifestError."""
    refuse(_in_options(tables, "manifest", options))
    return {name: build(model, tables.get(name, {})) for name, model in options.items()}


def handed_on(
    tables: Mapping[str, Mapping[str, Any]], shown: str, options: Mapping[str, type[BaseModel]]
) -> Iterator[Problem]:
    """What is wrong with options that a job takes over from a video: a plugin may be gone, or have others by now."""
    for plugin, table in tables.items():
        for problem in _in_options({plugin: table}, shown, options):
            message = f"{problem.message}; the video that is gone on with hands it on"
            yield replace(problem, message=message, hint=f'drop_options = ["{plugin}"] leaves out what it hands on')


def _in_fields(
    error: ValidationError, data: Mapping[str, Any], under: tuple[str, ...], shown: str
) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        loc, kind = tuple(detail["loc"]), detail["type"]
        if kind == "across":
            continue
        reached, found = at(data, loc)
        where = place((*under, *reached))
        if kind == "extra_forbidden":
            yield Problem(shown, where, "unknown key", _misplaced((*under, *loc)))
        elif kind == "too_short" and len(found) >= detail["ctx"]["min_length"]:
            continue  # pydantic counts the entries that it took; those that it refused have an error of their own
        else:
            yield Problem(shown, where, expected({**detail, "input": found} if kind != "missing" else {**detail}))


def _misplaced(loc: tuple[str | int, ...]) -> str:
    """A hint for an unknown key: where it belongs, if that is another table, or the key that it looks like."""
    table, key = tuple(part for part in loc[:-1] if isinstance(part, str)), str(loc[-1])
    here = _TABLES.get(table)
    if here is None:
        return ""
    # What is at the top was not put there by a [table] before it, so a key that is nearly one of the top is meant.
    if key not in here.model_fields and not (
        table == () and difflib.get_close_matches(key[:200], here.model_fields, 1, 0.85)
    ):
        for other, model in _TABLES.items():
            if key in model.model_fields and other == ():
                return f"{key} belongs at the top, above the first [table]"
            if key in model.model_fields and len(other) == 1:
                lists = {"loras", "cuts", "ends"}
                return f"{key} belongs into [[{other[0]}]]" if other[0] in lists else f"{key} belongs into [{other[0]}]"
    return near(key, here.model_fields)


def _in_names(data: Mapping[str, Any], shown: str, known: Known) -> Iterator[Problem]:
    for loc, kind, name, names in _names(data, known):
        if isinstance(name, str) and name.strip() and name not in names:
            yield Problem(
                shown, place(loc), f"expected a {kind} of this home, found {shorten(name)}", near(name, names)
            )


def _names(data: Mapping[str, Any], known: Known) -> Iterator[tuple[tuple[str | int, ...], str, Any, Collection[str]]]:
    yield ("recipe",), "recipe", data.get("recipe"), known.recipes
    yield ("model",), "model", data.get("model"), known.models
    yield ("sample", "sampler"), "sampler", at(data, ("sample", "sampler"))[1], known.samplers
    yield ("encode", "codec"), "codec", at(data, ("encode", "codec"))[1], known.codecs
    for key, field, default in (("loras", "name", None), ("cuts", "lora", Cut.model_fields["lora"].default)):
        entries = data.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
            if isinstance(entry, Mapping):
                yield (key, index, field), "LoRA", entry.get(field, default), known.loras


def _in_options(tables: Any, shown: str, options: Mapping[str, type[BaseModel]]) -> Iterator[Problem]:
    for plugin, table in tables.items() if isinstance(tables, Mapping) else ():
        where = ("options", plugin)
        if plugin not in options:
            message = f"expected a plugin that has options, found {shorten(plugin)}"
            yield Problem(shown, place(where), message, near(plugin, options))
        elif isinstance(table, Mapping):
            yield from _in_table(table, where, shown, options[plugin])


def _in_table(
    table: Mapping[str, Any], under: tuple[str, ...], shown: str, model: type[BaseModel]
) -> Iterator[Problem]:
    keys = keys_of(model)
    unknown = [key for key in table if key not in keys] if model.model_config.get("extra") != "allow" else []
    for key in unknown:
        yield Problem(shown, place((*under, key)), "unknown key", near(key, keys))
    try:
        built = build(model, {key: value for key, value in table.items() if key not in unknown})
        if wrong := lost(built):
            yield Problem(shown, place(under), f"what the plugin {under[-1]} makes of it can't be kept: {wrong}")
    except ValidationError as error:
        yield from _in_fields(error, table, under, shown)
    except Exception as error:  # a plugin's own validators may raise anything; that is a fault of the plugin
        said = f"{type(error).__name__}: {error}"
        yield Problem(shown, place(under), f"the plugin {under[-1]} failed to check its options: {said}")
