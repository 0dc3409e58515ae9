"""Merging LoRAs into the experts for a while, and putting the very same weights back."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from svid.api import EXPERTS, Applied, Expert
from svid.errors import LoraError, Problem
from svid.wan.lora.deltas import Delta
from svid.wan.lora.keys import is_image_branch
from svid.wan.lora.read import LoraFile, read_lora

log = logging.getLogger("svid.lora")


@dataclass(frozen=True)
class Use:
    """One LoRA file on one expert at a strength."""

    name: str
    file: Path
    strength: float
    steps: tuple[int, int] | None = None
    """The first and the last denoising step that it is on, counted from 1; None: all of them."""

    def on(self, step: int) -> bool:
        """Whether it is on at a step, counted from 1."""
        return self.steps is None or self.steps[0] <= step <= self.steps[1]


@dataclass(frozen=True)
class Chosen:
    """What a use changes in its expert, and the keys that are set aside because the expert has no image branch."""

    use: Use
    file: LoraFile
    deltas: Mapping[str, Delta]
    set_aside: tuple[str, ...]


@contextmanager
def applied(
    experts: Mapping[Expert, Any], uses: Mapping[Expert, Sequence[Use]], device: torch.device | None = None
) -> Iterator[Applied]:
    """Merge `uses` into `experts` while the context lasts.

    W + sum of strength * delta(W) is computed in fp32 and cast once to W's dtype, on `device` wherever W is kept (None:
    where W is), because another device may round otherwise. On exit, also after an error, every
    parameter gets its original tensor back, bit for bit. A strength of 0 leaves the expert as it is; its file is still
    read and checked. Uses for some steps only are on as of step 1; `begin_step` of what is yielded changes them, each
    time from the original weights. Yields a report with, per expert, one entry a use: name, file, strength, steps where
    it has some, how many modules it changes, and which keys were set aside: those for the image branch of Wan 2.1, on
    an expert that has none.

    Raises:
        LoraError: see `read_lora`; also keys that the expert has no parameter for, shapes that don't fit it, and a file
            of which nothing is left for it. All files are checked before any weight is touched.
    """
    files = {path: read_lora(path) for path in {use.file: None for expert in EXPERTS for use in uses.get(expert, ())}}
    problems = list(check_experts(files, uses))
    chosen: dict[Expert, list[Chosen]] = {}
    for expert in EXPERTS:
        parameters = dict(experts[expert].named_parameters()) if expert in experts else {}
        chosen[expert] = [_choose(use, files[use.file], expert, parameters) for use in uses.get(expert, ())]
        for one in chosen[expert]:
            problems += check_fit(one, parameters, expert)
    if problems:
        raise LoraError(problems)
    for name, keys in {one.file.name: one.set_aside for some in chosen.values() for one in some}.items():
        _warn(name, keys)
    merges = [_Merge(experts[expert], chosen[expert], device) for expert in EXPERTS if expert in experts]

    def begin_step(step: int) -> None:
        for merge in merges:
            merge.begin_step(step)

    try:
        begin_step(1)
        changing = any(one.use.steps for some in chosen.values() for one in some)
        report: dict[str, Any] = {expert: [_entry(one) for one in chosen[expert]] for expert in EXPERTS}
        yield Applied(report, begin_step if changing else None)
    finally:
        for merge in merges:
            merge.restore()


def check_experts(files: Mapping[Path, LoraFile], uses: Mapping[Expert, Sequence[Use]]) -> Iterator[Problem]:
    """Files that say which expert a key is for, and are not used on just the experts that they name."""
    for path, file in files.items():
        if not file.low:
            continue
        for expert in EXPERTS:
            used, deltas = path in [use.file for use in uses.get(expert, ())], file.on(expert)
            if used and not deltas:
                key = next(iter(file.low.values())).keys[0]
                message = f"expected changes of the {expert}-noise expert, found only the low-noise expert's"
                yield Problem(file.name, key, message, "name the file under `low`")
            if deltas and not used:
                key = next(iter(deltas.values())).keys[0]
                message = f"expected a use on the {expert}-noise expert, found none for this key and others"
                yield Problem(file.name, key, message, "it is a file for both experts: name it as `path`")


def check_fit(chosen: Chosen, parameters: Mapping[str, Any], expert: Expert) -> list[Problem]:
    """What finds no parameter in the expert, or one of another shape; or that there is nothing to find one for."""
    problems = []
    file = chosen.file
    for name, delta in chosen.deltas.items():
        keys = ", ".join(delta.keys)
        if name not in parameters:
            message = f"expected a part of the {expert}-noise expert, found none called {name}"
            problems.append(Problem(file.name, keys, message, "is this LoRA made for another model?"))
        elif not delta.fits(tuple(parameters[name].shape)):
            found = f"expected the shape {list(parameters[name].shape)} of {name}, found another"
            problems.append(Problem(file.name, keys, found, "is this LoRA made for another model?"))
    if chosen.set_aside and all(delta.is_zero for delta in chosen.deltas.values()):
        message = f"expected changes beside the {len(chosen.set_aside)} tensors of Wan 2.1's image branch, found none"
        problems.append(Problem(file.name, "", message, "this model has no image branch"))
    return problems


def _choose(use: Use, file: LoraFile, expert: Expert, parameters: Mapping[str, Any]) -> Chosen:
    deltas = file.on(expert)
    if any(map(is_image_branch, parameters)):
        return Chosen(use, file, deltas, ())
    kept = {name: delta for name, delta in deltas.items() if not is_image_branch(name)}
    aside = sorted({key for name, delta in deltas.items() if name not in kept for key in delta.keys})
    return Chosen(use, file, kept, tuple(aside))


def _entry(chosen: Chosen) -> dict[str, Any]:
    modules = {name.rpartition(".")[0] for name in chosen.deltas} if chosen.use.strength else set()
    return {
        "name": chosen.use.name,
        "file": chosen.file.name,
        "strength": chosen.use.strength,
        **({"steps": list(chosen.use.steps)} if chosen.use.steps else {}),
        "modules": len(modules),
        "set_aside": list(chosen.set_aside),
    }


def _warn(name: str, keys: Sequence[str]) -> None:
    if keys:
        some = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
        log.warning("%s: %d keys of Wan 2.1's image branch are set aside: %s", name, len(keys), some)


class _Merge:
    """The LoRAs of one expert, and what it was without them."""

    def __init__(self, expert: Any, chosen: Sequence[Chosen], device: torch.device | None) -> None:
        self._expert = expert
        self._chosen = chosen
        self._device = device
        self._on: list[int] = []
        self._originals: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def begin_step(self, step: int) -> None:
        """Have just those merged that are on at a step."""
        on = [place for place, one in enumerate(self._chosen) if one.use.strength and one.use.on(step)]
        if on != self._on:
            self.restore()
            self._merge([self._chosen[place] for place in on])
            self._on = on

    @torch.no_grad()
    def _merge(self, chosen: Sequence[Chosen]) -> None:
        changes = defaultdict(list)
        for one in chosen:
            for name, delta in one.deltas.items():
                changes[name].append((one.use.strength, delta))
        for name, deltas in changes.items():
            parameter = self._expert.get_parameter(name)
            base = total = parameter.data.to(self._device or parameter.device).float()
            for strength, delta in deltas:
                # Out of place: .float() of an fp32 parameter is the parameter itself, and every delta sees the same
                # base.
                total = total + strength * delta.delta(base)
            merged = total.to(parameter.dtype).to(parameter.device)
            self._originals.append((parameter, _set_aside(parameter.data)))
            parameter.data = merged

    def restore(self) -> None:
        """Give every parameter its original tensor back."""
        while self._originals:
            _restore(*self._originals.pop())
        self._on = []


def _set_aside(weight: torch.Tensor) -> torch.Tensor:
    """The original where it costs no accelerator memory: a 14B expert and its copy don't fit on one card."""
    return weight if weight.device.type == "cpu" else weight.cpu()


def _restore(parameter: torch.nn.Parameter, original: torch.Tensor) -> None:
    if original.device == parameter.device:
        parameter.data = original
    else:
        parameter.data.copy_(original)
