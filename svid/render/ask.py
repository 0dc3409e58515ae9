"""The ask of a segment: everything that decides what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from svid.api import Job, Lora, Picture, Segment
from svid.errors import Problem, StoreError

SCHEMA = 2
"""Raise it when the meaning of a key below changes, so that old asks are never mistaken for new ones."""


def build_ask(
    job: Job, segment: Segment, parent: str | None, stages: Sequence[str], plugins: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that decides the answer, and nothing else: no names, paths, versions, hosts or times."""
    return {
        "schema": SCHEMA,
        "parent": parent,
        "variant": job.recipe.variant,
        "weights": dict(job.model.digests),
        "dtype": job.model.dtype,
        "prompt": segment.prompt,
        "negative": segment.negative,
        "seed": segment.seed,
        "frames": segment.frames,
        "width": segment.width,
        "height": segment.height,
        "image": segment.image.pixels if segment.image else None,
        "anchor": _pixels(segment),
        "clip": {"bytes": segment.clip.sha256, "last": segment.clip.last} if segment.clip else None,
        "end_image": segment.end_image.pixels if segment.end_image else None,
        "layout": segment.layout.model_dump(),
        "overlap": segment.overlap,
        "parent_trim": segment.parent_trim,
        "blend": segment.blend,
        "stream": segment.stream,
        "sampling": {
            "sampler": segment.sampling.sampler,
            "steps": segment.sampling.steps,
            "shift": segment.sampling.shift,
            "sigmas": list(segment.sampling.sigmas) if segment.sampling.sigmas else None,
            "guidance": dict(segment.sampling.guidance),
            "boundary": segment.sampling.boundary,
        },
        "loras": [_lora(lora) for lora in segment.loras],
        "cut": {"lora": _lora(segment.cut.lora), "strength": segment.cut.strength} if segment.cut else None,
        "stages": list(stages),
        "plugins": dict(plugins),
    }


def _pixels(segment: Segment) -> str | None:
    if segment.clip is not None:
        return None
    if not isinstance(segment.anchor, Picture):
        raise StoreError(Problem(f"segment {segment.index + 1}", "anchor", "is asked for before it is rendered"))
    return segment.anchor.pixels


def _lora(lora: Lora) -> dict[str, Any]:
    on: dict[str, Any] = {
        expert: {"file": lora.digests[expert], "strength": lora.strength[expert]} for expert in sorted(lora.files)
    }
    return {**on, "steps": list(lora.steps) if lora.steps else None}
