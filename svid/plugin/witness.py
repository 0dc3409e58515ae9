"""Who answers a hook with what: pluggy gives the answer alone, and a wrong one is to be told with a name, before a
wrapper or the next stage sees it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from svid.errors import Problem, StageError
from svid.plugin.check import implementations
from svid.plugin.info import PluginInfo


@dataclass(frozen=True)
class By:
    """The plugin that answers a hook."""

    info: PluginInfo
    hook: str
    blame: Callable[[], AbstractContextManager[None]]
    """Makes a context in which what its code raises becomes a StageError with its name."""

    def wrong(self, message: str, hint: str = "") -> StageError:
        """The error that its answer is, `message` being what was expected and what was found."""
        return StageError(Problem(self.info.location, self.hook, f"plugin {self.info.name}: {message}", hint))


Check = Callable[[By, Any], Any]
"""Looks at an answer that is not None and returns it, or what stands for it. Raises StageError."""

See = Callable[[str, str, Any], Any]
"""Given hook, plugin and answer, returns the answer that counts."""


def witnessed(module: ModuleType, plugin: str, see: See) -> ModuleType:
    """A stand-in for a plugin's module with the same hooks, whose answers go through `see`."""
    stand_in = ModuleType(module.__name__, module.__doc__)
    for name, hook, function in implementations(module):
        setattr(stand_in, name, _witnessed(function, hook, plugin, see))
    return stand_in


def _witnessed(function: Callable[..., Any], hook: str, plugin: str, see: See) -> Callable[..., Any]:
    marks: dict[str, Any] = function.svid_impl  # type: ignore[attr-defined]
    wrapper = marks.get("wrapper")
    if marks.get("hookwrapper") or (wrapper and not inspect.isgeneratorfunction(function)):
        # pluggy's old kind, which returns nothing: `Plugins.call` sees what it leaves; or one that pluggy will refuse
        return function
    if wrapper:

        @functools.wraps(function)
        def around(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return see(hook, plugin, (yield from function(*args, **kwargs)))

        return around

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return see(hook, plugin, function(*args, **kwargs))

    return call
