"""Proof that what is stored is what was committed: every blob by its bytes, every segment by its two hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.errors import BlobError, Problem
from svid.home import Home
from svid.store.blobs import Blobs
from svid.store.files import sha256_of
from svid.store.homes import roots
from svid.store.ids import ask_key, segment_id
from svid.store.models import Artifact, Blob, Job, Segment

BATCH = 200
FORMERLY = {"parent_trim": "tail_trim"}
"""What asks of schema 1 call a column."""


def verify(session: Session, blobs: Blobs, home: Home) -> Iterator[Problem | None]:
    """Check everything, yielding for each thing that was checked None or what is wrong with it. Constant memory."""
    for blob in session.scalars(select(Blob).order_by(Blob.sha256).execution_options(yield_per=BATCH)):
        yield _check_blob(session, blobs, blob)
    for segment in session.scalars(select(Segment).order_by(Segment.id).execution_options(yield_per=BATCH)):
        yield check_segment(session, segment)
    places, made = roots(session, home), select(Job.home, Artifact).join(Job, Job.id == Artifact.job_id)
    for of, artifact in session.execute(made.order_by(Artifact.id).execution_options(yield_per=BATCH)):
        yield _check_artifact(places[of], artifact) if of in places else None


def _check_blob(session: Session, blobs: Blobs, blob: Blob) -> Problem | None:
    try:
        blobs.verified(blob.sha256)
    except BlobError as error:
        problem = error.problems[0]
        uses = (Segment.latents == blob.sha256) | (Segment.tail == blob.sha256)
        affected = [found[:12] for found in session.scalars(select(Segment.id).where(uses))]
        hint = f"{blob.kind} of segment {', '.join(affected)}" if affected else blob.kind
        return Problem(problem.file, blob.kind, problem.message, hint)
    return None


def check_segment(session: Session, segment: Segment) -> Problem | None:
    """What is wrong with a segment: its two hashes, the columns that repeat its ask, its parent."""
    name = f"segment {segment.id[:12]}"
    key = ask_key(segment.ask)
    if key != segment.ask_key:
        return Problem(name, "ask", f"expected the hash {segment.ask_key[:12]}, found {key[:12]}")
    found = segment_id(key, segment.latents, segment.tail)
    if found != segment.id:
        return Problem(name, "id", f"its ask and blobs hash to {found[:12]}")
    for column in ("seed", "frames", "width", "height", "overlap", "parent_trim", "blend"):
        asked = segment.ask.get(column, segment.ask.get(FORMERLY.get(column, ""), 0))
        if str(getattr(segment, column)) != str(asked):
            return Problem(name, column, f"expected {asked}, found {getattr(segment, column)}")
    if segment.parent_id != segment.ask["parent"]:
        return Problem(name, "parent", f"expected {segment.ask['parent']}, found {segment.parent_id}")
    if segment.parent_id is not None and session.get(Segment, segment.parent_id) is None:
        return Problem(name, "parent", f"the segment {segment.parent_id[:12]} is gone")
    return None


def _check_artifact(root: Path, artifact: Artifact) -> Problem | None:
    """A video file belongs to its user, who may move it away; it can be made again. Changed bytes are worth a word."""
    file = root / artifact.path
    if file.is_file() and sha256_of(file) != artifact.sha256:
        return Problem(artifact.path, "sha256", f"its bytes have changed since it was made from {artifact.tip_id[:12]}")
    return None
