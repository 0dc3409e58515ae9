"""The package that `svid plugins new` writes: the smallest plugin that does something, with a test that passes."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import svid
from svid.errors import Problem, UsageError

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "svid-$name"
version = "0.1.0"
description = "A plugin for svid."
requires-python = ">=3.11"
dependencies = ["svid>=$svid"]

[project.entry-points.svid]
$name = "$module"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]
"""

_MODULE = '''\
"""Goes around `svid_decode` and makes frames brighter, by `[options.$name] amount` of a manifest.

`python -c "help('svid.hookspecs')"` lists everything else that a plugin can do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from svid import hookimpl
from svid.api import Job, Segment

if TYPE_CHECKING:
    import torch

# Raise it whenever the same input would give other frames: it tells new segments from those that were rendered before.
CACHE_VERSION = 1


class Options(BaseModel):
    """What a manifest may say under [options.$name]."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    amount: int = Field(0, ge=0, le=255, description="how much brighter, in steps of 255; 0 is off")


@hookimpl
def svid_options() -> type[Options]:
    """The options; every field needs a default."""
    return Options


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """None where this plugin changes nothing: it is not called then, and the segment's id is as if it was not there."""
    return {} if job.options["$name"].amount else None


@hookimpl(wrapper=True)
def svid_decode(job: Job) -> Generator[None, Iterator[torch.Tensor], Iterator[torch.Tensor]]:
    """Frames come a few at a time, uint8 [n, H, W, 3]. What `yield` gives is the answer of those inside."""
    frames = yield
    return _brighter(frames, job.options["$name"].amount)


def _brighter(frames: Iterator[torch.Tensor], amount: int) -> Iterator[torch.Tensor]:
    for some in frames:
        # as the next larger type, because uint8 starts again at 0 above 255
        yield (some.short() + amount).clamp(0, 255).byte()
'''

_TEST = '''\
"""Run with `python -m pytest` in this folder."""

from __future__ import annotations

import $module
import torch
from svid import testing


def decoded(amount: int) -> torch.Tensor:
    """The frames of a segment, from a stand-in for the decoder, with only this plugin around it."""
    decoder = testing.stub("svid_decode", lambda: iter([testing.tiny_frames(n=5)]))
    plugins = testing.load(decoder, {"$name": $module}, bundled=False)
    job = testing.make_job(plugins, {"$name": {"amount": amount}})
    return torch.cat(list(plugins.call("svid_decode", job, testing.make_segment(), model=None, state={}, carry=None)))


def test_frames_are_left_alone_unless_asked() -> None:
    assert torch.equal(decoded(0), testing.tiny_frames(n=5))


def test_frames_get_brighter() -> None:
    before, after = testing.tiny_frames(n=5), decoded(40)
    assert after.dtype == torch.uint8
    assert torch.equal(after, (before.short() + 40).clamp(0, 255).byte())
'''

_README = """\
# svid-$name

A plugin for svid that makes frames brighter. Begin here and make it yours.

    python -m pytest                  # the test passes as it is
    python -m pip install -e .        # from now on svid finds it
    svid plugins                      # and shows it, in the order in which plugins are asked

In a manifest:

    [options.$name]
    amount = 40

`svid schema` describes the option to editors. `SVID_TRACE=1` shows every call, `SVID_PLUGINS=a,b` loads a subset.
Without a package, `$module.py` works as well as a file `$name.py` in the `plugins/` folder of a home.
"""


def write_template(name: str, folder: Path) -> Path:
    """Write the package `svid-<name>` into a folder and return where it is.

    Raises UsageError where the name can't be one or something is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        message = f"expected a name of small letters, digits and - or _ between them, found {name!r}"
        raise UsageError(Problem("svid plugins new", "NAME", message, "such as film-grain"))
    target, module = folder / f"svid-{name}", f"svid_{name.replace('-', '_')}"
    if target.exists():
        raise UsageError(Problem(str(target), "", "is there already; nothing was written", "--dir names another place"))
    words = {"name": name, "module": module, "svid": svid.__version__}
    files = {"pyproject.toml": _PYPROJECT, f"{module}.py": _MODULE, f"test_{module}.py": _TEST, "README.md": _README}
    target.mkdir(parents=True)
    for file, text in files.items():
        (target / file).write_text(Template(text).substitute(words), encoding="utf-8")
    return target
