"""What of the database a job stands for, as one JSON object beside its answer, and until then as one per segment in
db/receipts, so that the database can be built again without one. `svid recover` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from svid.store.again import kept_id
from svid.store.files import make_folder, write_whole
from svid.store.models import Artifact, Asset, Attempt, Base, Blob, Clip, Job, JobSegment, Segment, Video
from svid.store.rows import TABLES, plain


def receipt(session: Session, job: str) -> dict[str, Any]:
    """The rows that a job made or put in place: everything but weights' digests and what its video grew from."""
    return _told(session, job, select(JobSegment).where(JobSegment.job_id == job).order_by(JobSegment.index))


class Receipts:
    """The folder db/receipts."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root, self.tmp = root, tmp

    def keep(self, session: Session, job: str, index: int) -> None:
        """Tell of a segment that the open transaction puts in place. Written before the commit: one that is not
        committed after all is as true as one that nothing points at. Raises OSError where it can't be written."""
        rows = _told(session, job, select(JobSegment).where(JobSegment.job_id == job, JobSegment.index == index))
        if not self.root.is_dir():  # a restored home has none
            make_folder(self.root)
        make_folder(self.root / job)
        write_whole(self.root / job / f"{index}.json", json.dumps(rows, ensure_ascii=False).encode(), self.tmp)

    def drop(self, job: str) -> None:
        """Forget a job: its answer has a receipt of its own."""
        with suppress(OSError):  # what stays is as true as before
            for file in (self.root / job).glob("*"):
                file.unlink(missing_ok=True)
            (self.root / job).rmdir()

    def files(self) -> list[Path]:
        """All that are there."""
        return sorted(file for file in self.root.glob("*/*.json") if file.stem.isdecimal())


def _told(session: Session, job: str, chosen: Select[JobSegment]) -> dict[str, Any]:
    found: dict[str, Any] = {"receipt": 1, **{name: [] for name in TABLES}}
    row = session.scalars(select(Job).where(Job.id == job)).one()
    for one in _rows(session, row, session.scalars(chosen).all()):
        found[one.__tablename__].append(plain(one))
    return found


def _rows(session: Session, job: Job, placed: Iterable[JobSegment]) -> Iterator[Base]:
    yield job
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
