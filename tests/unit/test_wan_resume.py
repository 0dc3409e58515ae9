"""An interrupted denoising loop goes on bit for bit: every sampler, at every step, through files on a disk."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from svid.api import Conditioning, Sampling, Snapshot
from svid.errors import Cancelled
from svid.render.checkpoint import Pace, SegmentCheckpoint
from svid.store.snapshots import Snapshots
from svid.wan.model import WanModel
from svid.wan.resume import Standing, snapshot_of, standing_of
from svid.wan.samplers import SAMPLERS
from svid.wan.sampling import denoise, initial_noise
from svid.wan.schedule import make_scheduler

SHAPE = (1, 16, 3, 2, 2)
COND, UNCOND = torch.full((1, 512, 4), 1.0), torch.full((1, 512, 4), -1.0)
Y = Conditioning(y=torch.arange(20.0).view(1, 20, 1, 1, 1).expand(1, 20, 3, 2, 2))
STEPS = 7
KEY = "k" * 64


class Expert:
    """A velocity that depends on latents, time and prompt, none of it in a straight line; its calls are counted."""

    def __init__(self, bias):
        self.bias, self.calls = bias, 0

    def __call__(self, inputs, time, prompt, return_dict):
        self.calls += 1
        return (torch.sin(inputs[:, :16] * 1.7 + time / 300 + prompt.mean() + self.bias),)


class Run:
    """One go at a loop; `stop_after` a step, and what a `checkpoint` knows, as after a kill."""

    def __init__(self, sampler, checkpoint=None, stop_after=0, steps=STEPS, dtype=torch.float32):
        sampling = Sampling(sampler, steps, 5.0, {"high": 3.0, "low": 1.0}, 0.9)
        noise, generator = initial_noise(SHAPE, 5)
        experts = {"high": Expert(0.1), "low": Expert(-0.4)}
        model = WanModel(experts, None, None, torch.device("cpu"), dtype)
        self.seen, self.latents = [], None

        def progress(step, of):
            self.seen.append(step)
            self.of = of
            if step == stop_after:
                raise Cancelled

        scheduler = make_scheduler(sampling, "cpu")
        given = (model, Y, COND, UNCOND, scheduler, sampling, noise, progress, generator, checkpoint)
        if stop_after:
            with pytest.raises(Cancelled):
                denoise(*given)
        else:
            self.latents = denoise(*given)
        self.calls = sum(expert.calls for expert in experts.values())


def always(tmp_path, **more):
    """A checkpoint that writes after every step."""
    for name in ("snapshots", "tmp"):
        (tmp_path / name).mkdir(exist_ok=True)
    snapshots = Snapshots(tmp_path / "snapshots", tmp_path / "tmp")
    heard = more.pop("heard", [])
    return SegmentCheckpoint(snapshots, Pace(0, lambda: 0.0), KEY, {}, heard.append, **more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_loop_equals_an_uninterrupted_one_bit_for_bit(sampler, dtype, tmp_path):
    whole = Run(sampler, dtype=dtype)
    assert whole.seen == list(range(1, whole.of + 1))
    for stop in whole.seen:
        (tmp_path / str(stop)).mkdir()
        before = Run(sampler, always(tmp_path / str(stop)), stop_after=stop, dtype=dtype)
        heard = []
        after = Run(sampler, always(tmp_path / str(stop), heard=heard), dtype=dtype)
        assert torch.equal(after.latents, whole.latents), f"after step {stop}"
        assert before.seen + after.seen == whole.seen, "no step is run twice"
        assert before.calls + after.calls == whole.calls
        assert [(one.step, one.steps) for one in heard] == [(stop, whole.of)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_loop_interrupted_after_each_of_its_steps_comes_to_the_same(sampler, tmp_path):
    whole = Run(sampler)
    for stop in whole.seen:
        assert Run(sampler, always(tmp_path), stop_after=stop).seen == [stop]
    assert torch.equal(Run(sampler, always(tmp_path)).latents, whole.latents)


@pytest.mark.parametrize("sampler", [name for name, one in SAMPLERS.items() if name != "euler"])
def test_latents_and_the_step_alone_would_not_do(sampler, tmp_path):
    """Else the tests above would show nothing: each sampler goes wrong without the rest of its state."""

    class Forgetful:
        def __init__(self, inner):
            self.offer, self.inner = inner.offer, inner

        def resume(self, take):
            def forgotten(snapshot):
                state = dict.fromkeys(snapshot.facts["state"])
                start = standing_of(snapshot, fresh, SAMPLERS[sampler])
                state = {name: getattr(fresh.scheduler, name, None) for name in state}
                for name, value in state.items():
                    setattr(start.scheduler, name, value)
                start.scheduler._step_index = snapshot.step
                return replace(start, generator=fresh.generator)

            return self.inner.resume(forgotten)

    noise, generator = initial_noise(SHAPE, 5)
    sampling = Sampling(sampler, STEPS, 5.0, {"high": 3.0, "low": 1.0}, 0.9)
    drawn = generator if SAMPLERS[sampler].stochastic else None
    fresh = Standing(0, noise, make_scheduler(sampling, "cpu"), drawn)
    whole = Run(sampler)
    Run(sampler, always(tmp_path), stop_after=3)
    try:
        found = Run(sampler, Forgetful(always(tmp_path))).latents
    except (TypeError, AttributeError):
        return  # it can't even go on
    assert not torch.equal(found, whole.latents)


def same(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_state_that_is_listed_is_all_that_a_step_changes(name, steps):
    """A diffusers that keeps something more must not go unnoticed."""
    sampler = SAMPLERS[name]
    scheduler = make_scheduler(Sampling(name, steps, 5.0, {"high": 1.0, "low": 1.0}, 0.9), "cpu")
    latents, generator = initial_noise(SHAPE, 1)
    drawn = generator if sampler.stochastic else None
    extra = {"generator": drawn} if sampler.stochastic else {}
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        before = copy.deepcopy(vars(scheduler))
        latents = scheduler.step(torch.sin(latents), timestep, latents, return_dict=False, **extra)[0]
        changed = {key for key, value in vars(scheduler).items() if key not in before or not same(value, before[key])}
        assert changed <= set(sampler.state)
        snapshot_of(Standing(step, latents, scheduler, drawn), sampler)


def standing(name="unipc", steps=STEPS, shape=SHAPE):
    noise, generator = initial_noise(shape, 1)
    scheduler = make_scheduler(Sampling(name, steps, 5.0, {"high": 1.0, "low": 1.0}, 0.9), "cpu")
    drawn = generator if SAMPLERS[name].stochastic else None
    extra = {"generator": drawn} if drawn else {}
    start = Standing(0, noise, copy.deepcopy(scheduler), drawn)
    latents = scheduler.step(torch.sin(noise), scheduler.timesteps[0], noise, return_dict=False, **extra)[0]
    return start, Standing(1, latents, scheduler, drawn)


def test_tensors_come_back_to_where_they_were():
    """Sigmas and what is computed of them stay on the CPU while latents are on an accelerator."""
    start, stand = standing()
    snapshot = snapshot_of(stand, SAMPLERS["unipc"])
    away = {**snapshot.facts["state"], "last_sample": {"tensor": "last_sample", "cpu": False}}
    elsewhere = replace(start, latents=start.latents.to("meta"))
    moved = standing_of(replace(snapshot, facts={**snapshot.facts, "state": away}), elsewhere, SAMPLERS["unipc"])
    assert moved.latents.device.type == moved.scheduler.last_sample.device.type == "meta"
    assert moved.scheduler.model_outputs[-1].device.type == "cpu"
    assert {one["cpu"] for one in snapshot.facts["state"]["timestep_list"] if one} == {True}


def test_what_can_not_be_told_is_an_error():
    _, stand = standing()
    stand.scheduler.last_sample = {"a": 1}
    with pytest.raises(TypeError, match="last_sample: expected tensors, numbers, None or lists of them, found a dict"):
        snapshot_of(stand, SAMPLERS["unipc"])
    _, stand = standing("lcm")
    with pytest.raises(ValueError, match="generator of a sampler"):
        snapshot_of(replace(stand, generator=None), SAMPLERS["lcm"])


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0},
        {"step": STEPS + 1},
        {"steps": STEPS - 1},
        {"tensors": {}},
        {"facts": {}},
        {"tensors": {"latents": torch.zeros(1, 16, 2, 2, 2)}},
        {"tensors": {"latents": torch.zeros(SHAPE, dtype=torch.float64)}},
    ],
    ids=repr,
)
def test_a_snapshot_of_another_loop_is_refused_and_changes_nothing(change):
    start, stand = standing()
    before = copy.deepcopy(vars(start.scheduler))
    with pytest.raises((ValueError, KeyError)):
        standing_of(replace(snapshot_of(stand, SAMPLERS["unipc"]), **change), start, SAMPLERS["unipc"])
    assert all(same(vars(start.scheduler)[name], value) for name, value in before.items())


def test_another_samplers_snapshot_is_refused():
    start, _ = standing("unipc")
    _, other = standing("dpm++")
    with pytest.raises(ValueError, match=r"UniPCMultistepScheduler.*DPMSolverMultistepScheduler"):
        standing_of(snapshot_of(other, SAMPLERS["dpm++"]), start, SAMPLERS["unipc"])


def test_a_snapshot_that_a_sampler_refuses_costs_nothing_but_the_steps(tmp_path):
    checkpoint = always(tmp_path)
    checkpoint.offer(lambda: Snapshot(3, STEPS, {"latents": torch.zeros(2)}))
    again = Run("euler", checkpoint)
    assert again.seen == list(range(1, STEPS + 1))
    assert torch.equal(again.latents, Run("euler").latents)
