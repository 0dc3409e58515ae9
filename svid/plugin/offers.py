"""What plugins offer, checked: recipes, options, and their part in a segment's ask."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from svid.api import Finding, FindingLevel, Recipe
from svid.canonical import canonical
from svid.errors import PluginError, Problem, StageError, SvidError
from svid.manifest.options import as_table, lost
from svid.manifest.words import near
from svid.plugin.blame import said
from svid.plugin.info import PluginInfo
from svid.wan.samplers import SAMPLERS

RESERVED = ("cache_version", "options")
"""Keys of an ask that svid fills in."""


def recipes(offered: Iterable[tuple[PluginInfo, Any]]) -> dict[str, Recipe]:
    """Recipes by name. Raises PluginError for what is no recipe, and for a name that two of them have."""
    found: dict[str, Recipe] = {}
    origin: dict[str, PluginInfo] = {}
    problems = []
    for info, answer in offered:
        for recipe in answer if isinstance(answer, list | tuple) else [answer]:
            if not isinstance(recipe, Recipe):
                message = f"svid_recipes: expected a list of svid.api.Recipe, found a {type(recipe).__name__}"
                problems.append(Problem(info.location, "", message))
            elif recipe.sampler not in SAMPLERS:
                message = f"recipe {recipe.name!r}: sampler: expected one of svid's, found {recipe.sampler!r}"
                problems.append(Problem(info.location, "svid_recipes", message, near(recipe.sampler, SAMPLERS)))
            elif recipe.name in found:
                message = f"recipe {recipe.name!r} is in {origin[recipe.name].location} too"
                problems.append(Problem(info.location, "svid_recipes", message, "a recipe's name must be its own"))
            else:
                found[recipe.name], origin[recipe.name] = recipe, info
    if problems:
        raise PluginError(problems)
    return found


def option_models(offered: Iterable[tuple[PluginInfo, Any]]) -> dict[str, type[BaseModel]]:
    """Models by plugin. Raises PluginError for what is no pydantic model, and for fields without a default."""
    found: dict[str, type[BaseModel]] = {}
    problems = []
    for info, model in offered:
        if not (inspect.isclass(model) and issubclass(model, BaseModel)):
            message = "svid_options: expected a class that derives from pydantic.BaseModel"
            problems.append(Problem(info.location, "", message, "return the class, not an object of it"))
            continue
        needed = [name for name, field in model.model_fields.items() if field.is_required()]
        problems += [
            Problem(
                info.location, f"{model.__name__}.{name}", "expected a default, so that a manifest may leave it out"
            )
            for name in needed
        ]
        if not needed:
            problems += _defaults(info, model)
        found[info.name] = model
    if problems:
        raise PluginError(problems)
    return found


def findings(info: PluginInfo, answer: Any) -> list[Finding]:
    """What a plugin tells the doctor; what is no finding is one."""
    found: list[Finding] = []
    for one in answer if isinstance(answer, Iterable) and not isinstance(answer, str) else [answer]:
        if isinstance(one, Finding) and one.level in get_args(FindingLevel):
            found.append(one)
        elif isinstance(one, Finding):
            levels = ", ".join(get_args(FindingLevel))
            message = f"plugin {info.name}: svid_check: level: expected one of {levels}, found {one.level!r}"
            found.append(Finding("error", f"{message}: {one.message}", one.hint))
        elif one is not None:
            message = (
                f"plugin {info.name}: svid_check: expected a list of svid.api.Finding, found a {type(one).__name__}"
            )
            found.append(Finding("error", message))
    return found


def ask(info: PluginInfo, answer: Any, options: Any) -> dict[str, Any]:
    """A plugin's part in an ask. Raises StageError for what can't be part of one."""
    if not isinstance(answer, Mapping):
        raise _wrong_ask(info, "", f"expected a mapping or None, found a {type(answer).__name__}")
    for key in RESERVED:
        if key in answer:
            raise _wrong_ask(info, key, "is a key that svid fills in; expected another name")
    part = {"cache_version": info.cache_version, **answer}
    if isinstance(options, BaseModel):
        part["options"] = as_table(options)
    elif options is not None:
        part["options"] = options
    try:
        canonical(part)
    except SvidError as error:
        raise _wrong_ask(info, error.problems[0].where, error.problems[0].message) from error
    return part


def _defaults(info: PluginInfo, model: type[BaseModel]) -> list[Problem]:
    """What is wrong with the defaults of a model: they are part of the ask of every segment."""

    def wrong(message: str) -> list[Problem]:
        return [Problem(info.location, model.__name__, message)]

    try:
        if found := lost(model()):
            return wrong(f"its defaults can't be kept: {found}")
        model.model_json_schema()
    except ValidationError as error:
        return wrong(f"its defaults are refused by itself: {error.errors()[0]['msg']}")
    except Exception as error:  # a model of a plugin may raise anything
        return wrong(f"expected options that are plain data, as TOML has it: {said(error)}")
    return []


def _wrong_ask(info: PluginInfo, key: str, message: str) -> StageError:
    return StageError(Problem(info.location, key, f"svid_ask of plugin {info.name}: {message}"))
