"""Plugins loaded alone: written to files, or made of an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svid.plugin import Plugins
from svid.testing import load, make_job, make_segment, stub

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
