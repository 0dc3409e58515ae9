"""Where a denoising loop stands, taken out as tensors and plain data and put back bit for bit.

Latents and the step alone are not enough: UniPC and DPM-Solver++ look back at the steps before, Heun and DPM-Solver++
2S are between two halves of a step, and the stochastic ones go on drawing from a generator. What a scheduler changes
while it steps is listed per sampler (svid.wan.samplers); tests/unit/test_wan_resume.py finds what is missing there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from svid.api import Snapshot
from svid.wan.samplers import Sampler


@dataclass(frozen=True)
class Standing:
    """A denoising loop after `step` steps: latents fp32 [1, 16, T, h, w], and what draws and steps from there on."""

    step: int
    latents: torch.Tensor
    scheduler: Any
    generator: torch.Generator | None


def snapshot_of(standing: Standing, sampler: Sampler) -> Snapshot:
    """A standing as data. The tensors are the live ones.

    Raises:
        TypeError: the scheduler keeps what can't be told in tensors and numbers.
        ValueError: the sampler draws noise and nobody knows from which generator.
    """
    if sampler.stochastic and standing.generator is None:
        raise ValueError("expected the generator of a sampler that draws noise, found none")
    tensors = {"latents": standing.latents}
    if standing.generator is not None:
        tensors["generator"] = standing.generator.get_state()
    state = {name: _packed(getattr(standing.scheduler, name), name, tensors) for name in sampler.state}
    facts = {"scheduler": type(standing.scheduler).__name__, "state": state}
    return Snapshot(standing.step, len(standing.scheduler.timesteps), tensors, facts)


def standing_of(snapshot: Snapshot, start: Standing, sampler: Sampler) -> Standing:
    """The standing that a snapshot was taken of. `start` is how its loop began, and stays as it is.

    Raises:
        ValueError, KeyError, RuntimeError: the snapshot is of another loop.
    """
    tensors, facts = dict(snapshot.tensors), snapshot.facts
    scheduler = copy.copy(start.scheduler)
    here = (type(scheduler).__name__, len(scheduler.timesteps), sorted(sampler.state))
    there = (facts["scheduler"], snapshot.steps, sorted(facts["state"]))
    if here != there or not 1 <= snapshot.step <= snapshot.steps:
        raise ValueError(f"expected a step of {here}, found step {snapshot.step} of {there}")
    latents, begun = tensors["latents"], start.latents
    if (latents.shape, latents.dtype) != (begun.shape, begun.dtype):
        raise ValueError(f"expected {begun.dtype} {list(begun.shape)}, found {latents.dtype} {list(latents.shape)}")
    for name, packed in facts["state"].items():
        setattr(scheduler, name, _unpacked(packed, tensors, begun.device))
    generator = None
    if start.generator is not None:
        generator = torch.Generator(start.generator.device)
        generator.set_state(tensors["generator"])
    return Standing(snapshot.step, latents.to(begun.device), scheduler, generator)


def _packed(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as plain data; its tensors go into `tensors`, under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name, "cpu": value.device.type == "cpu"}
    if isinstance(value, torch.Size):
        return {"size": list(value)}
    if isinstance(value, list):
        return [_packed(one, f"{name}.{index}", tensors) for index, one in enumerate(value)]
    if value is None or type(value) in (bool, int, float):
        return value
    raise TypeError(f"{name}: expected tensors, numbers, None or lists of them, found a {type(value).__name__}")


def _unpacked(packed: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """What was packed. Tensors come back to where they were: schedulers keep some on the CPU, whatever the device."""
    if isinstance(packed, list):
        return [_unpacked(one, tensors, device) for one in packed]
    if isinstance(packed, dict):
        if "size" in packed:
            return torch.Size(packed["size"])
        tensor = tensors[packed["tensor"]]
        return tensor if packed["cpu"] else tensor.to(device)
    return packed
