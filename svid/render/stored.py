"""Committed segments as stages see them."""

from __future__ import annotations

from pathlib import Path

from svid.api import Carry, Footage, Layout, Picture, Sampling, Segment
from svid.render.studio import Studio
from svid.store import models
from svid.store.blobs import Blobs


def segment_from_row(row: models.Segment, blobs: Blobs) -> Segment:
    """A committed segment as the decode stage sees it: without what only sampling needs, such as pictures and LoRAs."""
    ask, sampling, clip = row.ask, row.ask["sampling"], row.ask.get("clip")
    return Segment(
        index=row.index,
        prompt=ask["prompt"],
        negative=ask["negative"],
        seed=ask["seed"],
        frames=row.frames,
        width=row.width,
        height=row.height,
        anchor=Picture(Path(), "", ask["anchor"] or ""),
        image=None,
        layout=Layout.model_validate(ask.get("layout", {})),
        overlap=row.overlap,
        parent_trim=row.parent_trim,
        blend=row.blend,
        stream=ask.get("stream", False),
        clip=Footage(blobs.verified(clip["bytes"]), clip["bytes"], clip["last"]) if clip else None,
        sampling=Sampling(**sampling | {"sigmas": tuple(sampling["sigmas"]) if sampling["sigmas"] else None}),
    )


def read_carry(studio: Studio, row: models.Segment) -> Carry:
    """What a segment left for the next one, its bytes checked."""
    tail = studio.blobs.get_tensors(row.tail)["tail"]

    def before() -> Carry | None:
        parent = parent_of(studio, row)
        return read_carry(studio, parent) if parent is not None else None

    # A segment whose own head is shown has the frames that it repeats left out, or mixed, at the end of the one before.
    repeats = row.overlap or row.parent_trim
    return Carry(row.id, studio.blobs.get_tensors(row.latents), tail, repeats, before)


def parent_of(studio: Studio, row: models.Segment) -> models.Segment | None:
    """The segment that one follows."""
    if row.parent_id is None:
        return None
    with studio.store.read() as session:
        return session.get_one(models.Segment, row.parent_id)
