"""What svid shows of its rows: the dictionaries behind `--json` and result.json."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from svid.errors import Ambiguous, NotFound
from svid.home import Home
from svid.store.files import sheet_beside
from svid.store.homes import roots
from svid.store.lineage import ancestor, chain, job_begun, resolve, segment_begun
from svid.store.models import Artifact, Attempt, Job, JobSegment, Segment, Video


def segment_as_dict(segment: Segment, followed_by: Segment | None = None) -> dict[str, Any]:
    """A segment: `frames` are those that it contributes, `seconds` what it took to render."""
    return {
        "id": segment.id,
        "parent": segment.parent_id,
        "seed": int(segment.seed),
        "latents": segment.latents,
        "frames": segment.shown(followed_by),
        "seconds": round(segment.seconds, 3),
        # What came from a clip went through its codec; it was never rendered and never will be.
        "lossy": segment.ask.get("clip") is not None,
    }


def chain_as_dicts(session: Session, tip: str | None) -> list[dict[str, Any]]:
    """The segments of a chain, in order."""
    return [segment_as_dict(one, after) for one, after in pairwise([*chain(session, tip), None]) if one]


def _artifact(places: Mapping[str, Path], home: str, artifact: Artifact) -> dict[str, Any]:
    """`home` is the one of its job; a path of one that nobody knows any more is relative to that."""
    path = places.get(home, Path()) / artifact.path
    sheet = sheet_beside(path)
    return {
        "path": str(path),
        "sheet": str(sheet) if sheet.is_file() else None,
        "sha256": artifact.sha256,
        "frames": artifact.frames,
        "fps": artifact.fps,
        "codec": artifact.codec,
        "tip": artifact.tip_id,
    }


def artifact_of(session: Session, home: Home, job: str) -> dict[str, Any]:
    """The file that a job of this home made."""
    row = select(Artifact).where(Artifact.job_id == job).order_by(Artifact.id.desc()).limit(1)
    return _artifact({home.id: home.root}, home.id, session.scalars(row).one())


def video_as_dict(session: Session, home: Home, video: Video) -> dict[str, Any]:
    """A video with its segments, its files and the videos that were forked from it."""
    made = select(Job.home, Artifact).join(Job, Job.id == Artifact.job_id)
    artifacts, places = made.where(Artifact.video_id == video.id).order_by(Artifact.id), roots(session, home)
    forks = select(Video.id).where(Video.forked_from == video.id).order_by(Video.created)
    jobs = select(Job).where(Job.video_id == video.id).order_by(Job.seq)
    return {
        "id": video.id,
        "name": video.name,
        "tip": video.tip_id,
        "parent": video.forked_from,
        "fork_length": video.fork_length,
        "forks": list(session.scalars(forks)),
        "segments": chain_as_dicts(session, video.tip_id),
        "artifacts": [_artifact(places, of, row) for of, row in session.execute(artifacts)],
        "jobs": [job_as_dict(job) for job in session.scalars(jobs)],
        "created": video.created.isoformat(),
    }


def job_as_dict(job: Job) -> dict[str, Any]:
    """A job in one row."""
    return {
        "id": job.id,
        "video": job.video_id,
        "state": job.state,
        "home": job.home,
        "file": job.file,
        "priority": job.priority,
        "attempt": job.attempt,
        "progress": job.progress,
        "errors": job.errors,
        "created": job.created.isoformat(),
        "ended": job.ended.isoformat() if job.ended else None,
        "answered": job.answered,
    }


def find_anything(session: Session, home: Home, written: str) -> dict[str, Any]:
    """What `svid show` shows for a video, a job or a segment, by id, name or unique prefix, or for segment k of a video
    by `ID@k`. Raises NotFound."""
    try:
        meant = resolve(session, written)
        if meant.length is not None and meant.video.tip_id is not None:
            row = ancestor(session, meant.video.tip_id, meant.length - 1)
            if row is not None:
                return {"kind": "segment", **_segment(session, row)}
        return {"kind": "video", **video_as_dict(session, home, meant.video)}
    except Ambiguous:
        raise
    except NotFound as error:
        for kind, finder in (("job", _find_job), ("segment", _find_segment)):
            found = finder(session, written)
            if found is not None:
                return {"kind": kind, **found}
        raise error


def _find_job(session: Session, written: str) -> dict[str, Any] | None:
    row = job_begun(session, written)
    if row is None:
        return None
    attempts = select(Attempt).where(Attempt.job_id == row.id).order_by(Attempt.n)
    return job_as_dict(row) | {
        "attempts": [
            {"n": one.n, "outcome": one.outcome, "memory": one.memory, "detail": one.detail, "segments": one.committed}
            for one in session.scalars(attempts)
        ]
    }


def _find_segment(session: Session, written: str) -> dict[str, Any] | None:
    row = segment_begun(session, written)
    return _segment(session, row) if row is not None else None


def _segment(session: Session, segment: Segment) -> dict[str, Any]:
    placed = (
        select(Job.video_id).join(JobSegment, JobSegment.job_id == Job.id).where(JobSegment.segment_id == segment.id)
    )
    return segment_as_dict(segment) | {
        "index": segment.index,
        "width": segment.width,
        "height": segment.height,
        "overlap": segment.overlap,
        "parent_trim": segment.parent_trim,
        "blend": segment.blend,
        "tail": segment.tail,
        "ask": segment.ask,
        "env": segment.env,
        "videos": sorted(set(session.scalars(placed))),
        "created": segment.created.isoformat(),
    }


def jobs_to_show(session: Session, home: str, ended: int) -> list[Job]:
    """Every job of a home that has not ended, and the last `ended` that have."""
    own = select(Job).where(Job.home == home)
    live = own.where(or_(Job.state == "queued", Job.state == "running")).order_by(Job.seq)
    past = own.where(Job.state.in_(("done", "failed"))).order_by(Job.ended.desc()).limit(ended)
    return [*reversed(list(session.scalars(past))), *session.scalars(live)]
