"""Asking plugins: who is asked, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from svid import hookimpl, testing
from svid.api import Recipe
from svid.config import STAGES as TOLD
from svid.errors import ManifestError, NoStage, PluginError, StageError
from svid.home import bundled_dir
from svid.plugin import Plugins
from svid.plugin.check import HOOKS, STAGES
from svid.testing import make_job, make_segment, stub
from tests.unit import plugging
from tests.unit.plugging import alone, answering, sample

svid_plugins = testing.svid_plugins
"""Here as well as from the entry point, for a checkout that is not installed."""

quiet = plugging.quiet  # of every test here
plugin = plugging.plugin


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
    with pytest.raises(NoStage, match="not taking part: shy"):
        plugins.call("svid_load_model", make_job(), make_segment(), device="cpu")
    # what is not about one segment asks all
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


def test_a_recipe_of_a_sampler_that_svid_has_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"recipe 'x': sampler: expected one of svid's, found 'eulr'.*euler"):
        alone(stub("svid_recipes", lambda: [recipe("x").model_copy(update={"sampler": "eulr"})])).recipes()


@pytest.mark.parametrize(
    "wrong", [{"frames": 80}, {"frames": 1}, {"width": 100}, {"height": 0}, {"fps": 0.5}, {"steps": 0}, {"boundary": 2}]
)
def test_a_recipe_is_held_to_what_a_manifest_is(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValidationError, match=name):
        Recipe(name="x", variant="v", title="t", source="s", **wrong)


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
    with pytest.raises(PluginError) as caught:
        plugins.require(["smaple", "decode", "sample"])
    first, second = caught.value.problems
    assert (first.file, first.where) == ("svid.toml", "chain.stages[0]")
    assert (first.message, first.hint) == ("there is no stage 'smaple'", "did you mean sample?")
    assert (second.where, second.message) == ("chain.stages[1]", "no plugin serves the stage 'decode'")


@pytest.mark.parametrize("wrong", [TOLD[:3] + TOLD[4:], TOLD[::-1], (*TOLD, "sample"), ("svid_sample",), ()])
def test_every_stage_has_its_turn(wrong: tuple[str, ...]) -> None:
    plugins = Plugins.load(bundled_dir() / "plugins")
    plugins.require(TOLD)
    with pytest.raises(PluginError, match="chain"):
        plugins.require(wrong)


def test_a_stage_with_only_a_wrapper_is_not_served() -> None:
    with pytest.raises(PluginError, match="no plugin serves the stage 'sample'"):
        alone({"w": around(lambda answer: answer)}).require(["sample"])


def test_a_clip_that_nobody_imports_is_said() -> None:
    loaded = alone(answering("a", 1))
    with pytest.raises(NoStage, match=r"no plugin served svid_import .* asked: none"):
        loaded.call("svid_import", make_job(loaded), make_segment(), model=None, frames=None)


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
