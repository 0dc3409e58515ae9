"""Encoding a committed segment once more. Its frames are those that it was committed with, or nothing is encoded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from sqlalchemy import select

from svid.api import Clip, Job
from svid.errors import BlobError, MediaError
from svid.media.checking import is_lossless
from svid.media.codecs import codec
from svid.media.picking import frames_at
from svid.media.reading import read_frames
from svid.render.chain import Work, decode_again, encode_again
from svid.render.checkpoint import differences
from svid.render.env import circumstances
from svid.render.made import Need, as_made
from svid.render.stored import parent_of, read_carry, segment_from_row
from svid.render.studio import Studio
from svid.store import models

log = logging.getLogger("svid.render")

ROUNDING = 0.5
"""Levels of 255, on average, by which another machine's decoder may differ: what it rounds otherwise, and no more."""


def encoded_again(studio: Studio, job: Job, need: Need) -> Clip:
    """A clip of a committed segment as `job` has clips encoded, from its latents or, where one is lossless, from a clip
    that it has. Raises MadeOtherwise where its frames can't be had as they were."""
    row = need.row
    segment, parent = segment_from_row(row, studio.blobs), parent_of(studio, row)
    exact = _exact_frames(studio, need)
    work = Work(
        plugins=studio.plugins,
        load=studio.load,
        job=job,
        segment=segment,
        carry=read_carry(studio, parent) if parent and exact is None else None,
        progress=lambda step, steps: None,
        out=studio.blobs.scratch(codec(job.encoding.codec).suffix),
        dropped=need.dropped,
    )
    if exact is not None:
        return encode_again(work, exact)
    if segment.clip is None:
        work.state = studio.blobs.get_tensors(row.latents)
        work.job = as_made(studio, job, need, segment)
    decode_again(work)
    work.job = job
    clip = encode_again(work)
    _prove(studio, need, torch.stack(list(work.tail)))
    return clip


def _exact_frames(studio: Studio, need: Need) -> Iterator[torch.Tensor] | None:
    """The frames of a clip that the segment has, where it has enough of them and gives back what was encoded."""
    row = need.row
    wanted = row.frames - row.overlap - need.dropped
    enough = (models.Clip.segment_id == row.id, models.Clip.frames >= wanted)
    with studio.store.read() as session:
        clips = session.scalars(select(models.Clip).where(*enough).order_by(models.Clip.encoding)).all()
    for clip in clips:
        try:
            path = studio.blobs.verified(clip.blob)
            if is_lossless(path) and _ends_as_decoded(studio, row, path, clip.frames):
                return (frame[None] for frame in islice(read_frames(path), wanted))
        except (BlobError, MediaError) as error:
            log.debug("segment %d is not taken from its clip: %s", row.index + 1, error)
    return None


def _ends_as_decoded(studio: Studio, row: models.Segment, path: Path, frames: int) -> bool:
    """Whether the last frames of a clip are those that were decoded. Its encoder may have been given others: a plugin
    that goes around it can change them."""
    tail = studio.blobs.get_tensors(row.tail)["tail"]
    stored = tail[: max(0, len(tail) - (row.frames - row.overlap - frames))]
    # The first frames of a segment may be blended with those of the one before, which the tail's never are.
    count = min(len(stored), frames - row.blend)
    last = frames_at(path, range(frames - count, frames))
    pairs = zip(last, stored[len(stored) - count :], strict=True)
    return count > 0 and all(torch.equal(torch.from_numpy(one), other) for one, other in pairs)


def _prove(studio: Studio, need: Need, tail: torch.Tensor) -> None:
    """Raise MadeOtherwise where the last frames that were decoded are not those that the segment left."""
    stored, now = studio.blobs.get_tensors(need.row.tail)["tail"], circumstances(studio.device)
    if torch.equal(tail, stored):
        return
    mean = float((tail.float() - stored.float()).abs().mean()) if tail.shape == stored.shape else 255.0
    changed = differences({name: need.row.env.get(name) for name in now}, now)
    if not changed or mean > ROUNDING:
        message = f"its last frames are not those that it left, by {mean:.2f} levels of 255 on average"
        raise need.refused([message, *changed])
