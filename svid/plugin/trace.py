"""SVID_TRACE=1: every call of every hook on stderr, with who answered what and how long it took."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

from svid.manifest.words import shorten
from svid.plugin.check import implementations

SWITCH = "SVID_TRACE"
"""The environment variable."""

_log = logging.getLogger("svid.trace")


class _Stderr(logging.Handler):
    """Writes to what stderr is at the time, which tests and pagers change."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def is_on() -> bool:
    """Whether SVID_TRACE asks for it; if so, makes sure that it can be seen."""
    if os.environ.get(SWITCH, "") in {"", "0"}:
        return False
    if not any(isinstance(handler, _Stderr) for handler in _log.handlers):
        _log.addHandler(_Stderr())
        _log.setLevel(logging.INFO)
        _log.propagate = False
    return True


def traced(module: ModuleType, plugin: str) -> ModuleType:
    """A stand-in for a plugin's module with the same hooks, which report every call."""
    stand_in = ModuleType(module.__name__, module.__doc__)
    for name, hook, function in implementations(module):
        setattr(stand_in, name, _traced(function, hook, plugin))
    return stand_in


def _traced(function: Callable[..., Any], hook: str, plugin: str) -> Callable[..., Any]:
    marks: Mapping[str, Any] = function.svid_impl  # type: ignore[attr-defined]
    if marks.get("wrapper") or marks.get("hookwrapper"):

        @functools.wraps(function)
        def around(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            _log.info("%s: %s goes around", hook, plugin)
            result = yield from function(*args, **kwargs)
            _log.info("%s: %s made it %s", hook, plugin, summary(result))
            return result

        return around

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            _log.info("%s: %s raised %s", hook, plugin, type(error).__name__)
            raise
        took = (time.perf_counter() - began) * 1000
        _log.info("%s: %s %s (%.1f ms)", hook, plugin, "declined" if result is None else f"-> {summary(result)}", took)
        return result

    return call


def summary(value: Any, depth: int = 2) -> str:
    """A value in a few words: a tensor as its dtype and shape, a mapping or dataclass by its fields."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(value.__name__)
    if value is None or isinstance(value, str | int | float):
        return shorten(value)
    inside: Mapping[str, Any] = {}
    if isinstance(value, Mapping):
        inside = {str(key): item for key, item in value.items()}
    elif is_dataclass(value):
        inside = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    elif isinstance(value, list | tuple):
        return f"[{summary(value[0], depth - 1)}, {len(value)} in all]" if value else "[]"
    if not inside or depth == 0:
        return type(value).__name__
    return f"{type(value).__name__}({', '.join(f'{key}={summary(item, depth - 1)}' for key, item in inside.items())})"
