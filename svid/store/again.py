"""What asking for segments again does to a video: its tip moves and what was there keeps a name, or it is proved."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.errors import NotReproduced, Problem
from svid.store.models import Job, JobSegment, Segment, Video


def move_tip(session: Session, video_id: str, tip: str, job: str) -> None:
    """Let a video end in `tip`. Where it ended before gets a video of its own, unless one that was forked from this one
    ends there already, so that nothing that was rendered becomes unreachable."""
    video = session.get_one(Video, video_id)
    old, video.tip_id = video.tip_id, tip
    if old is None or old == tip:
        return
    forks = select(Video.id).where(Video.tip_id == old, Video.forked_from == video_id).limit(1)
    if session.scalars(forks).first() is None:
        length = session.get_one(Segment, old).index + 1
        kept = Video(id=kept_id(job), name=f"{video.name} before {job}", forked_from=video_id, fork_length=length)
        kept.tip_id = old
        session.add(kept)


def kept_id(job: str) -> str:
    """The id of the video that keeps what a job has moved a tip away from."""
    return f"v{hashlib.sha256(f'{job} before'.encode()).hexdigest()[:12]}"


def reproduced(session: Session, job: Job) -> list[dict[str, Any]]:
    """What a job that proves a video has found, segment by segment; empty for other jobs."""
    if not job.manifest.get("reproduce") or job.started_from is None:
        return []
    rows = select(JobSegment).where(JobSegment.job_id == job.id).order_by(JobSegment.index)
    first = job.started_from["length"]
    was = job.started_from["was"]
    return [
        {
            "number": row.index + 1,
            "was": was[row.index - first],
            "is": row.segment_id,
            "equal": row.segment_id == was[row.index - first],
        }
        for row in session.scalars(rows)
    ]


def prove(session: Session, job: Job) -> None:
    """Raises NotReproduced, naming them, where segments of a video have come out otherwise than before."""
    problems = []
    for one in reproduced(session, job):
        if not one["equal"]:
            hint = f"svid explain {one['was'][:12]} {one['is'][:12]}"
            message = f"expected {one['was'][:12]}, found {one['is'][:12]}"
            problems.append(Problem(job.file, f"segment {one['number']}", message, hint))
    if problems:
        raise NotReproduced(problems)
