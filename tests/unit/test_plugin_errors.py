"""What happens to the exceptions of plugins, and who is named."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from svid.api import Finding
from svid.errors import Cancelled, LoraError, StageError, StorageError, SvidError
from svid.store.disk import met_a_file
from svid.testing import make_job, make_segment, stub
from tests.unit import plugging
from tests.unit.plugging import alone, answering, sample

quiet = plugging.quiet  # of every test here
plugin = plugging.plugin


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


def test_findings_of_a_sick_doctor() -> None:
    plugins = alone(
        {"sick": stub("svid_check", lambda: 1 / 0)},
        {"well": stub("svid_check", lambda: [Finding("ok", "well")])},
        {"mute": stub("svid_check", lambda: None)},
        {"vague": stub("svid_check", lambda: ["all is well"])},
    )
    assert [(finding.level, finding.message) for finding in plugins.findings()] == [
        ("error", "plugin sick: svid_check raised ZeroDivisionError: division by zero"),
        ("ok", "well"),
        ("error", "plugin vague: svid_check: expected a list of svid.api.Finding, found a str"),
    ]


@pytest.mark.parametrize("error", ["StorageError", "StoreError", "Paused"])
def test_what_only_svid_can_know_is_a_plugin_s_mistake(plugin: Callable[[str, str], Path], error: str) -> None:
    """The daemon would take no work at all, for every job there is."""
    text = f"from svid.errors import {error}\n@hookimpl\ndef svid_sample(job):\n    raise {error}('my.lut')\n"
    with pytest.raises(StageError, match=f"plugin feigns raised svid.errors.{error}: my.lut") as caught:
        sample(alone(plugin("feigns", text)))
    assert caught.value.problems[0].where == "line 5"
    assert not met_a_file(caught.value)


def test_the_disk_may_fail_under_what_a_plugin_calls(plugin: Callable[[str, str], Path], tmp_path: Path) -> None:
    text = "from svid.store.disk import storage_errors\nfrom errno import ENOSPC\n@hookimpl\ndef svid_sample(job):\n"
    text += "    with storage_errors():\n        raise OSError(ENOSPC, 'full')\n"
    with pytest.raises(StorageError):
        sample(alone(plugin("fills", text)))


def test_a_finding_has_a_level_that_svid_knows() -> None:
    def svid_check() -> list[Finding]:
        return [Finding("fatal", "the GPU burns")]  # type: ignore[arg-type]

    (found,) = alone({"w": stub("svid_check", svid_check)}).findings()
    assert found.level == "error"
    assert "expected one of ok, warning, error, found 'fatal': the GPU burns" in found.message
