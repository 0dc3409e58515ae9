"""The encoded clips of a video's segments: those that the store has, and those that it lacks, made of what it has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import av
from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.api import Clip, Job
from svid.canonical import digest
from svid.errors import BlobError
from svid.plugin.offers import ask
from svid.render.again import encoded_again
from svid.render.commit import note_blob, note_clip
from svid.render.made import Need
from svid.render.studio import Studio
from svid.render.watch import Watch
from svid.store import models
from svid.store.queue import held

log = logging.getLogger("svid.render")

BRING_BACK = "bring back what it was made with"


def encoding_key(studio: Studio, job: Job, dropped: int) -> str:
    """The digest of what decides the bytes of an encoded clip of a segment, `dropped` frames at its end left out. Clips
    of another encoder build can't be joined with this one's, so its version is part of it."""
    encoders: dict[str, Any] = {}
    for info in studio.plugins.infos:
        if "svid_encode" in info.hooks:
            options = job.options.get(info.name)
            encoders[info.name] = info.cache_version if options is None else ask(info, {}, options)
    return digest(
        {
            "codec": job.encoding.codec,
            "quality": job.encoding.quality,
            "fps": job.fps,
            "dropped": dropped,
            "av": av.__version__,
            "encoders": encoders,
        }
    )


def clips_of_chain(
    studio: Studio, watch: Watch, job: Job, attempt: int, segments: Sequence[models.Segment], trim: int = 0
) -> list[Clip]:
    """The clip of every segment as `job` encodes it, `trim` frames of the last one left out. One is missing where the
    video was encoded otherwise before, for the segment that was the last one, if its end is left out now that another
    follows, and where its blob is gone or has changed. Raises MadeOtherwise where such a clip can't be made with the
    frames that the segment has, Cancelled between two of them where `watch` says stop: those that are made stay."""
    dropped = [segment.parent_trim for segment in segments[1:]] + [trim]
    keys = {number: encoding_key(studio, job, number) for number in set(dropped)}
    with studio.store.read() as session:
        have = clips_of(session, [segment.id for segment in segments], list(keys.values()))
    clips = []
    for segment, number in zip(segments, dropped, strict=True):
        row = have.get((segment.id, keys[number]))
        if row is None:
            clips.append(_made(studio, watch, job, attempt, _need(studio, job, segment, number)))
            continue
        try:
            clips.append(Clip(studio.blobs.verified(row.blob), row.frames))
        except BlobError as error:
            file, found = error.problems[0].file, error.problems[0].message
            log.warning("segment %d: %s: %s; its clip is encoded again", segment.index + 1, file, found)
            hint = f"put a good copy of {file} there; or {BRING_BACK}"
            need = Need(segment, number, "encode", f"as for its clip, {file}: {found}", hint)
            clips.append(_made(studio, watch, job, attempt, need))
    return clips


def _need(studio: Studio, job: Job, row: models.Segment, dropped: int) -> Need:
    """Why a segment's clip is to be made: it is encoded otherwise than before, or shows another number of frames."""
    with studio.store.read() as session:
        clips = session.scalars(select(models.Clip).where(models.Clip.segment_id == row.id)).all()
    left_out = {clip.encoding: row.frames - row.overlap - clip.frames for clip in clips}
    alike = [number for key, number in left_out.items() if key == encoding_key(studio, job, number)]
    if not alike:
        hint = f"keep the codec, the quality and the rate that the video has; or {BRING_BACK}"
        return Need(row, dropped, "encode", "to encode it as it was not before", hint)
    if min(alike) < dropped:
        purpose = f"to leave out its last {dropped} frames, which segment {row.index + 2} shows in their place"
        hint = f'[conditioning] seam = "head" leaves it as it is; or {BRING_BACK}'
    else:
        purpose, hint = f"to show all but its last {dropped} frames", BRING_BACK
    return Need(row, dropped, "conditioning.seam", purpose, hint)


def _made(studio: Studio, watch: Watch, job: Job, attempt: int, need: Need) -> Clip:
    """Encode a segment, in an encoding that it does not have yet, or no longer whole."""
    watch.between_segments()
    watch.tell({"event": "encoding", "job": job.id, "index": need.row.index})
    made = encoded_again(studio, job, need)
    draft = studio.blobs.draft_file(made.path)
    with held(studio.store, job.id, attempt) as session:
        blob = studio.blobs.publish(draft)
        note_blob(session, studio.blobs, blob, "clip")
        key = encoding_key(studio, job, need.dropped)
        note_clip(session, need.row.id, key, blob, made.frames)
        session.get_one(models.Clip, (need.row.id, key)).blob = blob
    return Clip(studio.blobs.path(blob), made.frames)


def clips_of(session: Session, segments: Sequence[str], encodings: Sequence[str]) -> dict[tuple[str, str], models.Clip]:
    """The clips that these segments have in these encodings, by segment and encoding."""
    found: dict[tuple[str, str], models.Clip] = {}
    for start in range(0, len(segments), 500):  # SQLite allows a limited number of values in one statement
        some = segments[start : start + 500]
        rows = select(models.Clip).where(models.Clip.encoding.in_(encodings), models.Clip.segment_id.in_(some))
        found |= {(row.segment_id, row.encoding): row for row in session.scalars(rows)}
    return found
