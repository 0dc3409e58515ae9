"""What of the database a job stands for, as one JSON object beside its answer, so that the database can be built again
without one. `svid recover` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.store.again import kept_id
from svid.store.models import Artifact, Asset, Attempt, Base, Blob, Clip, Job, JobSegment, Segment, Video
from svid.store.rows import TABLES, plain


def receipt(session: Session, job: str) -> dict[str, Any]:
    """The rows that a job made or put in place: everything but weights' digests and what its video grew from."""
    found: dict[str, Any] = {"receipt": 1, **{name: [] for name in TABLES}}
    for row in _rows(session, session.scalars(select(Job).where(Job.id == job)).one()):
        found[row.__tablename__].append(plain(row))
    return found


def _rows(session: Session, job: Job) -> Iterator[Base]:
    yield job
    placed = list(session.scalars(select(JobSegment).where(JobSegment.job_id == job.id).order_by(JobSegment.index)))
    yield from placed
    video: Video | None = session.get_one(Video, job.video_id)
    while video is not None:  # those that it was forked from are only named, so that the row has what it points at
        yield video
        video = session.get(Video, video.forked_from) if video.forked_from else None
    kept = session.get(Video, kept_id(job.id))
    if kept is not None:
        yield kept
    blobs = {ref["sha256"] for ref in job.pictures.values()}
    for asset in sorted(blobs):
        yield session.get_one(Asset, asset)
    for one in placed:
        segment = session.get_one(Segment, one.segment_id)
        clips = list(session.scalars(select(Clip).where(Clip.segment_id == segment.id).order_by(Clip.encoding)))
        yield segment
        yield from clips
        blobs |= {segment.latents, segment.tail, *(clip.blob for clip in clips)}
    for sha256 in sorted(blobs):
        yield session.get_one(Blob, sha256)
    yield from session.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.n))
    yield from session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.id))
