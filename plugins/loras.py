"""Stage `svid_apply_loras`: the segment's LoRAs and, where it has one, its hard cut.

What: each LoRA's file is merged into its expert at its strength, in fp32, cast once; afterwards the same weights are
back. One that is for some steps only is merged for those. A cut's LoRA goes onto the high-noise expert only, for this
segment only.
Why: the high-noise expert lays out the scene, so a cut is decided there; neph1's hard-cut files are trained for it.
Source: svid.wan.lora; HF neph1/hard_cut_wan_lora for the cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import EXPERTS, Applied, Expert, Job, Segment
from svid.errors import LoraError, Problem

if TYPE_CHECKING:
    from svid.wan.lora.apply import Use
    from svid.wan.model import WanModel

CACHE_VERSION = 1


@hookimpl
def svid_apply_loras(job: Job, model: WanModel, segment: Segment) -> AbstractContextManager[Applied]:
    """A context with the segment's LoRAs merged, yielding what was changed, per expert and file."""
    from svid.wan.lora.apply import applied

    return applied(model.experts, uses_of(segment), model.device)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any]:
    """Nothing beside the LoRAs' digests and strengths, which the core asks."""
    return {}


def uses_of(segment: Segment) -> dict[Expert, list[Use]]:
    """Which files go onto which expert, in order, the cut last. Raises LoraError where a cut has no high-noise file."""
    from svid.wan.lora.apply import Use

    uses: dict[Expert, list[Use]] = {expert: [] for expert in EXPERTS}
    for lora in segment.loras:
        for expert in EXPERTS:
            if expert in lora.files:
                uses[expert].append(Use(lora.name, lora.files[expert], lora.strength.get(expert, 1.0), lora.steps))
    if segment.cut is not None:
        lora = segment.cut.lora
        if "high" not in lora.files:
            message = "expected a file for the high-noise expert, found none"
            raise LoraError(Problem("the manifest", f"cuts: {lora.name}", message, "a cut works on that expert only"))
        uses["high"].append(Use(lora.name, lora.files["high"], segment.cut.strength))
    return uses
