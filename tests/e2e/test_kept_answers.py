"""What is kept of a segment is what its stages made, whatever a later one does with the tensors that it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from svid.workbench import Workbench
from tests.e2e.tools import asks, bench_in, latents_of, new, shown

CARELESS = """
import svid
import torch
from pydantic import BaseModel
from svid.api import Clip
from svid.media.clips import write_clip


class Options(BaseModel):
    way: str = ""


@svid.hookimpl
def svid_options():
    return Options


@svid.hookimpl
def svid_encode(job, frames, out):
    if job.options["careless"].way != "draws":
        return None

    def marked():
        for some in frames:
            some[:, :12, :12] = 255
            yield some

    return Clip(out, write_clip(marked(), out, job.fps, job.encoding))


@svid.hookimpl(wrapper=True)
def svid_decode(job, state):
    if job.options["careless"].way == "writes":
        state["latents"].mul_(0.5)
    frames = yield
    return again(frames) if job.options["careless"].way == "refills" else frames


def again(frames):
    buffer = None
    for some in frames:
        for one in some:
            buffer = torch.empty_like(one)[None] if buffer is None else buffer
            buffer.copy_(one)
            yield buffer


@svid.hookimpl(wrapper=True)
def svid_sample(job):
    state = yield
    if job.options["careless"].way == "shares":
        return {**state, "history": state["latents"], "part": state["latents"][:, :, 1:]}
    return state
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return bench_in(tmp_path_factory.mktemp("kept") / "home", careless=CARELESS)


def video(bench: Workbench, way: str, *prompts: str) -> dict[str, Any]:
    return shown(bench, new(way or "plain", *(prompts or ["one"]), recipe="i2v", options={"careless": {"way": way}}))


def tail(bench: Workbench, found: dict[str, Any], number: int) -> torch.Tensor:
    return bench.studio.blobs.get_tensors(bench.show(found["segments"][number - 1]["id"])["tail"])["tail"]


@pytest.fixture(scope="module")
def plain(bench: Workbench) -> dict[str, Any]:
    return video(bench, "", "one", "two")


def test_an_encoder_may_draw_into_its_frames(bench: Workbench, plain: dict[str, Any]) -> None:
    drawn = video(bench, "draws", "one", "two")
    assert torch.equal(tail(bench, drawn, 1), tail(bench, plain, 1))
    assert torch.equal(latents_of(bench, drawn, 2), latents_of(bench, plain, 2))


def test_a_decoder_may_fill_one_buffer_again_and_again(bench: Workbench, plain: dict[str, Any]) -> None:
    assert torch.equal(tail(bench, video(bench, "refills"), 1), tail(bench, plain, 1))


def test_a_decoder_may_write_into_its_state(bench: Workbench, plain: dict[str, Any]) -> None:
    assert torch.equal(latents_of(bench, video(bench, "writes"), 1), latents_of(bench, plain, 1))


def test_two_names_of_a_state_may_stand_for_one_tensor(bench: Workbench, plain: dict[str, Any]) -> None:
    kept = bench.studio.blobs.get_tensors(video(bench, "shares")["segments"][0]["latents"])
    assert torch.equal(kept["history"], latents_of(bench, plain, 1))
    assert torch.equal(kept["part"], kept["latents"][:, :, 1:])


def test_that_is_what_the_ask_says(bench: Workbench, plain: dict[str, Any]) -> None:
    assert asks(bench, plain)[0]["plugins"]["careless"]["options"] == {"way": ""}
