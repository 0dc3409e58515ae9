"""The contact sheet beside a video's file. It is a view of clips that the store has: no row points at it, and `svid
sheet` makes it again at any time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.api import Clip
from svid.errors import NotFound, Problem
from svid.media.sheet import Strip, draw_sheet
from svid.store import models
from svid.store.blobs import Blobs
from svid.store.disk import storage_problem
from svid.store.files import sheet_beside

log = logging.getLogger("svid.sheet")


def title_of(video: models.Video) -> str:
    """What stands on top of a video's sheet."""
    return f"{video.name}   {video.id}"


def strips_of(segments: Sequence[models.Segment], clips: Sequence[Clip], prefix: str = "") -> list[Strip]:
    """A row per segment, under its number, the beginning of its id, and its prompt."""
    return [
        Strip(f"{prefix}{segment.index + 1}   {segment.id[:8]}   {_said(segment)}", clip.path, clip.frames)
        for segment, clip in zip(segments, clips, strict=True)
    ]


def _said(segment: models.Segment) -> str:
    return "from a clip" if segment.ask.get("clip") else str(segment.ask["prompt"])


def stored_clips(session: Session, blobs: Blobs, segments: Sequence[models.Segment]) -> list[Clip]:
    """The clip of every segment of a chain as its video shows it: with as many frames, in the newest encoding. Where
    none has as many, the longest one. Raises NotFound where a segment has no clip."""
    found = []
    for segment, after in pairwise([*segments, None]):
        if segment is None:
            break
        rows = session.scalars(select(models.Clip).where(models.Clip.segment_id == segment.id)).all()
        if not rows:
            place = f"segment {segment.index + 1}"
            raise NotFound(Problem(place, "", f"the store has no clip of {segment.id[:12]}", "extend its video"))
        shown = segment.shown(after)
        best = max(rows, key=lambda row: (row.frames == shown, row.frames, row.created, row.encoding))
        found.append(Clip(blobs.path(best.blob), best.frames))
    return found


def drawn(video: Path, title: str, strips: Sequence[Strip]) -> bytes | None:
    """The sheet of the file `video` as PNG. What keeps it from being drawn is logged, and gives None: a video is worth
    more than the view of it. What the disk is to blame for is raised, because the job then waits."""
    try:
        return draw_sheet(title, strips)
    except Exception as error:
        if storage_problem(error) is not None:
            raise
        log.warning("%s can't be made, the video can: %s", sheet_beside(video).name, error)
        return None
