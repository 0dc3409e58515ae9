"""Asking plugins: who is asked, what counts as an answer, and what happens to exceptions."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from svid import hookimpl, testing
from svid.api import Finding, Recipe
from svid.errors import Cancelled, LoraError, ManifestError, NoStage, PluginError, StageError, SvidError
from svid.plugin import Plugins
from svid.plugin.check import HOOKS, STAGES
from svid.testing import load, make_job, make_segment, stub

svid_plugins = testing.svid_plugins
"""Here as well as from the entry point, for a checkout that is not installed."""

MORE = {"model": None, "conditioning": None, "progress": None, "checkpoint": None}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SVID_TRACE", raising=False)


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a plugin file."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text("from svid import hookimpl\n" + text)
        return path

    return write


def alone(*given: Any) -> Plugins:
    return load(*given, bundled=False)


def sample(plugins: Plugins, **job: Any) -> Any:
    return plugins.call("svid_sample", make_job(plugins, **job), make_segment(), **MORE)


def answering(name: str, answer: Any) -> dict[str, Any]:
    return {name: stub("svid_sample", lambda: answer)}


def test_the_first_answer_counts() -> None:
    assert sample(alone(answering("a", None), answering("b", 2), answering("c", 3))) == 2


def test_an_answer_may_be_empty() -> None:
    assert sample(alone(answering("a", {}), answering("b", 2))) == {}


def test_arguments_reach_the_plugin_as_far_as_it_takes_them() -> None:
    seen = {}

    def svid_sample(segment: Any, job: Any, progress: Any) -> int:
        seen.update(segment=segment, job=job, progress=progress)
        return 1

    plugins, job, segment = alone(stub("svid_sample", svid_sample)), make_job(), make_segment()
    more = {"model": None, "conditioning": None, "progress": "p", "checkpoint": None}
    plugins.call("svid_sample", job, segment, job=job, segment=segment, **more)
    assert seen == {"segment": segment, "job": job, "progress": "p"}


def test_when_nobody_answers_the_error_says_who_was_asked() -> None:
    takes_no_part = stub("svid_sample", lambda: 1)
    takes_no_part.svid_ask = hookimpl(lambda: None)  # type: ignore[attr-defined]
    with pytest.raises(NoStage) as caught:
        sample(alone(answering("a", None), answering("b", None), {"c": takes_no_part}))
    (problem,) = caught.value.problems
    assert problem.where == "svid_sample"
    assert "for the variant 'test'; asked: a, b; not taking part: c" in problem.message
    assert "svid plugins" in problem.hint


def test_when_nobody_is_there() -> None:
    with pytest.raises(NoStage, match="asked: none"):
        sample(alone())


def test_a_stage_that_is_none() -> None:
    with pytest.raises(PluginError, match=r"svid_smaple: there is no such stage \(did you mean svid_sample"):
        alone().call("svid_smaple", make_job(), None)


def around(change: Callable[[Any], Any]) -> Any:
    def svid_sample(job: Any) -> Iterator[None]:
        answer = yield
        return change(answer)

    module = stub("svid_sample", lambda: None)
    module.svid_sample = hookimpl(wrapper=True)(svid_sample)  # type: ignore[attr-defined]
    return module


def test_wrappers_change_the_answer_from_inside_out() -> None:
    plugins = alone(
        answering("a", 1), {"twice": around(lambda answer: answer * 2)}, {"more": around(lambda answer: answer + 1)}
    )
    assert plugins.serving("svid_sample") == ["twice", "more", "a"]
    assert plugins.answering("svid_sample") == ["a"]
    assert sample(plugins) == 4


def test_no_wrapper_ever_sees_that_nobody_answered() -> None:
    with pytest.raises(NoStage, match=r"asked: a \("):
        sample(alone(answering("a", None), {"w": around(lambda answer: answer["latents"])}))


def test_a_wrapper_that_forgets_to_return_is_named() -> None:
    with pytest.raises(StageError, match=r"got lost in a wrapper \(w\)"):
        sample(alone(answering("a", 1), {"w": around(lambda answer: None)}))


def test_a_plugin_that_takes_no_part_is_not_asked(plugin: Callable[[str, str], Path]) -> None:
    shy = plugin(
        "shy",
        "@hookimpl\ndef svid_ask(job):\n    return None\n"
        "@hookimpl\ndef svid_sample():\n    raise ValueError\n"
        "@hookimpl\ndef svid_load_model():\n    return 'loaded'\n"
        "@hookimpl\ndef svid_encode():\n    return 'encoded'\n",
    )
    plugins = alone(shy, answering("a", 1))
    assert plugins.ask(make_job(), make_segment()).keys() == {"a"}
    assert sample(plugins) == 1
    # what is not about one segment asks all
    assert plugins.call("svid_load_model", make_job(), make_segment(), device="cpu") == "loaded"
    assert plugins.call("svid_encode", make_job(), make_segment(), frames=[], out=Path("x")) == "encoded"


def test_the_ask_of_a_plugin(plugin: Callable[[str, str], Path]) -> None:
    path = plugin(
        "tint",
        """
from pydantic import BaseModel
CACHE_VERSION = 7

class Options(BaseModel):
    amount: float = 0.5

@hookimpl
def svid_options():
    return Options

@hookimpl
def svid_ask(job, segment):
    return {"prompt": segment.prompt}

@hookimpl
def svid_sample():
    return 1
""",
    )
    plugins = alone(path, {"plain": stub("svid_decode", lambda: iter([]))}, stub("svid_event", lambda: None))
    job = make_job(plugins, {"tint": {"amount": 1}})
    digest = plugins.infos[1].digest
    assert plugins.ask(job, make_segment(prompt="x")) == {
        "tint": {"cache_version": 7, "options": {"amount": 1.0}, "prompt": "x"},
        "plain": {"cache_version": digest},
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("5", "expected a mapping or None, found a int"),
        ("{'options': 1}", "options: svid_ask of plugin bad: is a key that svid fills in"),
        ("{'x': float('nan')}", "x: svid_ask of plugin bad: expected a finite number"),
        ("{'x': {'y': object()}}", "x.y: svid_ask of plugin bad: expected plain JSON data, found object"),
        ("1 / 0", "svid_ask: plugin bad raised ZeroDivisionError"),
    ],
)
def test_an_ask_that_is_none(plugin: Callable[[str, str], Path], answer: str, message: str) -> None:
    text = f"@hookimpl\ndef svid_ask():\n    return {answer}\n@hookimpl\ndef svid_sample():\n    return 1\n"
    with pytest.raises(StageError) as caught:
        alone(plugin("bad", text)).ask(make_job(), make_segment())
    assert message in str(caught.value)


def test_a_foreign_exception_names_plugin_stage_and_line(plugin: Callable[[str, str], Path]) -> None:
    path = plugin("bad", "@hookimpl\ndef svid_sample(job):\n    return {}[job.name]\n")
    with pytest.raises(StageError) as caught:
        sample(alone(path))
    (problem,) = caught.value.problems
    assert problem.file.endswith("/bad.py")
    assert problem.where == "line 4"
    assert problem.message == "svid_sample: plugin bad raised KeyError: 'test'"
    assert isinstance(caught.value.__cause__, KeyError)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_an_exception_from_deeper_down_names_both_places(plugin: Callable[[str, str], Path]) -> None:
    path = plugin("bad", "import json\n@hookimpl\ndef svid_sample(job):\n    return json.loads('{')\n")
    with pytest.raises(StageError) as caught:
        sample(alone(path))
    message = caught.value.problems[0].message
    assert caught.value.problems[0].where == "line 5"
    assert "plugin bad raised json.decoder.JSONDecodeError: Expecting" in message
    assert ", at json/decoder.py line " in message


def test_the_innermost_plugin_is_to_blame(plugin: Callable[[str, str], Path]) -> None:
    outer = plugin("outer", "@hookimpl(wrapper=True)\ndef svid_sample(job):\n    return (yield)\n")
    inner = plugin("inner", "@hookimpl\ndef svid_sample(job):\n    raise ValueError('x')\n")
    with pytest.raises(StageError, match="plugin inner raised ValueError: x"):
        sample(alone(outer, inner))
    late = plugin("late", "@hookimpl(wrapper=True)\ndef svid_sample(job):\n    yield\n    raise ValueError('y')\n")
    with pytest.raises(StageError, match="plugin late raised ValueError: y"):
        sample(alone(late, answering("a", 1)))


def test_a_wrapper_may_mend_what_failed_inside(plugin: Callable[[str, str], Path]) -> None:
    mends = "@hookimpl(wrapper=True)\ndef svid_sample(job):\n    try:\n        return (yield)\n    except ValueError:\n"
    inner = plugin("inner", "@hookimpl\ndef svid_sample(job):\n    raise ValueError('x')\n")
    assert sample(alone(plugin("outer", mends + "        return 7\n"), inner)) == 7


@pytest.mark.parametrize("error", [Cancelled(), LoraError("no"), SvidError("no")])
def test_errors_of_svid_pass(error: SvidError) -> None:
    def svid_sample() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        sample(alone(stub("svid_sample", svid_sample)))
    assert caught.value is error


@pytest.mark.parametrize("error", [MemoryError(), type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")])
def test_out_of_memory_gets_a_hint(error: Exception) -> None:
    def svid_sample() -> None:
        raise error

    with pytest.raises(StageError, match="out of memory: fewer frames") as caught:
        sample(alone(stub("svid_sample", svid_sample)))
    assert caught.value.__cause__ is error


def test_sys_exit_fails_the_job_and_ctrl_c_does_not() -> None:
    def leave() -> None:
        raise SystemExit(3)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(StageError, match="SystemExit: 3"):
        sample(alone(stub("svid_sample", leave)))
    with pytest.raises(KeyboardInterrupt):
        sample(alone(stub("svid_sample", stop)))


def test_frames_that_fail_while_they_are_taken(plugin: Callable[[str, str], Path]) -> None:
    path = plugin("bad", "@hookimpl\ndef svid_decode(job):\n    yield 1\n    raise ValueError('x')\n")
    frames = alone(path).call("svid_decode", make_job(), make_segment(), model=None, state={}, carry=None)
    assert next(frames) == 1
    with pytest.raises(StageError, match="svid_decode: plugin bad raised ValueError: x"):
        next(frames)


def test_frames_that_are_given_up_are_closed(plugin: Callable[[str, str], Path]) -> None:
    closed = []

    def svid_decode() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    frames = alone(stub("svid_decode", svid_decode)).call(
        "svid_decode", make_job(), make_segment(), model=None, state={}, carry=None
    )
    next(frames)
    frames.close()
    assert closed == [True]


def test_blame_is_for_whatever_runs_later(plugin: Callable[[str, str], Path]) -> None:
    plugins = alone({"patcher": stub("svid_apply_loras", lambda: None)})
    with (
        pytest.raises(StageError, match="plugins patcher: svid_apply_loras: raised ValueError: x"),
        plugins.blame("svid_apply_loras"),
    ):
        raise ValueError("x")


def test_events_reach_everyone_whoever_fails(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def deaf(event: Any) -> None:
        raise RuntimeError("deaf")

    def leaves(event: Any) -> None:
        raise SystemExit

    plugins = alone(
        {"deaf": stub("svid_event", deaf)},
        {"leaves": stub("svid_event", leaves)},
        {"hears": stub("svid_event", lambda event: heard.append(event["event"]))},
    )
    with caplog.at_level(logging.WARNING, "svid.plugin"):
        plugins.emit({"event": "segment"})
    assert heard == ["segment"]
    assert [record.getMessage() for record in caplog.records] == [
        "plugin deaf: svid_event raised RuntimeError: deaf",
        "plugin leaves: svid_event raised SystemExit",
    ]


def recipe(name: str) -> Recipe:
    return Recipe(name=name, variant="v", title="t", source="s")


def test_recipes_by_name() -> None:
    plugins = alone(
        {"a": stub("svid_recipes", lambda: [recipe("x"), recipe("y")])}, {"b": stub("svid_recipes", lambda: ())}
    )
    assert plugins.recipes().keys() == {"x", "y"}


def test_two_recipes_with_one_name_name_both_plugins(plugin: Callable[[str, str], Path]) -> None:
    text = "from svid.api import Recipe\n@hookimpl\ndef svid_recipes():\n"
    text += "    return [Recipe(name='x', variant='v', title='t', source='s')]\n"
    with pytest.raises(PluginError, match=r"b\.py: svid_recipes: recipe 'x' is in .*a\.py too"):
        alone(plugin("a", text), plugin("b", text)).recipes()


@pytest.mark.parametrize("answer", [[{"name": "x"}], "x", 5])
def test_recipes_that_are_none(answer: Any) -> None:
    with pytest.raises(PluginError, match=r"expected a list of svid\.api\.Recipe"):
        alone(stub("svid_recipes", lambda: answer)).recipes()


def test_recipes_that_fail() -> None:
    with pytest.raises(PluginError, match="svid_recipes: raised ZeroDivisionError"):
        alone(stub("svid_recipes", lambda: 1 / 0)).recipes()


class Needy(BaseModel):
    amount: float
    colour: str = ""


class Strange(BaseModel):
    amount: float = 0

    @model_validator(mode="after")
    def never(self) -> Strange:
        raise ValueError("never right")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Needy, "Needy.amount: expected a default"),
        (Strange, "its defaults are refused by itself: Value error, never right"),
        (Strange.model_construct(), "return the class"),
        (dict, "derives from pydantic.BaseModel"),
    ],
)
def test_options_that_are_none(model: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        alone(stub("svid_options", lambda: model)).option_models()


def test_stages_that_the_configuration_asks_for() -> None:
    plugins = alone(answering("a", 1), {"w": around(lambda answer: answer)})
    plugins.require(["sample", "svid_sample"])
    with pytest.raises(PluginError) as caught:
        plugins.require(["smaple", "decode", "sample"])
    first, second = caught.value.problems
    assert (first.file, first.where) == ("svid.toml", "chain.stages[0]")
    assert (first.message, first.hint) == ("there is no stage 'smaple'", "did you mean sample?")
    assert (second.where, second.message) == ("chain.stages[1]", "no plugin serves the stage 'decode'")


def test_a_stage_with_only_a_wrapper_is_not_served() -> None:
    with pytest.raises(PluginError, match="no plugin serves the stage 'sample'"):
        alone({"w": around(lambda answer: answer)}).require(["sample"])


def test_findings_of_a_sick_doctor() -> None:
    plugins = alone(
        {"sick": stub("svid_check", lambda: 1 / 0)},
        {"well": stub("svid_check", lambda: [Finding("ok", "well")])},
        {"mute": stub("svid_check", lambda: None)},
    )
    assert [(finding.level, finding.message) for finding in plugins.findings()] == [
        ("error", "plugin sick: svid_check raised ZeroDivisionError: division by zero"),
        ("ok", "well"),
    ]


def test_two_plugins_with_one_name() -> None:
    with pytest.raises(PluginError, match="a: expected each name once"):
        alone(answering("a", 1), answering("a", 2))


def test_unknown_options_in_a_test_are_mistakes_too() -> None:
    with pytest.raises(ManifestError):
        make_job(alone(), {"nobody": {}})


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_what_it_is_for(hook: str) -> None:
    assert len((HOOKS[hook].__doc__ or "").split()) >= 5


def test_the_stages_are_those_of_the_configuration() -> None:
    from svid import config

    assert tuple(stage.removeprefix("svid_") for stage in STAGES) == config.STAGES


def test_the_fixture(svid_plugins: Callable[..., Plugins]) -> None:
    assert sample(svid_plugins(answering("a", 1), bundled=False)) == 1
    assert {"sampler", "decoder"} <= {info.name for info in svid_plugins().infos}
