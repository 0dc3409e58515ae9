"""Whose exception is this? A traceback names files; plugins are files."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

from svid.errors import Cancelled, NotFound, Problem, Refused
from svid.memory import ran_out
from svid.plugin.find import shown
from svid.plugin.info import Loaded

_MAX_SHOWN = 500

NOT_PLUGINS = (KeyboardInterrupt, GeneratorExit)
"""What ends svid's own work when it is raised inside a plugin, and is not the plugin's."""


def said(error: BaseException) -> str:
    """An exception's type and message, as Python prints them, in one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a __str__ of a plugin's own may raise anything, and must not hide what happened
        text = "(its message can't be shown)"
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return f"{name}: {text[:_MAX_SHOWN]}" if text else name


def problem_of(error: BaseException, plugins: Iterable[Loaded], stage: str = "") -> Problem | None:
    """A foreign exception as a problem: the plugin that is innermost in its traceback, file and line there, and where
    it was raised, if that is deeper. None where the traceback names no plugin."""
    plugins = list(plugins)
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        for plugin in plugins:
            if Path(frame.filename).is_relative_to(plugin.root):
                message = f"{stage}: " if stage else ""
                message += f"plugin {plugin.info.name} raised {said(error)}"
                if frame is not frames[-1]:
                    message += f", at {shown(Path(frames[-1].filename))} line {frames[-1].lineno}"
                return Problem(shown(Path(frame.filename)), f"line {frame.lineno}", message, _hint(error))
    return None


def pretends(error: BaseException, plugins: Iterable[Loaded]) -> bool:
    """Whether a plugin that is not svid's own has raised, itself, an error of the store or of the daemon: what only
    svid can know, and what would stop the work of others."""
    if isinstance(error, (Refused, NotFound, Cancelled)) or error.__traceback__ is None:
        return False
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(plugin.info.kind != "bundled" and raised.is_relative_to(plugin.root) for plugin in plugins)


def stage_problem(error: BaseException, stage: str, plugins: Iterable[Loaded], serving: Iterable[str]) -> Problem:
    """The same while a stage is served. `serving` are the plugins to name where the traceback names none."""
    found = problem_of(error, plugins, stage)
    if found is not None:
        return found
    names = ", ".join(serving)
    return Problem(f"plugins {names}" if names else "plugins", "", f"{stage}: raised {said(error)}", _hint(error))


def _hint(error: BaseException) -> str:
    if ran_out(error):
        return "out of memory: fewer frames or a smaller width and height need less"
    return ""
