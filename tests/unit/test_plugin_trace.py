"""SVID_TRACE=1 shows every call, who answered, and what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from svid import hookimpl
from svid.api import Conditioning
from svid.errors import NoStage
from svid.plugin.trace import summary
from svid.testing import load, make_job, make_segment, stub, tiny_frames

MORE: dict[str, Any] = {"model": None, "conditioning": None, "progress": None, "checkpoint": None}


@pytest.fixture(autouse=True)
def tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVID_TRACE", "1")


def test_each_call_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def svid_sample(job: Any) -> Iterator[None]:
        return (yield)  # type: ignore[misc]

    wrapper = stub("svid_sample", lambda: None)
    wrapper.svid_sample = hookimpl(wrapper=True)(svid_sample)  # type: ignore[attr-defined]
    latents = {"latents": torch.zeros(1, 16, 2, 4, 4)}
    plugins = load(
        {"around": wrapper},
        {"shy": stub("svid_sample", lambda: None)},
        {"real": stub("svid_sample", lambda: latents)},
        {"late": stub("svid_sample", lambda: 1)},
        bundled=False,
    )
    assert plugins.call("svid_sample", make_job(), make_segment(), **MORE) is latents
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.partition(" (")[0] for line in err.splitlines()]
    shown = "dict(latents=float32[1, 16, 2, 4, 4])"
    assert lines[0] == "svid_sample: around goes around"
    assert lines[1] == "svid_sample: shy declined"
    assert err.splitlines()[2].startswith(f"svid_sample: real -> {shown} (")
    assert err.splitlines()[2].endswith(" ms)")
    assert err.splitlines()[3] == f"svid_sample: around made it {shown}"
    assert len(lines) == 4


def test_exceptions_show(capsys: pytest.CaptureFixture[str]) -> None:
    plugins = load({"bad": stub("svid_event", lambda: 1 / 0)}, bundled=False)
    plugins.emit({"event": "x"})
    assert "svid_event: bad raised ZeroDivisionError" in capsys.readouterr().err


def test_it_changes_nothing_else() -> None:
    plugins = load(bundled=True)
    assert "svi-2.0-pro" in plugins.recipes()
    assert plugins.serving("svid_decode") == ["decoder"]
    with pytest.raises(NoStage, match="asked: none"):
        load(bundled=False).call("svid_sample", make_job(), make_segment(), **MORE)


def test_off_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("", "0"):
        monkeypatch.setenv("SVID_TRACE", value)
        load({"a": stub("svid_event", lambda: None)}, bundled=False).emit({"event": "x"})
    assert capsys.readouterr().err == ""


@dataclass
class Point:
    x: int
    at: Any


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tiny_frames(n=2, h=3, w=4), "uint8[2, 3, 4, 3]"),
        (Conditioning(y=torch.zeros(1, 2)), "Conditioning(y=float32[1, 2], image_embeds=None)"),
        (Point(1, Point(2, Point(3, None))), "Point(x=1, at=Point(x=2, at=Point))"),
        ("x" * 500, '"' + "x" * 59 + '…"'),
        ([1, 2, 3], "[1, 3 in all]"),
        ([], "[]"),
        ({}, "dict"),
        (iter([]), "list_iterator"),
        (Point, "Point"),
        (3.5, "3.5"),
        (None, "None"),
    ],
)
def test_a_value_in_a_few_words(value: Any, text: str) -> None:
    assert summary(value) == text
