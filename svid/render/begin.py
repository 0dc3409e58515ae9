"""What a job builds on: fixed on its first attempt, read back on later ones, because videos grow, tips move, and
recipes and svid.toml change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.crash import crashpoint
from svid.errors import ManifestError, NotFound, Problem
from svid.manifest.model import Manifest
from svid.plan.build import Plan, start_of
from svid.plan.ground import START, TAKES, ground, inputs_of, plan_of
from svid.plan.settings import Settings
from svid.render.studio import Studio
from svid.store import models
from svid.store.ids import job_ids
from svid.store.lineage import length_at, length_of
from svid.store.queue import fence


@dataclass(frozen=True)
class Begun:
    """A job's plan, the segment that its first one follows, the video that changes, and the segments that are asked for
    again."""

    manifest: Manifest
    video: str
    plan: Plan
    tip: str | None
    was: tuple[str, ...]


def begin(studio: Studio, row: models.Job, attempt: int) -> Begun:
    """Fix or read back what a job builds on. Raises ManifestError where it does not fit, Fenced where another attempt
    runs."""
    manifest = Manifest.model_validate(row.manifest, strict=False)
    if row.started_from is None:
        with studio.store.write() as session:
            started = _found(session, studio, row, manifest)
            video = _grown(session, row, manifest, started)
            forked = {"video_id": video.id, "after": row.video_id} if video.id != row.video_id else {}
            fence(session, row.id, attempt, started_from=started, **forked)
            if video.tip_id is None and started["tip"] is not None:
                video.tip_id, video.fork_length = started["tip"], started["length"]
            video_id = video.id
    else:
        started, video_id = row.started_from, row.video_id
    crashpoint("job-started")
    plan = plan_of(row, started, studio.config, studio.recipes, _first(studio, row.id))
    return Begun(manifest, video_id, plan, started["tip"], tuple(started.get("was", ())))


def _found(session: Session, studio: Studio, row: models.Job, manifest: Manifest) -> dict[str, Any]:
    config, recipes, (pictures, clip) = studio.config, studio.recipes, inputs_of(row)
    if manifest.base is None:
        start = start_of(manifest, config, recipes, pictures, None, row.file, clip)
        return {"tip": None, "start": START.dump_python(start, mode="json")}
    source = session.get_one(models.Video, row.after or row.video_id)
    if source.tip_id is None:
        message = f"the video {source.id} ({source.name}) has no segment: the job that was to render it did not"
        raise ManifestError(Problem(row.file, manifest.base[0], message))
    length = row.base_length
    try:
        length = length and length_at(session, source, length, f"{source.id}@{length}")
    except NotFound as error:
        raise ManifestError([replace(one, file=row.file, where=manifest.base[0]) for one in error.problems]) from error
    found = ground(session, manifest, source, length, config, recipes, row.file)
    started: dict[str, Any] = {"video": source.id, "tip": found.tip, "length": found.parent.length}
    if not found.takes:
        start = start_of(manifest, config, recipes, pictures, found.parent, row.file)
        return started | {"start": START.dump_python(start, mode="json")}
    plan = found.plan(manifest, config, recipes, pictures, row.file)
    return started | {"takes": TAKES.dump_python(plan.segments, mode="json"), "was": list(found.was)}


def _grown(session: Session, row: models.Job, manifest: Manifest, started: Mapping[str, Any]) -> models.Video:
    """The video of a job. One that extends the first k segments of a video makes one of its own where, by now, more
    follow: as it would have, had it come when the jobs before it were done."""
    video = session.get_one(models.Video, row.video_id)
    if manifest.extend is None or row.after is not None or started["length"] == length_of(session, video):
        return video
    _, fresh = job_ids(row.digest, row.occurrence)
    fork = models.Video(id=fresh, name=manifest.name or video.name, forked_from=video.id)
    session.add(fork)
    session.flush()
    return fork


def _first(studio: Studio, job: str) -> Settings | None:
    """The settings of the first segment that a job has put in place."""
    rows = select(models.JobSegment.settings).where(models.JobSegment.job_id == job)
    with studio.store.read() as session:
        found = session.scalars(rows.order_by(models.JobSegment.index).limit(1)).first()
    return Settings.model_validate(found) if found else None
