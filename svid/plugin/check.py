"""Mistakes that can be told from a plugin's module alone. Most of them would otherwise be silent: a hook that is never
asked, or one that fails on its first call, hours into a video."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from svid import config, hookspecs
from svid.errors import Problem
from svid.manifest.words import near

HOOKS: Mapping[str, Callable[..., Any]] = {
    name: function for name, function in vars(hookspecs).items() if hasattr(function, "svid_spec")
}
"""Every hook, in the order of the hookspecs."""

ASKED = tuple(name for name, function in HOOKS.items() if function.svid_spec["firstresult"])  # type: ignore[attr-defined]
"""The hooks that take the first answer."""

STAGES = tuple(f"svid_{stage}" for stage in config.STAGES)
"""The stages of the chain, in order, which are asked so."""

DECIDING = (*STAGES[:5], "svid_import")
"""The stages that decide a segment: a plugin that serves one of them stands in the segment's ask."""


def implementations(module: ModuleType) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """What a module has marked with @hookimpl: its name in the module, the name of the hook, the function."""
    for name, value in vars(module).items():
        marks = getattr(value, "svid_impl", None) if inspect.isroutine(value) else None
        if isinstance(marks, dict):
            yield name, marks.get("specname") or name, value


def hooks_of(module: ModuleType) -> tuple[str, ...]:
    """The names of the hooks that a module implements, sorted."""
    return tuple(sorted({hook for _, hook, _ in implementations(module)}))


def check_module(module: ModuleType, shown: str) -> Iterator[Problem]:
    """Unmarked and unknown hooks, wrong arguments, a CACHE_VERSION that is none."""
    yield from _unmarked(module, shown)
    for _, name, function in implementations(module):
        where = _line(function)
        if name not in HOOKS:
            full = name if name.startswith("svid_") else f"svid_{name}"
            yield Problem(shown, where, f"there is no hook {name!r}", near(full, HOOKS))
        else:
            yield from _arguments(name, function, shown, where)
    version = getattr(module, "CACHE_VERSION", 0)
    if isinstance(version, bool) or not isinstance(version, int | str):
        message = f"expected CACHE_VERSION to be a whole number or text, found a {type(version).__name__}"
        yield Problem(shown, "", message)


def _unmarked(module: ModuleType, shown: str) -> Iterator[Problem]:
    for name, value in vars(module).items():
        marked = hasattr(value, "svid_impl") or hasattr(value, "svid_spec")
        if name.startswith("svid_") and inspect.isroutine(value) and not marked:
            message = f"{name} has the name of a hook but is not marked as one, so it would never be called"
            yield Problem(shown, _line(value), message, "write @svid.hookimpl above it, or give it another name")


def _arguments(name: str, function: Callable[..., Any], shown: str, where: str) -> Iterator[Problem]:
    offered = list(inspect.signature(HOOKS[name]).parameters)
    for argument in inspect.signature(function).parameters.values():
        if argument.kind in {argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.KEYWORD_ONLY}:
            message = f"{name}: expected plain arguments, found {argument}, which hooks are not given"
            yield Problem(shown, where, message, f"{name}({', '.join(offered)})")
        elif argument.name not in offered:
            message = f"{name}: expected arguments out of {', '.join(offered) or 'none'}, found {argument.name!r}"
            yield Problem(shown, where, message, near(argument.name, offered) if offered else "")


def _line(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"line {code.co_firstlineno}" if code else ""
