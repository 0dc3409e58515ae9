"""The segment loop: everything a job asks for, from where it stands to a finished file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from svid.api import Carry, Encoding, Job, Picture, Snapshot
from svid.errors import NotFound, Problem, StageError, SvidError
from svid.layout import seams
from svid.manifest.model import Manifest
from svid.media.codecs import codec
from svid.plan.build import Plan, Planned
from svid.plan.settings import PictureRef, Settings
from svid.render.ask import build_ask
from svid.render.begin import Begun, begin
from svid.render.chain import Work, checked, run_chain
from svid.render.checkpoint import Resumed, SegmentCheckpoint
from svid.render.clips import clips_of_chain, encoding_key
from svid.render.commit import Asked, Place, commit_reused, commit_segment, committed, find_reusable, job_row
from svid.render.env import circumstances, deciding_bits
from svid.render.made import decoders
from svid.render.stored import read_carry
from svid.render.studio import Studio
from svid.render.video import make_video
from svid.render.watch import Watch
from svid.store import models
from svid.store.again import prove
from svid.store.ids import ask_key
from svid.store.lineage import ancestor, chain
from svid.store.queue import held, note_memory

log = logging.getLogger("svid.render")


@dataclass
class _Loop:
    """Where the loop over the segments stands."""

    studio: Studio
    job: Job
    begun: Begun
    place: Place
    watch: Watch
    parent: str | None
    carry: Carry | None = None

    def held(self) -> AbstractContextManager[Session]:
        """See svid.store.queue.held."""
        return held(self.studio.store, self.place.job, self.place.attempt)

    def forget(self, key: str) -> None:
        """Drop the snapshot of an ask that has its segment now."""
        with self.held():
            self.studio.snapshots.drop(key)


def render_job(studio: Studio, id_: str, attempt: int, watch: Watch) -> None:
    """Render what is missing of a job and finish it.

    Raises Refused where it can't be done as asked, Cancelled where `watch` says stop, Fenced where another took it
    over.
    """
    row = job_row(studio.store, id_)
    begun = begin(studio, row, attempt)
    plan = begun.plan
    with studio.store.read() as session:
        name = session.get_one(models.Video, begun.video).name
    job = studio.job(id_, name, begun.video, plan.begins)
    placed = {"model": job.model.name, "memory": job.model.memory}
    note_memory(studio.store, id_, attempt, job.model.memory)
    facts = {"job": id_, "name": name, "segments": len(plan.segments), "frames": _frames(plan)}
    watch.tell({"event": "job", **facts, **placed})
    place = Place(id_, attempt, begun.video, grows=not begun.was)
    loop = _Loop(studio, job, begun, place, watch, begun.tip)
    done, after = committed(studio.store, id_), _at_its_end(studio, job, plan)
    try:
        if begun.tip is not None:  # before anything is rendered: what can't be shown as it was, ends the job
            with studio.store.read() as session:
                before = chain(session, begun.tip)
            clips_of_chain(studio, watch, after, attempt, before, _given_up(plan, 0))
        for number, planned in enumerate(plan.segments, start=1):
            watch.between_segments()
            if planned.index in done:
                loop.parent, loop.carry = done[planned.index], None
            else:
                _one(loop, planned, number)
            if begun.manifest.reproduce is not None:
                # The next one is asked for as it was, whatever came out here.
                loop.parent = begun.was[number - 1]
    except BaseException:
        try:
            studio.settle()
        except SvidError as error:  # what ended the job is what is told of it
            log.warning("the weights were not restored: %s", error)
        raise
    names = studio.settle()
    if names:
        message = f"expected weights as they were loaded, found {len(names)} parameters changed, {names[0]} first"
        raise StageError(Problem("the model", "", message, "a plugin did not put back what it changed"))
    if begun.manifest.reproduce is not None:
        with studio.store.read() as session:
            prove(session, job_row(studio.store, id_))  # once more: it knows by now what it began with
    if loop.parent is None:
        raise RuntimeError("a job that has a plan has a segment")
    moves = begun.manifest.redo is not None
    make_video(studio, watch, after, attempt, row.text, studio.home.done / id_, loop.parent, moves=moves)


def _at_its_end(studio: Studio, job: Job, plan: Plan) -> Job:
    """The job as what holds after it says, by which the whole video is joined: a redo's own settings are for one
    segment. Its model or its recipe may be gone by now, which is what a redo with another one may be for."""
    after = plan.settings
    if after.model in studio.config.models and after.recipe in studio.recipes:
        return studio.job(job.id, job.name, job.video, after)
    encoding = Encoding(after.codec, after.quality)
    return replace(job, fps=after.fps, encoding=encoding, options=studio.options(after.options))


def _frames(plan: Plan) -> int:
    return sum(one.clip.frames if one.clip else one.settings.frames for one in plan.segments)


def _one(loop: _Loop, planned: Planned, number: int) -> None:
    """Render one segment, or take it as it is where exactly it was rendered before."""
    with loop.held():
        pass  # whoever has lost the job is to know it before it costs a segment
    studio, total = loop.studio, len(loop.begun.plan.segments)
    loop.job = _job_for(loop.studio, loop.job, planned.settings)
    facts = {"job": loop.job.id, "segment": number, "segments": total, "index": planned.index}
    if planned.clip is not None:
        segment = studio.footage(planned, planned.clip)
    else:
        segment = studio.segment(planned, loop.job.recipe, _anchor(loop, planned))
    stages = studio.config.chain.stages
    ask = build_ask(loop.job, segment, loop.parent, stages, studio.plugins.ask(loop.job, segment))
    asked = Asked(ask, ask_key(ask), loop.parent)
    known = find_reusable(studio.store, asked.key) if _may_reuse(loop.begun.manifest, planned) else None
    if known is not None and commit_reused(studio.store, studio.receipts, known.id, planned, loop.place):
        loop.forget(asked.key)
        loop.parent, loop.carry = known.id, None
        loop.watch.tell({"event": "reused", "id": known.id, **facts})
        return
    if loop.parent is not None and loop.carry is None:
        with studio.store.read() as session:
            before = session.get_one(models.Segment, loop.parent)
        loop.carry = read_carry(studio, before)
    size = f"{segment.width} x {segment.height}, {segment.frames} frames"
    told = {"prompt": segment.prompt, "seed": segment.seed, "size": size, "ask": asked.key}
    loop.watch.tell({"event": "segment", **told, **facts})
    env = circumstances(studio.device) | {
        "memory": loop.job.model.memory,
        "plugins": {info.name: info.digest for info in studio.plugins.infos},
        "decoders": decoders(studio.plugins),
    }
    work = Work(
        plugins=studio.plugins,
        load=studio.load,
        job=loop.job,
        segment=segment,
        carry=loop.carry,
        progress=loop.watch.stepper(facts),
        loras=studio.loras,
        dropped=_given_up(loop.begun.plan, number),
        begins=lambda stage: loop.watch.tell({"event": "stage", "stage": stage, **facts}),
        checkpoint=lambda resumed: _checkpoint(loop, asked.key, env, facts, resumed),
        out=studio.blobs.scratch(codec(loop.job.encoding.codec).suffix),
    )
    run_chain(stages, work)
    checked(work)
    encoding = encoding_key(studio, loop.job, work.dropped)
    id_ = commit_segment(studio.store, studio.blobs, studio.receipts, work, asked, planned, loop.place, encoding, env)
    loop.forget(asked.key)
    # Read back from the blobs, as an extension years later will: what goes on from memory and what goes on from disk
    # must not be two things.
    loop.parent, loop.carry = id_, None
    loop.watch.tell({"event": "committed", "id": id_, "seconds": sum(work.seconds.values()), **facts})


def _may_reuse(manifest: Manifest, planned: Planned) -> bool:
    """Whether a segment may be taken as it is. A clip always is: it was never rendered, and proves nothing."""
    return planned.clip is not None or (manifest.reuse and manifest.reproduce is None)


def _job_for(studio: Studio, job: Job, settings: Settings) -> Job:
    """The job as the stages of one segment see it: what is rendered again may be of several recipes and models."""
    own = (job.recipe.name, job.model.name, job.fps, job.encoding, job.options)
    encoding, options = Encoding(settings.codec, settings.quality), studio.options(settings.options)
    if own == (settings.recipe, settings.model, settings.fps, encoding, options):
        return job
    return studio.job(job.id, job.name, job.video, settings)


def _checkpoint(
    loop: _Loop, key: str, env: Mapping[str, Any], facts: Mapping[str, Any], resumed: Resumed
) -> SegmentCheckpoint:
    """The checkpoint of a segment, which tells `resumed` and the outside that one goes on."""
    studio, watch = loop.studio, loop.watch

    def goes_on(snapshot: Snapshot) -> None:
        watch.tell({"event": "resumed", "after": snapshot.step, "of": snapshot.steps, **facts})
        resumed(snapshot)

    bits = deciding_bits(env)
    return SegmentCheckpoint(studio.snapshots, studio.pace, key, bits, goes_on, lambda: watch.stop_now, loop.held)


def _given_up(plan: Plan, number: int) -> int:
    """Frames at the end of the plan's segment `number` that the next one repeats and shows itself. They are counted
    from 1; 0 is the segment that the plan goes on from."""
    if number == len(plan.segments):
        return 0
    after = plan.segments[number]
    return seams(after.settings.layout, first=False, cut=after.cut is not None).parent_trim


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
