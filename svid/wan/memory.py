"""Carrying out a memory plan: what computes is brought to the device, and what was there before makes room."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from svid.memory import Plan

Part = TypeVar("Part")

AWAY = torch.device("cpu")
"""Where parts are that don't compute."""


class Placement:
    """The parts of a model of which one at a time is on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Weak: a model that is let go of must go at once, since the next one may not fit beside it.
        self._inside: weakref.ref[torch.nn.Module] | None = None
        self._streamed: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    def stream(self, part: Any) -> None:
        """Have `part`, a transformer, come to the device by itself, block by block."""
        part.enable_group_offload(self._device, AWAY, offload_type="block_level", num_blocks_per_group=1)
        self._streamed.add(part)

    def bring(self, part: torch.nn.Module) -> None:
        """Have `part` on the device, in the place of what was there."""
        before = self._inside() if self._inside is not None else None
        if before is part:
            return
        self._inside = None  # until all of the next one is there
        if before is not None:
            before.to(AWAY)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # the next part's tensors have other sizes
        if part not in self._streamed:
            part.to(self._device)
            self._inside = weakref.ref(part)


def place(plan: Plan, device: torch.device, experts: Sequence[Any], others: Sequence[Any]) -> None:
    """Place the freshly loaded transformers and the other parts of a model as `plan` says."""
    placement = Placement(device)
    for part in [*experts, *others]:
        if plan.at_once:
            part.to(device)
        else:
            part.svid_placement = placement
    if plan.blocks:
        for expert in experts:
            placement.stream(expert)


def at_hand(part: Part) -> Part:
    """`part` of a model, on the device that it computes on. To be asked for whenever something is about to be computed
    with it, and not kept: asking for another part may send it away."""
    placement = getattr(part, "svid_placement", None)
    if placement is not None:
        placement.bring(part)
    return part
