"""The segment loop: everything a job asks for, from where it stands to a finished file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from svid.api import Carry, Job, Picture
from svid.crash import crashpoint
from svid.errors import ManifestError, NotFound, Problem
from svid.manifest.model import Manifest
from svid.media.codecs import codec
from svid.plan.build import Parent, Plan, Planned, build_plan
from svid.plan.settings import PictureRef, Settings
from svid.render.ask import build_ask
from svid.render.chain import Work, run_chain
from svid.render.commit import Asked, Place, commit_reused, commit_segment, committed, find_reusable, job_row
from svid.render.env import circumstances
from svid.render.studio import Studio
from svid.render.video import encoding_key, make_video, read_carry
from svid.render.watch import Watch
from svid.store import models
from svid.store.ids import ask_key
from svid.store.lineage import ancestor, segment_at, settings_after
from svid.store.queue import fence


@dataclass
class _Loop:
    """Where the loop over the segments stands."""

    studio: Studio
    job: Job
    plan: Plan
    manifest: Manifest
    place: Place
    watch: Watch
    parent: str | None
    carry: Carry | None = None


def render_job(studio: Studio, id_: str, attempt: int, watch: Watch) -> None:
    """Render what is missing of a job and finish it.

    Raises Refused where it can't be done as asked, Cancelled where `watch` says stop, Fenced where another took it
    over.
    """
    row = job_row(studio.store, id_)
    manifest = Manifest.model_validate(row.manifest, strict=False)
    parent, tip = _begin(studio, row, attempt, manifest)
    pictures = {place: PictureRef.model_validate(ref) for place, ref in row.pictures.items()}
    plan = build_plan(manifest, studio.config, studio.recipes, pictures, parent, row.file)
    with studio.store.read() as session:
        name = session.get_one(models.Video, row.video_id).name
    job = studio.job(id_, name, row.video_id, plan)
    watch.tell({"event": "job", "job": id_, "name": name, "segments": len(plan.segments), "frames": _frames(plan)})
    loop = _Loop(studio, job, plan, manifest, Place(id_, attempt, row.video_id), watch, tip)
    done = committed(studio.store, id_)
    try:
        for number, planned in enumerate(plan.segments, start=1):
            watch.between_segments()
            if planned.index in done:
                loop.parent, loop.carry = done[planned.index], None
            else:
                _one(loop, planned, number)
    finally:
        studio.loras.release()
    watch.tell({"event": "joining", "job": id_})
    make_video(studio, job, attempt, row.text, studio.home.done / id_)


def _frames(plan: Plan) -> int:
    return sum(one.settings.frames for one in plan.segments)


def _begin(studio: Studio, row: models.Job, attempt: int, manifest: Manifest) -> tuple[Parent | None, str | None]:
    """Fix, on the first attempt, what the job builds on; on later ones read it back. The video may have grown since."""
    if row.started_from is None:
        with studio.store.write() as session:
            started = _found(session, row, manifest)
            fence(session, row.id, attempt, started_from=started)
            video = session.get_one(models.Video, row.video_id)
            if started["tip"] is not None and video.tip_id != started["tip"]:
                video.tip_id, video.fork_length = started["tip"], started["length"]
    else:
        started = row.started_from
    crashpoint("job-started")
    if started["tip"] is None:
        return None, None
    settings = Settings.model_validate(started["settings"])
    return Parent(started["video"], started["length"], settings), started["tip"]


def _found(session: Session, row: models.Job, manifest: Manifest) -> dict[str, Any]:
    if manifest.image is not None:
        return {"tip": None}
    source = session.get_one(models.Video, row.after or row.video_id)
    if source.tip_id is None:
        message = f"the video {source.id} ({source.name}) has no segment: the job that was to render it did not"
        raise ManifestError(Problem(row.file, "extend" if manifest.extend else "branch", message))
    length = row.base_length or session.get_one(models.Segment, source.tip_id).index + 1
    tip = segment_at(session, source, length)
    settings = settings_after(session, source, tip.index)
    return {"video": source.id, "tip": tip.id, "length": length, "settings": settings}


def _one(loop: _Loop, planned: Planned, number: int) -> None:
    """Render one segment, or take it as it is where exactly it was rendered before."""
    studio, total = loop.studio, len(loop.plan.segments)
    facts = {"job": loop.job.id, "segment": number, "segments": total, "index": planned.index}
    segment = studio.segment(planned, loop.plan.recipe, _anchor(loop, planned))
    stages = studio.config.chain.stages
    ask = build_ask(loop.job, segment, loop.parent, stages, studio.plugins.ask(loop.job, segment))
    asked = Asked(ask, ask_key(ask), loop.parent)
    known = find_reusable(studio.store, asked.key) if loop.manifest.reuse else None
    if known is not None:
        commit_reused(studio.store, known.id, planned, loop.place)
        loop.parent, loop.carry = known.id, None
        loop.watch.tell({"event": "reused", "id": known.id, **facts})
        return
    if loop.parent is not None and loop.carry is None:
        with studio.store.read() as session:
            before = session.get_one(models.Segment, loop.parent)
        loop.carry = read_carry(studio, before)
    loop.watch.tell({"event": "segment", "prompt": segment.prompt, "seed": segment.seed, **facts})
    work = Work(
        plugins=studio.plugins,
        load=studio.load,
        job=loop.job,
        segment=segment,
        carry=loop.carry,
        progress=loop.watch.stepper(facts),
        loras=studio.loras,
        dropped=segment.tail_trim if number < total else 0,
        begins=lambda stage: loop.watch.tell({"event": "stage", "stage": stage, **facts}),
        out=studio.blobs.scratch(codec(loop.job.encoding.codec).suffix),
    )
    run_chain(stages, work)
    env = circumstances(studio.device) | {"plugins": {info.name: info.digest for info in studio.plugins.infos}}
    encoding = encoding_key(studio, loop.job, work.dropped)
    id_ = commit_segment(studio.store, studio.blobs, work, asked, planned, loop.place, encoding, env)
    # Read back from the blobs, as an extension years later will: what goes on from memory and what goes on from disk
    # must not be two things.
    loop.parent, loop.carry = id_, None
    loop.watch.tell({"event": "committed", "id": id_, "seconds": sum(work.seconds.values()), **facts})


def _anchor(loop: _Loop, planned: Planned) -> Picture:
    """The anchor of a segment, which by now exists."""
    anchor = planned.settings.anchor
    if isinstance(anchor, PictureRef):
        return loop.studio.picture(anchor.sha256, anchor.pixels)
    with loop.studio.store.read() as session:
        row = ancestor(session, loop.parent, anchor.tail_of) if loop.parent else None
    if row is None:
        message = "the segment whose last frame is the anchor is not on this chain"
        raise NotFound(Problem(f"segment {anchor.tail_of + 1}", "anchor", message))
    return loop.studio.frame_as_picture(row.tail)
