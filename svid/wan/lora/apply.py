"""Merging LoRAs into the experts for a while, and putting the very same weights back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from svid.api import EXPERTS, Expert
from svid.errors import LoraError, Problem
from svid.wan.lora.read import LoraFile, read_lora


@dataclass(frozen=True)
class Use:
    """One LoRA file on one expert at a strength."""

    name: str
    file: Path
    strength: float


Report = Mapping[str, list[dict[str, Any]]]


@contextmanager
def applied(experts: Mapping[Expert, Any], uses: Mapping[Expert, Sequence[Use]]) -> Iterator[Report]:
    """Merge `uses` into `experts` while the context lasts.

    W + sum of strength * delta is computed in fp32 and cast once to W's dtype. On exit, also after an error, every
    parameter gets its original tensor back, bit for bit. A strength of 0 leaves the expert as it is; its file is still
    read and checked. Yields, per expert, one entry a file: name, file, strength, how many modules it changed, and which
    keys were set aside.

    Raises:
        LoraError: see `read_lora`; also keys that the expert has no parameter for, and shapes that don't fit it. All
            files are checked before any weight is touched.
    """
    read = {use.file: None for expert in EXPERTS for use in uses.get(expert, ())}
    files = {path: read_lora(path) for path in read}
    problems: list[Problem] = []
    report: dict[str, list[dict[str, Any]]] = {}
    for expert in EXPERTS:
        parameters = dict(experts[expert].named_parameters()) if expert in experts else {}
        for use in uses.get(expert, ()):
            problems += check_fit(files[use.file], parameters, expert)
        report[expert] = [_entry(use, files[use.file]) for use in uses.get(expert, ())]
    if problems:
        raise LoraError(problems)
    originals: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    try:
        for expert in EXPERTS:
            _merge(experts.get(expert), [(files[use.file], use.strength) for use in uses.get(expert, ())], originals)
        yield report
    finally:
        for parameter, original in reversed(originals):
            _restore(parameter, original)


def check_fit(lora: LoraFile, parameters: Mapping[str, Any], expert: str) -> list[Problem]:
    """What of `lora` finds no parameter in the expert, or one of another shape."""
    problems = []
    for name, delta in lora.deltas.items():
        keys = ", ".join(delta.keys)
        if name not in parameters:
            message = f"expected a part of the {expert}-noise expert, found none called {name}"
            problems.append(Problem(lora.name, keys, message, "is this LoRA made for another model?"))
        elif not delta.fits(tuple(parameters[name].shape)):
            found = f"expected the shape {list(parameters[name].shape)} of {name}, found another"
            problems.append(Problem(lora.name, keys, found, "is this LoRA made for another model?"))
    return problems


def _entry(use: Use, file: LoraFile) -> dict[str, Any]:
    modules = {name.rpartition(".")[0] for name in file.deltas} if use.strength else set()
    return {
        "name": use.name,
        "file": file.name,
        "strength": use.strength,
        "modules": len(modules),
        "set_aside": list(file.set_aside),
    }


@torch.no_grad()
def _merge(
    expert: Any, loras: Sequence[tuple[LoraFile, float]], originals: list[tuple[torch.nn.Parameter, torch.Tensor]]
) -> None:
    changes = defaultdict(list)
    for lora, strength in loras:
        for name, delta in lora.deltas.items():
            if strength:
                changes[name].append((strength, delta))
    for name, deltas in changes.items():
        parameter = expert.get_parameter(name)
        total = parameter.data.float()
        for strength, delta in deltas:
            # Out of place: .float() of an fp32 parameter is the parameter itself.
            total = total + strength * delta.value(tuple(total.shape), total.device)
        merged = total.to(parameter.dtype)
        originals.append((parameter, _set_aside(parameter.data)))
        parameter.data = merged


def _set_aside(weight: torch.Tensor) -> torch.Tensor:
    """The original where it costs no accelerator memory: a 14B expert and its copy don't fit on one card."""
    return weight if weight.device.type == "cpu" else weight.cpu()


def _restore(parameter: torch.nn.Parameter, original: torch.Tensor) -> None:
    if original.device == parameter.device:
        parameter.data = original
    else:
        parameter.data.copy_(original)
