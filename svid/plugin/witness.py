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
from svid.plugin.check import implementations, line_of
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

See = Callable[[By, Any], Any]
"""Given who answers and the answer, returns the answer that counts."""


def witnessed(module: ModuleType, by: Callable[[str], By], see: See) -> ModuleType:
    """A stand-in for a plugin's module with the same hooks, whose answers go through `see`. `by` names who answers a
    hook."""
    stand_in = ModuleType(module.__name__, module.__doc__)
    for name, hook, function in implementations(module):
        setattr(stand_in, name, _witnessed(function, by(hook), see))
    return stand_in


def _witnessed(function: Callable[..., Any], by: By, see: See) -> Callable[..., Any]:
    marks: dict[str, Any] = function.svid_impl  # type: ignore[attr-defined]
    wrapper = marks.get("wrapper")
    if marks.get("hookwrapper") or (wrapper and not inspect.isgeneratorfunction(function)):
        # pluggy's old kind, which returns nothing: `Plugins.call` sees what it leaves; or one that pluggy will refuse
        return function
    if wrapper:

        @functools.wraps(function)
        def around(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return see(by, (yield from _once(by, line_of(function), function(*args, **kwargs))))

        return around

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return see(by, function(*args, **kwargs))

    return call


def _once(by: By, where: str, wrapper: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Go through a wrapper; what it returns. Raises StageError where it does not yield once: pluggy would name this
    file."""
    try:
        next(wrapper)
    except StopIteration:
        raise by.wrong(f"the wrapper at {where}: expected one yield, found none", "where it declines, too") from None
    try:
        try:
            inner = yield
        except BaseException as error:  # the wrapper may have something to say to it
            wrapper.throw(error)
        else:
            wrapper.send(inner)
    except StopIteration as stop:
        return stop.value
    wrapper.close()
    raise by.wrong(f"the wrapper at {where}: expected one yield, found another")
