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
    """Hooks that would never be asked, unknown ones, wrong arguments, a CACHE_VERSION that is none."""
    yield from _unmarked(module, shown)
    yield from _out_of_reach(module, shown)
    seen: dict[str, str] = {}
    for _, name, function in implementations(module):
        where = line_of(function)
        if name not in HOOKS:
            full = name if name.startswith("svid_") else f"svid_{name}"
            yield Problem(shown, where, f"there is no hook {name!r}", near(full, HOOKS))
        else:
            yield from _arguments(name, function, shown, where)
            yield from _alone(name, function, shown, seen.setdefault(name, where))
    version = getattr(module, "CACHE_VERSION", 0)
    if isinstance(version, bool) or not isinstance(version, int | str):
        message = f"expected CACHE_VERSION to be a whole number or text, found a {type(version).__name__}"
        yield Problem(shown, "", message)


def _unmarked(module: ModuleType, shown: str) -> Iterator[Problem]:
    for name, value in vars(module).items():
        marked = hasattr(value, "svid_impl") or hasattr(value, "svid_spec")
        if name.startswith("svid_") and inspect.isroutine(value) and not marked:
            message = f"{name} has the name of a hook but is not marked as one, so it would never be called"
            yield Problem(shown, line_of(value), message, "write @svid.hookimpl above it, or give it another name")


def _out_of_reach(module: ModuleType, shown: str) -> Iterator[Problem]:
    """What is marked as a hook but is no function of the module: in a class, or an object that can be called."""
    hint = "hooks are functions of the module"
    for name, value in vars(module).items():
        if inspect.isclass(value):
            if value.__module__ == module.__name__:
                for inner, method in vars(value).items():
                    if _marked(getattr(method, "__func__", method)):
                        yield Problem(shown, f"{name}.{inner}", "is in a class, so it would never be asked", hint)
        elif _marked(value) and not inspect.isroutine(value):
            message = f"is marked as a hook but is a {type(value).__name__}, so it would never be asked"
            yield Problem(shown, name, message, hint)


def _marked(value: Any) -> bool:
    return isinstance(getattr(value, "svid_impl", None), dict)


def _alone(name: str, function: Callable[..., Any], shown: str, first: str) -> Iterator[Problem]:
    """What holds for hooks that every plugin answers for itself: no wrappers, and one implementation."""
    if name in ASKED:
        return
    marks, where = function.svid_impl, line_of(function)  # type: ignore[attr-defined]
    if marks.get("wrapper") or marks.get("hookwrapper"):
        yield Problem(shown, where, f"{name}: expected no wrapper: only stages have something to go around")
    if where != first:
        yield Problem(shown, where, f"{name}: expected it once, found it at {first} too")


def _arguments(name: str, function: Callable[..., Any], shown: str, where: str) -> Iterator[Problem]:
    offered = list(inspect.signature(HOOKS[name]).parameters)
    for argument in inspect.signature(function).parameters.values():
        if argument.kind in {argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.KEYWORD_ONLY}:
            message = f"{name}: expected plain arguments, found {argument}, which hooks are not given"
            yield Problem(shown, where, message, f"{name}({', '.join(offered)})")
        elif argument.name not in offered:
            message = f"{name}: expected arguments out of {', '.join(offered) or 'none'}, found {argument.name!r}"
            yield Problem(shown, where, message, near(argument.name, offered) if offered else "")


def line_of(function: Callable[..., Any]) -> str:
    """Where a function is in its file, `line 12`; empty where that can't be told."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"line {code.co_firstlineno}" if code else ""
