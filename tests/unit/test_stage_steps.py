"""The steps that a sampler tells of, as LoRAs for some steps need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from svid.api import Applied, Conditioning, Job, Segment
from svid.errors import StageError
from svid.plugin import Plugins
from svid.render.chain import Work, run_chain
from svid.testing import load, make_job, make_segment, stub
from tests.unit import plugging

quiet = plugging.quiet  # of every test here
plugin = plugging.plugin

SAMPLER = """
import torch
@hookimpl
def svid_sample(segment, progress):
    for step in STEPS:
        progress(step, 4)
    return {"latents": torch.zeros(segment.latent_shape)}
"""


def loras(begin_step: Callable[[int], None] | None) -> ModuleType:
    @contextmanager
    def applied() -> Iterator[Applied]:
        yield Applied({}, begin_step)

    return stub("svid_apply_loras", applied)


def sampled(plugins: Plugins, progress: Any = lambda step, steps: None) -> Work:
    def no_model(job: Job, segment: Segment) -> Any:
        return None

    work = Work(plugins, no_model, make_job(plugins), make_segment(), None, progress, Path())
    work.conditioning = Conditioning(torch.zeros(1, 20, 2, 4, 4))
    run_chain(("apply_loras", "sample"), work)
    return work


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("()", "expected it to tell of every step, because LoRAs change between them, found none"),
        ("(1, 2)", "expected it to tell of every step, because LoRAs change between them, found 2 of 4 steps told"),
        ("(1, 3, 4)", "raised ValueError: progress: expected step 2 of 4, found 3 of 4"),
        ("(0, 1, 2, 3)", "raised ValueError: progress: expected whole numbers from 1 on, found 0 of 4"),
        ("(1, 1)", "raised ValueError: progress: expected step 2 of 4, found 1 of 4"),
        ("(1.0,)", "raised ValueError: progress: expected whole numbers from 1 on, found 1.0 of 4"),
    ],
)
def test_loras_for_some_steps_need_every_step(plugin: Callable[[str, str], Path], steps: str, message: str) -> None:
    path = plugin("hasty", SAMPLER.replace("STEPS", steps))
    with pytest.raises(StageError) as caught:
        sampled(load(path, {"mine": loras(lambda step: None)}, bundled=False))
    (problem,) = caught.value.problems
    assert "plugin hasty" in problem.message
    assert message in problem.message


def test_every_step_begins_once(plugin: Callable[[str, str], Path]) -> None:
    begun: list[int] = []
    sampled(
        load(plugin("tells", SAMPLER.replace("STEPS", "(1, 2, 3, 4)")), {"mine": loras(begun.append)}, bundled=False)
    )
    assert begun == [1, 2, 3, 4]


def test_without_such_loras_a_sampler_may_be_silent(plugin: Callable[[str, str], Path]) -> None:
    work = sampled(load(plugin("silent", SAMPLER.replace("STEPS", "()")), {"mine": loras(None)}, bundled=False))
    assert work.state.keys() == {"latents"}
