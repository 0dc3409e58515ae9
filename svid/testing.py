"""What the tests of a plugin need. As a pytest plugin (it comes with svid) it brings the fixture `svid_plugins`.

Nothing is imported before it is used: pytest loads this module in every environment that svid is installed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

    from svid.api import Job, Segment
    from svid.plugin import Plugins

Given = ModuleType | Path | str
"""A plugin: its module, or the path of its file."""


@pytest.fixture
def svid_plugins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plugins]:
    """`load`, for a test that is not to depend on SVID_PLUGINS and SVID_TRACE of the shell that it is started from."""
    monkeypatch.delenv("SVID_PLUGINS", raising=False)
    monkeypatch.delenv("SVID_TRACE", raising=False)
    return load


def load(*given: Given | Mapping[str, Given], bundled: bool = True) -> Plugins:
    """Load plugins beside the bundled ones, or alone. They are asked in the order given, before the bundled ones.

    A plugin is called as its file or its module is, less `svid_`; `{"name": plugin}` calls it otherwise. What is
    installed but not given is left out, so that a test is about the plugins that it names.

    Raises PluginError.
    """
    from svid.home import bundled_dir
    from svid.plugin import Plugins
    from svid.plugin.find import plugin_files
    from svid.plugin.load import load_file, load_module

    named = [pair for one in given for pair in (one.items() if isinstance(one, Mapping) else [("", one)])]
    loaded = [
        load_module(one, name) if isinstance(one, ModuleType) else load_file(Path(one), name=name)
        for name, one in named
    ]
    if bundled:
        loaded += [load_file(file, "bundled") for file in plugin_files(bundled_dir() / "plugins")]
    return Plugins(loaded)


def stub(stage: str, answer: Callable[..., Any]) -> ModuleType:
    """A plugin that serves one stage: with what `answer` returns, called with those of the hook's arguments that it
    takes."""
    from svid import hookimpl

    module = ModuleType(f"stub_{stage.removeprefix('svid_')}", "A stand-in.")
    setattr(module, stage, hookimpl(answer))
    return module


def make_job(
    plugins: Plugins | None = None, options: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any
) -> Job:
    """A job without a model. `options` is what a manifest says under [options], checked as a manifest's is; plugins
    that it leaves out get their defaults. `changes` are fields of svid.api.Job.

    Raises ManifestError where the options are not the plugins'.
    """
    from svid.api import Encoding, Job, ModelSource, Recipe
    from svid.manifest.read import build_options

    recipe = Recipe(
        name="test", variant="test", title="for tests", source="svid.testing", frames=5, width=32, height=32
    )
    fields: dict[str, Any] = {
        "id": "j0",
        "name": "test",
        "video": "v0",
        "recipe": recipe,
        "model": ModelSource("none", Path("none"), {}, "float32"),
        "fps": 16.0,
        "encoding": Encoding(),
        "options": build_options(options or {}, plugins.option_models() if plugins else {}),
    }
    return Job(**fields | changes)


def make_segment(**changes: Any) -> Segment:
    """The first segment of a chain: 5 frames of 32 x 32, two steps. `changes` are fields of svid.api.Segment."""
    from svid.api import Picture, Sampling, Segment

    picture = Picture(Path("none.png"), "0" * 64, "0" * 64)
    fields: dict[str, Any] = {
        "index": 0,
        "prompt": "a test",
        "negative": "",
        "seed": 1,
        "frames": 5,
        "width": 32,
        "height": 32,
        "anchor": picture,
        "image": picture,
        "sampling": Sampling("euler", 2, 5.0, {"high": 1.0, "low": 1.0}, 0.9),
    }
    return Segment(**fields | changes)


def tiny_frames(n: int = 5, h: int = 32, w: int = 32) -> torch.Tensor:
    """uint8 [n, h, w, 3]: ramps that differ from frame to frame, the same on every call. Skips the test where torch is
    not installed."""
    pytest.importorskip("torch")
    import torch

    ramp = torch.arange(n * h * w * 3, dtype=torch.int64).reshape(n, h, w, 3)
    return (ramp * 7 % 256).to(torch.uint8)
