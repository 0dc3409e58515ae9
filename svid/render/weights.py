"""Whether a model's weights are still those that were loaded. A plugin may write to them, and a warm model would carry
that into every job that follows.

A few values of every parameter are compared, since a digest of two experts of 14 billion would take longer than a
segment. What changes whole tensors is seen; one value that is changed among millions may not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

VALUES = 64
"""Of each parameter."""

Print = Mapping[str, bytes]


def fingerprint(model: Any) -> Print:
    """Some values of every parameter of every torch module that `model` holds, by name; nothing where it holds none."""
    names, pieces = [], []
    for name, tensor in _tensors(model):
        if tensor.device.type != "meta" and tensor.numel():  # offloaded: its values are elsewhere
            flat = tensor.detach().reshape(-1)
            names.append(f"{name} {tensor.dtype}")
            pieces.append(flat[:: max(1, flat.numel() // VALUES)].to(torch.float32))
    found: dict[str, bytes] = {}
    for device in {piece.device for piece in pieces}:  # one transfer a device, not one a parameter
        here = [(name, piece) for name, piece in zip(names, pieces, strict=True) if piece.device == device]
        values = torch.cat([piece for _, piece in here]).cpu()
        parts = torch.split(values, [len(piece) for _, piece in here])
        for (name, _), part in zip(here, parts, strict=True):
            found[name] = part.numpy().tobytes()
    return found


def changed(before: Print, after: Print) -> list[str]:
    """The parameters that are in both and differ. One that was moved away or cast meanwhile is not compared."""
    return [name.partition(" ")[0] for name in before if name in after and before[name] != after[name]]


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for place, module in _modules(model, "", 3):
        for name, tensor in module.named_parameters():
            yield f"{place}.{name}".removeprefix("."), tensor


def _modules(value: Any, place: str, depth: int) -> Iterator[tuple[str, torch.nn.Module]]:
    """The torch modules in an object's attributes and in its mappings, a few levels down."""
    if isinstance(value, torch.nn.Module):
        yield place, value
        return
    inside = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
    if depth and isinstance(inside, Mapping):
        for name, item in inside.items():
            yield from _modules(item, f"{place}.{name}".removeprefix("."), depth - 1)
