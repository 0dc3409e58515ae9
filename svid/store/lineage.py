"""Videos, chains and references to them: `harbour at dawn`, `v3fa9c1`, `v3fa9c1@2`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from svid.errors import NotFound, Problem
from svid.store.models import Job, JobSegment, Segment, Video

SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Reference:
    """A video, and how many of its segments are meant; None means all that it has when work begins."""

    video: Video
    length: int | None


def resolve(session: Session, written: str) -> Reference:
    """Find the video that `written` names: its id, its name, a unique prefix of its id, each with `@k` or without.

    Raises NotFound where nothing matches (naming what is near) or where more than one does (naming each).
    """
    matches = _videos(session, written)
    head, at, tail = written.rpartition("@")
    if not matches and at and head and tail.lstrip("-").isdigit():
        matches = _videos(session, head)
        if len(matches) == 1:
            return Reference(matches[0], _length(session, matches[0], int(tail), written))
    if not matches:
        raise NotFound(Problem(written, "", "no video has this id or name", _near(session, head or written)))
    if len(matches) > 1:
        listed = ", ".join(f"{video.id} ({video.name})" for video in matches[:8])
        raise NotFound(Problem(written, "", f"{len(matches)} videos match", f"say which by id: {listed}"))
    return Reference(matches[0], None)


def _videos(session: Session, written: str) -> list[Video]:
    exact = session.get(Video, written)
    if exact is not None:
        return [exact]
    # A job that failed before its first segment leaves a video that nobody can mean.
    coming = select(Job.id).where(Job.video_id == Video.id, Job.state.in_(("queued", "running"))).exists()
    real = or_(Video.tip_id.is_not(None), coming)
    named = list(session.scalars(select(Video).where(Video.name == written, real).order_by(Video.created)))
    if named or len(written) < SHORTEST_PREFIX:
        return named
    begins = Video.id.startswith(written, autoescape=True)
    return list(session.scalars(select(Video).where(begins).order_by(Video.id)))


def _length(session: Session, video: Video, k: int, written: str) -> int | None:
    if video.tip_id is None:
        return k if k > 0 else None
    tip = session.get_one(Segment, video.tip_id)
    length = k if k > 0 else tip.index + 2 + k
    if not 1 <= length <= tip.index + 1:
        raise NotFound(Problem(written, "", f"{video.id} has {tip.index + 1} segments; there is no segment {k}"))
    return length


def _near(session: Session, written: str) -> str:
    import difflib

    names = list(session.scalars(select(Video.name).order_by(Video.created.desc()).limit(1000)))
    near = difflib.get_close_matches(written, names, n=3)
    return f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "svid status lists the videos"


def chain(session: Session, tip_id: str | None) -> list[Segment]:
    """The segments from the first to `tip_id`."""
    if tip_id is None:
        return []
    first = select(Segment.id, Segment.parent_id).where(Segment.id == tip_id).cte("chain", recursive=True)
    parent = aliased(Segment)
    walk = first.union_all(select(parent.id, parent.parent_id).join(first, parent.id == first.c.parent_id))
    return list(session.scalars(select(Segment).join(walk, Segment.id == walk.c.id).order_by(Segment.index)))


def ancestor(session: Session, tip_id: str, index: int) -> Segment | None:
    """The segment with this index on the chain that ends in `tip_id`."""
    columns = (Segment.id, Segment.parent_id, Segment.index)
    first = select(*columns).where(Segment.id == tip_id).cte("walk", recursive=True)
    parent = aliased(Segment)
    step = select(parent.id, parent.parent_id, parent.index).join(first, parent.id == first.c.parent_id)
    walk = first.union_all(step.where(first.c.index > index))
    return session.scalars(select(Segment).join(walk, Segment.id == walk.c.id).where(Segment.index == index)).first()


def segment_at(session: Session, video: Video, length: int) -> Segment:
    """The last segment of the first `length` segments of a video. Raises NotFound where it is shorter."""
    found = ancestor(session, video.tip_id, length - 1) if video.tip_id else None
    if found is None:
        raise NotFound(Problem(f"{video.id}@{length}", "", f"the video {video.name!r} has no segment {length}"))
    return found


def settings_after(session: Session, video: Video, index: int) -> dict[str, Any]:
    """The settings that hold after the segment at `index` of a video, looked up in the videos it was forked from
    too."""
    while True:
        found = session.scalars(
            select(JobSegment)
            .join(Job, Job.id == JobSegment.job_id)
            .where(Job.video_id == video.id, JobSegment.index == index)
            .order_by(Job.seq.desc())
            .limit(1)
        ).first()
        if found is not None:
            return found.settings
        if video.forked_from is None or index >= video.fork_length:
            raise NotFound(Problem(f"{video.id}@{index + 1}", "", "the database has no settings for this segment"))
        video = session.get_one(Video, video.forked_from)


def counts(session: Session) -> dict[str, int]:
    """How many rows there are of what people ask for: videos, segments and jobs by state."""
    found = {"videos": session.scalar(select(func.count(Video.id))) or 0}
    found["segments"] = session.scalar(select(func.count(Segment.id))) or 0
    for state, number in session.execute(select(Job.state, func.count(Job.id)).group_by(Job.state)):
        found[state] = number
    return found
