"""The plugins of a home, behind one object: who they are, what they offer, and calling them through their hooks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from svid import hookimpl, hookspecs
from svid.api import Finding, Job, Recipe, Segment
from svid.errors import NoStage, PluginError, Problem, StageError, SvidError
from svid.manifest.words import near
from svid.plugin import offers, trace
from svid.plugin.blame import NOT_PLUGINS, pretends, problem_of, said, stage_problem
from svid.plugin.check import ASKED, DECIDING, HOOKS, STAGES
from svid.plugin.find import find
from svid.plugin.info import Loaded, PluginInfo
from svid.plugin.load import load_source
from svid.plugin.quiet import stdout_aside
from svid.plugin.witness import By, Check, witnessed

if TYPE_CHECKING:
    import click
    from pydantic import BaseModel

_log = logging.getLogger("svid.plugin")

_PREFIX = "svid_"


class _Declined(NoStage):
    """Every plugin declined."""


class Plugins:
    """Loaded plugins, in the order in which they are asked: the first of `loaded` comes first."""

    def __init__(self, loaded: Sequence[Loaded] = ()) -> None:
        """Raises PluginError where two of them have one name or a hook does not fit its specification."""
        self._loaded = {plugin.info.name: plugin for plugin in loaded}
        if len(self._loaded) < len(loaded):
            names = [plugin.info.name for plugin in loaded]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise PluginError([Problem("plugins", name, "expected each name once, found it twice") for name in twice])
        self._pm = pluggy.PluginManager("svid")
        self._pm.add_hookspecs(hookspecs)
        self._tracing = trace.is_on()
        self._checks: dict[str, Check] = {}
        """Of the stages that are being served."""
        # pluggy asks what was registered last first
        for plugin in reversed(loaded):
            self._register(plugin)
        self._pm.register(_last_resort(), _LAST)
        self.check_pending()

    @classmethod
    def load(cls, bundled: Path, home: Path | None = None) -> Plugins:
        """The plugins of the folder `bundled`, of the folder `home` and of installed packages; those of the home are
        asked first, then packages, then the bundled ones.

        Raises PluginError with everything that is wrong with any of them.
        """
        loaded: list[Loaded] = []
        problems: list[Problem] = []
        for source in find(bundled, home):
            try:
                with stdout_aside():
                    loaded.append(load_source(source))
            except PluginError as error:
                problems += error.problems
                cause = error.__cause__
                _log.debug("plugin %s can't be loaded", source.name, exc_info=cause)
        if problems:
            raise PluginError(problems)
        return cls(loaded)

    @property
    def infos(self) -> list[PluginInfo]:
        """Every plugin, in the order in which they are asked."""
        return [plugin.info for plugin in self._loaded.values()]

    def serving(self, hook: str) -> list[str]:
        """The names of the plugins that implement a hook, in the order of the calls: wrappers come first."""
        impls = reversed(getattr(self._pm.hook, hook).get_hookimpls())
        return [impl.plugin_name for impl in impls if impl.plugin_name in self._loaded]

    def answering(self, stage: str) -> list[str]:
        """The plugins that may answer a stage themselves: not those that only go around it."""
        impls = reversed(getattr(self._pm.hook, stage).get_hookimpls())
        return [
            impl.plugin_name for impl in impls if not (impl.wrapper or impl.hookwrapper) and impl.plugin_name != _LAST
        ]

    def check_pending(self) -> None:
        """Raise PluginError for every hook that svid does not have, naming the plugin and the nearest hook."""
        problems = [
            Problem(plugin.info.location, "", f"there is no hook {hook!r}", near(hook, HOOKS))
            for plugin in self._loaded.values()
            for hook in plugin.info.hooks
            if hook not in HOOKS
        ]
        if problems:
            raise PluginError(problems)

    def require(self, stages: Sequence[str]) -> None:
        """Raise PluginError for a name in svid.toml's list of stages that is none, for a stage that no plugin serves,
        and where one is missing or not in its turn."""
        known = [stage.removeprefix(_PREFIX) for stage in STAGES]
        problems = []
        for index, written in enumerate(stages):
            where = f"chain.stages[{index}]"
            if written not in known:
                problems.append(Problem("svid.toml", where, f"there is no stage {written!r}", near(written, known)))
            elif not self.answering(_PREFIX + written):
                hint = f"plugins: {', '.join(self._loaded) or 'none'}"
                problems.append(Problem("svid.toml", where, f"no plugin serves the stage {written!r}", hint))
        if not problems and list(stages) != known:
            message = f"expected {', '.join(known)}, each once and in this order, found {', '.join(stages) or 'none'}"
            problems.append(Problem("svid.toml", "chain.stages", message))
        if problems:
            raise PluginError(problems)

    def recipes(self) -> dict[str, Recipe]:
        """Every recipe by its name. Raises PluginError where two plugins bring one name."""
        return offers.recipes(self._each("svid_recipes"))

    def option_models(self) -> dict[str, type[BaseModel]]:
        """The model of every plugin that has options, by the plugin's name. Raises PluginError for what is no model,
        and for a field without a default."""
        return offers.option_models(self._each("svid_options"))

    def ask(self, job: Job, segment: Segment) -> dict[str, dict[str, Any]]:
        """What of every plugin that takes part in a segment decides it: its svid_ask, cache version and options.

        Raises StageError where a plugin fails at it or answers with what has no canonical JSON.
        """
        asked: dict[str, dict[str, Any]] = {}
        for plugin in self._loaded.values():
            if not set(DECIDING).isdisjoint(plugin.info.hooks):
                answer = self._part(plugin, job, segment)
                if answer is not None:
                    with self.blame("svid_ask", plugin.info.name):
                        asked[plugin.info.name] = offers.ask(plugin.info, answer, job.options.get(plugin.info.name))
        return asked

    def loading(self, job: Job, segment: Segment) -> dict[str, Any]:
        """What decides a job's model beside its weights and where they are placed: the plugins that load it, with their
        cache versions and options, and the recipe, by which one that is not svid's own may choose.

        Raises StageError as `ask` does.
        """
        absent = self._absent("svid_load_model", job, segment)
        names = [name for name in self.serving("svid_load_model") if name not in absent]
        parts: dict[str, Any] = {}
        for name in names:
            with self.blame("svid_load_model", name):
                parts[name] = offers.ask(self._loaded[name].info, {}, job.options.get(name))
        foreign = any(self._loaded[name].info.kind != "bundled" for name in names)
        return {"plugins": parts, "recipe": job.recipe.name if foreign else None}

    def call(self, stage: str, job: Job, segment: Segment | None, /, check: Check | None = None, **kwargs: Any) -> Any:
        """Have a stage served. `job` and `segment` need not be repeated in `kwargs`, the rest of the hook's arguments.
        What `check` is given, each answer of a plugin, it returns or replaces, or raises StageError.

        In the stages that decide a segment, from loading to decoding, only plugins that take part in it are asked.
        Raises NoStage where all decline, StageError for whatever a plugin raises that is not of svid's; SvidError,
        Cancelled among them, passes. Frames of svid_decode come from a generator that does the same.
        """
        if stage not in ASKED:
            raise PluginError(Problem("svid", stage, "there is no such stage", near(stage, ASKED)))
        absent = self._absent(stage, job, segment)
        hook = self._pm.subset_hook_caller(stage, [self._pm.get_plugin(name) for name in absent])
        given = {"job": job, "segment": segment, **kwargs}
        assert hook.spec is not None  # noqa: S101 - every stage has one
        if check is not None:
            self._checks[stage] = check
        try:
            with self.blame(stage), stdout_aside():
                answer = hook(**{name: given[name] for name in hook.spec.argnames})
                for name in self._old_wrappers(stage, absent):
                    answer = self._see(self._by(stage, self._loaded[name].info), answer)
        except _Declined:
            raise NoStage(self._nobody(stage, job, absent)) from None
        finally:
            self._checks.pop(stage, None)
        if answer is None:
            wrappers = ", ".join(name for name in self.serving(stage) if name not in self.answering(stage))
            message = f"{stage}: the answer got lost in a wrapper ({wrappers})"
            raise StageError(
                Problem("plugins", "", message, "a wrapper returns what its `yield` gave, or its own answer")
            )
        return self._watched(stage, answer) if stage == "svid_decode" else answer

    @contextmanager
    def blame(self, stage: str, plugin: str = "") -> Iterator[None]:
        """Turn foreign exceptions into StageError that names the plugin, keeping the exception as its cause. Where none
        is in its traceback, that is `plugin`, or those that serve the stage."""
        try:
            yield
        except NOT_PLUGINS:
            raise
        except BaseException as error:  # a plugin may raise anything; whatever it is fails the job, not us
            feigned = isinstance(error, SvidError) and pretends(error, self._loaded.values())
            if isinstance(error, SvidError) and not feigned:
                raise
            problem = stage_problem(error, stage, self._loaded.values(), [plugin] if plugin else self.serving(stage))
            raise StageError(problem) from None if feigned else error

    def culprit(self, error: BaseException) -> Problem | None:
        """A foreign exception, whatever was being done, as a problem of the plugin whose code raised it; None where the
        code of none is in its traceback."""
        return problem_of(error, self._loaded.values())

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell every plugin of an event. What a plugin raises is logged with its name and goes no further."""
        for plugin in self._loaded.values():
            if "svid_event" in plugin.info.hooks:
                try:
                    self._alone(plugin, "svid_event", event=event)
                except NOT_PLUGINS:
                    raise
                except BaseException as error:  # telling is a courtesy; rendering goes on whoever listens
                    _log.warning("plugin %s: svid_event raised %s", plugin.info.name, said(error), exc_info=error)

    def findings(self) -> list[Finding]:
        """What the plugins tell `svid doctor`; a plugin that fails at it is a finding of its own."""
        found: list[Finding] = []
        for plugin in self._loaded.values():
            if "svid_check" in plugin.info.hooks:
                try:
                    found += offers.findings(plugin.info, self._alone(plugin, "svid_check"))
                except (Exception, SystemExit) as error:  # a doctor that dies of a patient helps nobody
                    found.append(Finding("error", f"plugin {plugin.info.name}: svid_check raised {said(error)}"))
        return found

    def commands(self, cli: click.Group) -> None:
        """Let every plugin add its commands. Raises PluginError where one fails at it."""
        for _ in self._each("svid_commands", cli=cli):
            pass

    def _register(self, plugin: Loaded) -> None:
        name = plugin.info.name
        module = trace.traced(plugin.module, name) if self._tracing else plugin.module
        module = witnessed(module, lambda hook: self._by(hook, plugin.info), self._see)
        try:
            self._pm.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(Problem(plugin.info.location, "", f"does not fit svid's hooks: {said(error)}")) from error

    def _by(self, hook: str, info: PluginInfo) -> By:
        return By(info, hook, lambda: self.blame(hook, info.name))

    def _see(self, by: By, answer: Any) -> Any:
        """What counts of a plugin's answer, which is checked where the stage that is being served has a check."""
        check = self._checks.get(by.hook)
        return answer if check is None or answer is None else check(by, answer)

    def _old_wrappers(self, stage: str, absent: Sequence[str]) -> list[str]:
        """The wrappers of pluggy's older kind that have gone around a stage, the outermost last."""
        impls = getattr(self._pm.hook, stage).get_hookimpls()
        return [impl.plugin_name for impl in impls if impl.hookwrapper and impl.plugin_name not in absent]

    def _alone(self, plugin: Loaded, hook: str, **kwargs: Any) -> Any:
        """Call one plugin's implementation of a hook that has no first answer; None where it says nothing."""
        others = [other for name, other in self._pm.list_name_plugin() if name != plugin.info.name]
        with stdout_aside():
            answers = self._pm.subset_hook_caller(hook, others)(**kwargs)
        return answers[0] if answers else None

    def _part(self, plugin: Loaded, job: Job, segment: Segment) -> Mapping[str, Any] | None:
        if "svid_ask" not in plugin.info.hooks:
            return {}
        with self.blame("svid_ask", plugin.info.name):
            answer: Mapping[str, Any] | None = self._alone(plugin, "svid_ask", job=job, segment=segment)
        return answer

    def _each(self, hook: str, **kwargs: Any) -> Iterator[tuple[PluginInfo, Any]]:
        """What every plugin that implements a hook says. Raises PluginError where one fails at it."""
        for plugin in self._loaded.values():
            if hook in plugin.info.hooks:
                try:
                    answer = self._alone(plugin, hook, **kwargs)
                except SvidError:
                    raise
                except (Exception, SystemExit) as error:  # a plugin may raise anything
                    problem = Problem(plugin.info.location, "", f"{hook}: raised {said(error)}")
                    raise PluginError(problem) from error
                yield plugin.info, answer

    def _absent(self, stage: str, job: Job, segment: Segment | None) -> list[str]:
        """The plugins that serve a stage but take no part in this segment."""
        if segment is None or stage not in DECIDING:
            return []
        serving = self.serving(stage)
        return [name for name in serving if self._part(self._loaded[name], job, segment) is None]

    def _nobody(self, stage: str, job: Job, absent: Sequence[str]) -> Problem:
        asked = [name for name in self.answering(stage) if name not in absent]
        message = f"no plugin served {stage} for the variant {job.recipe.variant!r}"
        message += f"; asked: {', '.join(asked) or 'none'}"
        if absent:
            message += f"; not taking part: {', '.join(absent)}"
        return Problem("plugins", stage, message, "`svid plugins` lists who serves what; SVID_TRACE=1 shows every call")

    def _watched(self, stage: str, answer: Any) -> Iterator[Any]:
        # the frames are made while they are taken, long after the hook has returned
        with self.blame(stage):
            yield from answer


_LAST = "svid"


def _last_resort() -> ModuleType:
    """A plugin that is asked after all others and raises, so that no wrapper has to reckon with an answer of None."""
    module = ModuleType("svid_last_resort")
    for stage in ASKED:

        def declined(job: Job) -> None:
            raise _Declined

        setattr(module, stage, hookimpl(trylast=True)(declined))
    return module
