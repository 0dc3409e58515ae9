"""Wherever the code of a plugin runs, what it raises names the plugin: also in what is called later."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svid.daemon.worker import _blaming, _try
from svid.errors import PluginError, StageError
from svid.plugin import Plugins
from svid.render.watch import Watch
from svid.testing import load
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new
from tests.unit import plugging

plugin = plugging.plugin

LATE = """
from functools import partial
from pathlib import Path
import svid

MODE = Path(__file__).with_suffix(".mode")

def how():
    return MODE.read_text() if MODE.exists() else ""

class Rude(BaseException):
    pass

@svid.hookimpl(wrapper=True)
def svid_load_model():
    model = yield
    if how() == "attributes":
        model.experts = Bad()
    return model

class Bad(dict):
    def items(self):
        raise ValueError("x")

@svid.hookimpl(wrapper=True)
def svid_apply_loras():
    return Context((yield))

class Context:
    def __init__(self, inner):
        self.inner = inner

    def __enter__(self):
        applied = self.inner.__enter__()
        if how() == "begin":
            return svid.api.Applied(applied.report, partial(int, "x"))
        return applied

    def __exit__(self, *error):
        self.inner.__exit__(*error)
        if how().startswith("exit"):
            raise ValueError("x")

@svid.hookimpl(wrapper=True)
def svid_sample():
    state = yield
    if how() == "rude":
        raise Rude("x")
    if how() == "exit and sample":
        raise ValueError("first")
    return state

@svid.hookimpl(wrapper=True)
def svid_decode():
    frames = yield
    return map(int, ["x"]) if how() == "frames" else frames

@svid.hookimpl(wrapper=True)
def svid_join():
    made = yield
    if how() == "join":
        raise Rude("x")
    return made

@svid.hookimpl
def svid_event(event):
    if how() == "event":
        raise Rude("x")
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("blame") / "home", late=LATE)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("attributes", "svid_load_model: plugin late raised ValueError: x"),
        ("begin", "svid_apply_loras: raised ValueError: int() base must be"),
        ("exit", "svid_apply_loras: plugin late raised ValueError: x"),
        ("exit and sample", "svid_sample: plugin late raised ValueError: first"),
        ("rude", "svid_sample: plugin late raised"),
        ("frames", "svid_decode: raised ValueError: invalid literal for int()"),
        ("join", "svid_join: plugin late raised"),
    ],
)
def test_what_a_plugin_raises_later_names_it(bench: Workbench, mode: str, message: str) -> None:
    bench.studio._warm = None
    switch = Path(bench.home.plugins / "late.mode")
    switch.write_text(mode)
    try:
        with pytest.raises(StageError) as caught:
            bench.run(new(mode, "one", reuse=False))
    finally:
        switch.unlink()
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert problem.file in ("plugins/late.py", "plugins late")


def test_a_model_whose_loras_were_not_taken_off_is_let_go(bench: Workbench) -> None:
    switch = Path(bench.home.plugins / "late.mode")
    switch.write_text("exit")
    with pytest.raises(StageError):
        bench.run(new("exit once more", "one", reuse=False))
    switch.unlink()
    assert bench.studio._warm is None
    bench.run(new("well again", "one", reuse=False))


def test_an_event_that_a_plugin_takes_badly_costs_nothing(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    switch = Path(bench.home.plugins / "late.mode")
    switch.write_text("event")
    bench.studio.plugins.emit({"event": "step"})
    switch.unlink()
    assert "late" in caplog.text


def test_options_that_can_t_be_written_down(plugin: Callable[[str, str], Path]) -> None:
    text = (
        "from pydantic import BaseModel, field_serializer\n"
        "class Options(BaseModel):\n    level: int = 0\n"
        "    @field_serializer('level')\n    def show(self, value):\n        raise ValueError('x')\n"
        "@hookimpl\ndef svid_options():\n    return Options\n"
        "@hookimpl\ndef svid_sample():\n    return 1\n"
    )
    plugins = load(plugin("mute", text), bundled=False)
    with pytest.raises(PluginError, match=r"mute\.py: Options: expected options that are plain data, .* x"):
        plugins.option_models()


def _outcome(work: Callable[[], Any], plugins: Plugins, bench: Workbench) -> dict[str, Any]:
    watch = Watch(lambda event: None)
    return _try(lambda: _blaming(work, plugins, watch), bench.home, bench.store)


def test_the_render_process_looks_whose_code_it_was(bench: Workbench, plugin: Callable[[str, str], Path]) -> None:
    plugins = load(
        plugin("odd", "def odd():\n    raise KeyboardInterrupt\n@hookimpl\ndef svid_event(event):\n    odd()\n")
    )
    (info,) = [one for one in plugins.infos if one.name == "odd"]
    found = _outcome(functools.partial(plugins.emit, {"event": "x"}), plugins, bench)
    (error,) = found["errors"]
    assert error["message"] == "plugin odd raised KeyboardInterrupt"
    assert error["file"] == info.location
    found = _outcome(lambda: 1 / 0, plugins, bench)
    assert "fault of svid" in found["errors"][0]["hint"]


def test_a_plugin_that_stops_a_job_that_nobody_has_stopped_fails_it(
    bench: Workbench, plugin: Callable[[str, str], Path]
) -> None:
    text = "from svid.errors import Cancelled\n@hookimpl\ndef svid_sample():\n    raise Cancelled\n"
    plugins = load(plugin("idle", text), bundled=False)
    found = _outcome(lambda: plugging.sample(plugins), plugins, bench)
    assert found["outcome"] == "failed"
    assert found["errors"][0]["message"].startswith("plugin idle raised svid.errors.Cancelled")
    assert found["errors"][0]["message"].endswith("but nobody has stopped this job")
