"""Committing a segment: one transaction of the attempt that has the job, in which blobs get their names first and rows
come last. A kill anywhere in it leaves at most blobs that no row points at; an attempt that was taken over does not
begin it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from svid.crash import crashpoint
from svid.plan.build import Planned
from svid.render.chain import Work
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.ids import segment_id
from svid.store.models import Attempt, Blob, Clip, Job, JobSegment, Segment, Video
from svid.store.queue import held
from svid.store.receipt import Receipts


@dataclass(frozen=True)
class Asked:
    """A segment that is to be rendered: its ask, the hash of it, and what it follows."""

    ask: Mapping[str, Any]
    key: str
    parent: str | None


@dataclass(frozen=True)
class Place:
    """Where a segment goes: the attempt that writes, and the video, whose tip it becomes if the video grows."""

    job: str
    attempt: int
    video: str
    grows: bool = True


def find_reusable(store: Store, key: str) -> Segment | None:
    """A segment that was rendered from exactly this ask, the oldest where a device gave several answers."""
    with store.read() as session:
        found = select(Segment).where(Segment.ask_key == key).order_by(Segment.created, Segment.id).limit(1)
        return session.scalars(found).first()


def commit_segment(
    store: Store,
    blobs: Blobs,
    receipts: Receipts,
    work: Work,
    asked: Asked,
    planned: Planned,
    place: Place,
    encoding: str,
    env: Mapping[str, Any],
) -> str:
    """Publish what a segment left and commit its row; returns its id. Raises Fenced where another has the job now."""
    began = time.perf_counter()
    if work.clip is None:
        raise RuntimeError("a segment is committed after it is encoded")
    drafts = {
        "latents": blobs.draft_tensors(work.state),
        "tail": blobs.draft_tensors({"tail": torch.stack(list(work.tail))}),
        "clip": blobs.draft_file(work.clip.path),
    }
    latents, tail, clip = (draft.sha256 for draft in drafts.values())
    id_ = segment_id(asked.key, latents, tail)
    seconds = dict(work.seconds) | {"publish": time.perf_counter() - began}
    segment = work.segment
    crashpoint("segment-drafted")
    with held(store, place.job, place.attempt) as session:
        for kind, draft in drafts.items():
            note_blob(session, blobs, blobs.publish(draft), kind)
            crashpoint(f"{kind}-published")
        if session.get(Segment, id_) is None:
            session.add(
                Segment(
                    id=id_,
                    parent_id=asked.parent,
                    index=segment.index,
                    ask_key=asked.key,
                    ask=dict(asked.ask),
                    latents=latents,
                    tail=tail,
                    seed=str(segment.seed),
                    frames=segment.frames,
                    overlap=segment.overlap,
                    parent_trim=segment.parent_trim,
                    blend=segment.blend,
                    width=segment.width,
                    height=segment.height,
                    env={**env, "stages": seconds, "loras": dict(work.applied.report), "resumed": work.resumed},
                    seconds=sum(seconds.values()),
                )
            )
            session.flush()
        note_clip(session, id_, encoding, clip, work.clip.frames)
        _place(session, id_, planned, place, reused=False)
        receipts.keep(session, place.job, planned.index)
    crashpoint("segment-committed")
    return id_


def commit_reused(store: Store, receipts: Receipts, id_: str, planned: Planned, place: Place) -> bool:
    """Put a segment that exists already at its place in the video; False where `svid gc` has just taken it away. Raises
    Fenced where another has the job now."""
    with held(store, place.job, place.attempt) as session:
        if session.get(Segment, id_) is None:
            return False
        _place(session, id_, planned, place, reused=True)
        receipts.keep(session, place.job, planned.index)
    return True


def _place(session: Session, id_: str, planned: Planned, place: Place, *, reused: bool) -> None:
    settings = planned.after.model_dump(mode="json")
    session.add(JobSegment(job_id=place.job, index=planned.index, segment_id=id_, reused=reused, settings=settings))
    if place.grows:
        session.execute(update(Video).where(Video.id == place.video).values(tip_id=id_))
    own = (Attempt.job_id == place.job, Attempt.n == place.attempt)
    session.execute(update(Attempt).where(*own).values(committed=Attempt.committed + 1))


def note_blob(session: Session, blobs: Blobs, sha256: str, kind: str) -> None:
    """Give a published blob its row."""
    if session.get(Blob, sha256) is None:
        session.add(Blob(sha256=sha256, kind=kind, bytes=blobs.path(sha256).stat().st_size))
        session.flush()


def note_clip(session: Session, segment: str, encoding: str, blob: str, frames: int) -> None:
    """Remember how a segment looks in one encoding."""
    if session.get(Clip, (segment, encoding)) is None:
        session.add(Clip(segment_id=segment, encoding=encoding, blob=blob, frames=frames))


def committed(store: Store, job: str) -> dict[int, str]:
    """The segments that a job has put in place so far, by index."""
    with store.read() as session:
        rows = session.execute(select(JobSegment.index, JobSegment.segment_id).where(JobSegment.job_id == job))
        return dict(rows.all())


def job_row(store: Store, job: str) -> Job:
    """A job's row."""
    with store.read() as session:
        return session.scalars(select(Job).where(Job.id == job)).one()
