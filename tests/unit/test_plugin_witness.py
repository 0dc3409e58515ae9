"""Answers are looked at as each plugin gives them, before a wrapper sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from svid.errors import StageError
from svid.plugin.witness import By
from svid.testing import make_job, make_segment
from tests.unit import plugging
from tests.unit.plugging import MORE, alone, answering

quiet = plugging.quiet  # of every test here
plugin = plugging.plugin

WRAPPER = "@hookimpl(wrapper=True)\ndef svid_sample():\n    return (yield) + 1\n"
OLD = "@hookimpl(hookwrapper=True)\ndef svid_sample():\n    found = yield\n    found.force_result(7)\n"


def called(*plugins: Any, wrong: Any = None) -> tuple[Any, list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def check(by: By, answer: Any) -> Any:
        seen.append((by.info.name, answer))
        if answer == wrong:
            raise by.wrong("expected another")
        return answer * 10

    loaded = alone(*plugins)
    return loaded.call("svid_sample", make_job(loaded), make_segment(), check=check, **MORE), seen


def test_each_answer_is_seen_and_replaced_on_its_way_out(plugin: Callable[[str, str], Path]) -> None:
    found, seen = called(plugin("outer", WRAPPER), answering("shy", None), answering("inner", 1))
    assert seen == [("inner", 1), ("outer", 11)]
    assert found == 110


def test_the_innermost_wrong_answer_names_its_plugin(plugin: Callable[[str, str], Path]) -> None:
    with pytest.raises(StageError, match="svid_sample: plugin inner: expected another"):
        called(plugin("outer", WRAPPER), answering("inner", 1), wrong=1)
    with pytest.raises(StageError, match=r"outer\.py: svid_sample: plugin outer: expected another"):
        called(plugin("outer", WRAPPER), answering("inner", 1), wrong=11)


def test_a_wrapper_of_the_older_kind_is_seen_as_well(plugin: Callable[[str, str], Path]) -> None:
    assert called(plugin("old", OLD), answering("inner", 1)) == (70, [("inner", 1), ("old", 7)])


def test_a_check_is_for_one_call(plugin: Callable[[str, str], Path]) -> None:
    loaded = alone(answering("inner", 1))

    def frames(by: By, answer: Any) -> Iterator[Any]:
        raise by.wrong("expected another")

    with pytest.raises(StageError):
        loaded.call("svid_sample", make_job(loaded), make_segment(), check=frames, **MORE)
    assert loaded.call("svid_sample", make_job(loaded), make_segment(), **MORE) == 1


@pytest.mark.parametrize(
    ("body", "found"), [("    return 3\n    yield\n", "none"), ("    yield\n    yield\n    return 3\n", "another")]
)
def test_a_wrapper_yields_once(plugin: Callable[[str, str], Path], body: str, found: str) -> None:
    path = plugin("bad", f"@hookimpl(wrapper=True)\ndef svid_sample():\n{body}")
    with pytest.raises(StageError) as caught:
        called(path, answering("inner", 1))
    expected = f"bad.py: svid_sample: plugin bad: the wrapper at line 2: expected one yield, found {found}"
    assert expected in str(caught.value)


def test_a_wrapper_hears_of_what_failed_inside_and_may_raise_another(plugin: Callable[[str, str], Path]) -> None:
    path = plugin(
        "turns",
        "@hookimpl(wrapper=True)\ndef svid_sample():\n    try:\n        yield\n    except Exception as error:\n"
        "        raise KeyError('mine') from error\n",
    )
    with pytest.raises(StageError, match="plugin turns raised KeyError: 'mine'"):
        called(path, answering("inner", 1), wrong=1)
