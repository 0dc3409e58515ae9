"""The warm model is for jobs that load it alike: what a plugin does to it by its options is not for all."""

from __future__ import annotations

from typing import Any

import pytest

from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new

PLUGIN = """
from pathlib import Path
from pydantic import BaseModel
import svid

class Options(BaseModel):
    by: float = 1.0

@svid.hookimpl
def svid_options():
    return Options

@svid.hookimpl
def svid_ask(job, segment):
    return {} if job.options["grow"].by != 1 else None

@svid.hookimpl(wrapper=True)
def svid_load_model(job):
    model = yield
    with Path(__file__).with_suffix(".loads").open("a") as file:
        file.write(f"{job.options['grow'].by} ")
    for expert in model.experts.values():
        for parameter in expert.parameters():
            parameter.mul_(job.options["grow"].by)
    return model
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("warm") / "home", grow=PLUGIN)


def latents(bench: Workbench, by: float | None) -> str:
    given: dict[str, Any] = {} if by is None else {"options": {"grow": {"by": by}}}
    shown = bench.run(new("warm", "one", reuse=False, **given))
    return str(shown["segments"][0]["latents"])


def test_two_jobs_with_other_options_of_a_loader_have_a_model_each(bench: Workbench) -> None:
    plain, larger = latents(bench, None), latents(bench, 1.01)
    assert plain != larger
    assert latents(bench, 1.01) == larger
    assert latents(bench, 1.02) not in (plain, larger)
    assert latents(bench, None) == plain
    loads = (bench.home.plugins / "grow.loads").read_text()
    assert loads == "1.01 1.02 ", "it is not asked where it takes no part, and once for the same options"
