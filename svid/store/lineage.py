"""Videos, chains and references to them: `harbour at dawn`, `v3fa9c1`, `v3fa9c1@2`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, not_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from svid.errors import Ambiguous, NotFound, Problem
from svid.store.models import Artifact, Asset, Job, JobSegment, Segment, Video

SHORTEST_PREFIX = 4

CANDIDATES = 5
"""How many of those that may be meant are named."""

PROOF = Job.manifest["reproduce"].as_string().is_not(None)
"""Which jobs only prove a video."""

NUMBER = re.compile(r"-?[0-9]{1,9}")
"""What stands behind the @ of a reference."""


@dataclass(frozen=True)
class Reference:
    """A video, and how many of its segments are meant; None means all that it has when work begins. Below 0, the
    segment is counted from the end that the video has then: -1 is the last one."""

    video: Video
    length: int | None


def resolve(session: Session, written: str, *, later: bool = False) -> Reference:
    """Find the video that `written` names: its id, its name, a unique prefix of its id, each with `@k` or without. With
    `later` a video is meant as its jobs leave it, so that while it has any, k is not looked up.

    Raises NotFound where nothing matches (naming what is near) and where the video has no segment k, Ambiguous where
    more than one matches (naming them).
    """
    matches = _videos(session, written)
    head, at, tail = written.rpartition("@")
    if not matches and at and head and NUMBER.fullmatch(tail):
        matches = _videos(session, head)
        if len(matches) == 1:
            k = int(tail)
            waits = later and k != 0 and is_changing(session, matches[0])
            return Reference(matches[0], k if waits else length_at(session, matches[0], k, written))
    if not matches:
        raise NotFound(Problem(written, "", "no video has this id or name", _near(session, head or written)))
    if len(matches) > 1:
        raise ambiguous(written, "videos", [f"{video.id} ({video.name})" for video in matches])
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


def begun(session: Session, ids: InstrumentedAttribute[str], written: str) -> list[str]:
    """The ids of a table that begin with what was `written`, one more than are ever named at the most; none where that
    is too short to say which is meant."""
    if len(written) < SHORTEST_PREFIX:
        return []
    found = select(ids).where(ids.startswith(written, autoescape=True)).order_by(ids)
    return list(session.scalars(found.limit(CANDIDATES + 1)))


def ambiguous(written: str, what: str, found: Sequence[str]) -> Ambiguous:
    """The error for a name or a beginning that is that of several `what`, the first of which it names."""
    count = str(len(found)) if len(found) <= CANDIDATES else f"more than {CANDIDATES}"
    hint = f"say which by id: {', '.join(found[:CANDIDATES])}"
    return Ambiguous(Problem(written, "", f"is ambiguous: {count} {what} match", hint))


def segment_begun(session: Session, written: str) -> Segment | None:
    """The segment whose id begins with what was `written`, None where there is none. Raises Ambiguous."""
    found = begun(session, Segment.id, written)
    if len(found) > 1:
        raise ambiguous(written, "segments", found)
    return session.get_one(Segment, found[0]) if found else None


def job_begun(session: Session, written: str) -> Job | None:
    """The job whose id begins with what was `written`, None where there is none. Raises Ambiguous."""
    found = begun(session, Job.id, written)
    if len(found) > 1:
        raise ambiguous(written, "jobs", found)
    return session.scalars(select(Job).where(Job.id == found[0])).one() if found else None


def is_changing(session: Session, video: Video) -> bool:
    """Whether jobs that have not ended may still let a video end elsewhere."""
    live = and_(Job.video_id == video.id, Job.state.in_(("queued", "running")))
    return session.scalars(select(Job.id).where(live, not_(PROOF)).limit(1)).first() is not None


def length_of(session: Session, video: Video) -> int:
    """How many segments a video has now."""
    return session.get_one(Segment, video.tip_id).index + 1 if video.tip_id else 0


def length_at(session: Session, video: Video, k: int, written: str) -> int:
    """How many segments of a video there are up to its segment k, -1 being the last. Raises NotFound, naming what was
    `written`, where it has none such."""
    whole = length_of(session, video)
    length = k if k > 0 else whole + 1 + k
    if k == 0 or not 1 <= length <= whole:
        raise NotFound(Problem(written, "", f"{video.id} has {whole} segments; there is no segment {k}"))
    return length


def _near(session: Session, written: str) -> str:
    import difflib

    names = list(session.scalars(select(Video.name).order_by(Video.created.desc()).limit(1000)))
    near = difflib.get_close_matches(written, dict.fromkeys(names), n=3)
    return f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "svid tree shows the videos"


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


def file_of(session: Session, video: Video, tip: str) -> str | None:
    """The newest file that shows a video up to the segment `tip`, relative to the home."""
    made = select(Artifact.path).where(Artifact.video_id == video.id, Artifact.tip_id == tip)
    return session.scalars(made.order_by(Artifact.id.desc()).limit(1)).first()


def placed(session: Session, video: Video, segment: Segment) -> tuple[JobSegment, Job]:
    """How a segment came to its place in a video: the row that holds the settings after it, and its job. Looked up in
    the videos that this one was forked from too. Raises NotFound."""
    rows = session.execute(
        select(JobSegment, Job)
        .join(Job, Job.id == JobSegment.job_id)
        .where(JobSegment.segment_id == segment.id, not_(PROOF))
        .order_by(Job.seq)
    )
    # the first, so that who takes a segment for a second time does not change what it was; a proof, which may have
    # dropped options and may be of a fork that never placed the segment itself, does not count
    by_video: dict[str, tuple[JobSegment, Job]] = {}
    for row, job in rows:
        by_video.setdefault(job.video_id, (row, job))
    place = f"{video.id}@{segment.index + 1}"
    while video.id not in by_video:
        if video.forked_from is None:
            raise NotFound(Problem(place, "", "the database has no settings for this segment"))
        video = session.get_one(Video, video.forked_from)
    return by_video[video.id]


def resolve_stored(session: Session, written: str) -> str | None:
    """The whole id of the segment or asset that a prefix of at least four characters names; None where there is none.
    Raises Ambiguous."""
    found = begun(session, Segment.id, written) + begun(session, Asset.sha256, written)
    if len(found) > 1:
        raise ambiguous(written, "segments and assets", found)
    return found[0] if found else None


def counts(session: Session, home: str) -> dict[str, int]:
    """How many rows there are of what people ask for: videos, segments, and a home's jobs by state."""
    found = {"videos": session.scalar(select(func.count()).select_from(Video)) or 0}
    found["segments"] = session.scalar(select(func.count()).select_from(Segment)) or 0
    jobs = select(Job.state, func.count(Job.id)).where(Job.home == home).group_by(Job.state)
    for state, number in session.execute(jobs):
        found[state] = number
    return found
