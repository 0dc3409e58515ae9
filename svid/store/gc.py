"""What nothing leads to any more: found from the tips of the videos, from pins and from jobs that have not ended, moved
into db/trash, and deleted from there after a grace time.

Rows go before files, the reverse of a commit: a kill between the two leaves files that no row points at, which the next
run finds. A file is moved while the write lock is held, and only if it is not young, because a render process may have
published it a moment ago and be about to commit its row.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, union
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from svid.errors import NotFound, Problem
from svid.home import Home
from svid.inbox.scan import LARGEST
from svid.store import rows
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.files import make_folder, sync_folder, write_whole
from svid.store.homes import roots
from svid.store.models import LIVE, Artifact, Asset, Blob, Clip, Job, JobSegment, Segment, Video, now

YOUNG = 3600.0
"""Seconds in which a file or a segment may still be about to be used by a job that runs."""

STAMP = "%Y%m%dT%H%M%SZ"
BATCH = 400
ASSET = re.compile(rb"asset:([0-9a-f]{64})")
ENDED = ("done", "failed")


@dataclass
class Garbage:
    """What can go. `segments` and `blobs` have rows; `orphans` are files under db/blobs that never got one."""

    segments: list[str] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Counts, for `svid gc --json`."""
        counted = {name: len(getattr(self, name)) for name in ("segments", "blobs", "orphans")}
        return {**counted, "bytes": self.bytes}


def pins(home: Home) -> list[str]:
    """The ids of segments and assets that are to stay, each the name of a file in db/pins."""
    folder = home.db / "pins"
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def find(session: Session, home: Home, blobs: Blobs, young: float = YOUNG) -> Garbage:
    """What can go now. Reads only."""
    found, pinned = Garbage(), pins(home)
    found.segments = _dead_segments(session, pinned, young)
    dead = set(found.segments)
    used = {sha256 for row in _uses(session) if row[0] not in dead for sha256 in row[1:]} | set(pinned)
    used |= _asked_for(session, home)
    for pictures in session.scalars(select(Job.pictures).execution_options(yield_per=BATCH)):
        used.update(ref["sha256"] for ref in pictures.values())
    for sha256, size in session.execute(select(Blob.sha256, Blob.bytes).order_by(Blob.sha256)):
        if sha256 not in used and not _is_young(blobs.path(sha256), young):
            found.blobs.append(sha256)
            found.bytes += size
    for file in _files(blobs.root):
        if session.get(Blob, file.name) is None and file.name not in used and not _is_young(file, young):
            found.orphans.append(file.name)
            found.bytes += file.stat().st_size
    return found


def _asked_for(session: Session, home: Home) -> set[str]:
    """The assets that manifests name which no daemon has made jobs of yet, in every home that uses the database."""
    named: set[str] = set()
    for root in roots(session, home).values():
        for file in [*root.glob("watch/inbox/*"), *root.glob("watch/claimed/*")]:
            with suppress(OSError):
                if file.is_file() and file.stat().st_size <= LARGEST:
                    named.update(found.decode() for found in ASSET.findall(file.read_bytes()))
    return named


def _dead_segments(session: Session, pinned: Sequence[str], young: float) -> list[str]:
    """Segments that no root leads to, children before their parents."""
    live = list(session.execute(select(Job.id, Job.started_from).where(Job.state.in_(LIVE))))
    begun = [started["tip"] for _, started in live if started and started["tip"]]
    recent = Segment.created > now() - timedelta(seconds=young)
    placed = select(JobSegment.segment_id).where(JobSegment.job_id.in_([job for job, _ in live]))
    tips = select(Video.tip_id).where(Video.tip_id.is_not(None))
    roots = union(tips, placed, select(Segment.id).where(recent | Segment.id.in_([*begun, *pinned]))).subquery()
    columns = (Segment.id, Segment.parent_id)
    walk = select(*columns).where(Segment.id.in_(select(roots))).cte("live", recursive=True)
    parent = aliased(Segment)
    # union, not union all: where two videos share a beginning, it is walked once
    walk = walk.union(select(parent.id, parent.parent_id).join(walk, parent.id == walk.c.parent_id))
    dead = select(Segment.id).where(Segment.id.not_in(select(walk.c.id))).order_by(Segment.index.desc(), Segment.id)
    return list(session.scalars(dead))


def _uses(session: Session) -> Iterator[tuple[str, ...]]:
    for query in (select(Segment.id, Segment.latents, Segment.tail), select(Clip.segment_id, Clip.blob)):
        yield from (tuple(row) for row in session.execute(query))


def _files(root: Path) -> Iterator[Path]:
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and len(folder.name) == 2:
            yield from (file for file in sorted(folder.iterdir()) if len(file.name) == 64)


def _is_young(file: Path, young: float) -> bool:
    try:
        return time.time() - file.stat().st_mtime < young
    except FileNotFoundError:
        return False


def collect(store: Store, home: Home, blobs: Blobs, young: float = YOUNG) -> tuple[Garbage, Path | None]:
    """Move what can go into a folder of its own under db/trash, with its rows beside it, and return both."""
    moment = datetime.now(UTC)
    with store.write() as session:
        found = find(session, home, blobs, young)
        if not (found.segments or found.blobs or found.orphans):
            return found, None
        while (folder := home.db / "trash" / moment.strftime(STAMP)).exists():
            moment += timedelta(seconds=1)  # the rows of a run in the same second are not to be written over
        make_folder(folder.parent)
        make_folder(folder)
        write_whole(folder / "rows.json", json.dumps(_take_rows(session, found)).encode(), home.tmp)
    for start in range(0, len(names := found.blobs + found.orphans), BATCH):
        with store.write() as session:
            for name in names[start : start + BATCH]:
                if session.get(Blob, name) is None and blobs.path(name).exists():
                    blobs.path(name).rename(folder / name)
    sync_folder(folder)
    return found, folder


def _take_rows(session: Session, found: Garbage) -> dict[str, list[dict[str, Any]]]:
    """Delete the rows of what goes, those that point before those pointed at, and return them."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in rows.TABLES}
    for model, column, keys in (
        (Artifact, Artifact.tip_id, found.segments),
        (JobSegment, JobSegment.segment_id, found.segments),
        (Clip, Clip.segment_id, found.segments),
        (Segment, Segment.id, found.segments),
        (Clip, Clip.blob, found.blobs),
        (Asset, Asset.sha256, found.blobs),
        (Blob, Blob.sha256, found.blobs),
    ):
        for start in range(0, len(keys), BATCH):
            some = column.in_(keys[start : start + BATCH])
            taken[model.__tablename__] += [rows.plain(row) for row in session.scalars(select(model).where(some))]
            session.execute(delete(model).where(some).execution_options(synchronize_session=False))
    taken["segment"].sort(key=lambda row: row["index"])
    return taken


def put_back(store: Store, home: Home, blobs: Blobs, stamp: str) -> int:
    """Undo a run of `collect`; returns how many files are back. Raises NotFound where the trash has no such folder, or
    where what is in it stands on something that a later run has taken; then nothing is changed."""
    folder = home.db / "trash" / stamp
    if not (folder / "rows.json").is_file():
        raise NotFound(Problem(f"db/trash/{stamp}", "", "there is no such folder in the trash", "svid gc lists them"))
    taken, count = json.loads((folder / "rows.json").read_bytes()), 0
    try:
        with store.write() as session:
            for name, model in rows.TABLES.items():
                for row in taken.get(name, []):
                    rows.put(session, model, row)
            for file in sorted(folder.iterdir()):  # before the rows are committed, which point at them
                if len(file.name) == 64:
                    make_folder(blobs.path(file.name).parent)
                    file.rename(blobs.path(file.name))
                    sync_folder(blobs.path(file.name).parent)
                    count += 1
    except IntegrityError as error:
        message = "what is in it stands on something that a later run of gc has taken"
        raise NotFound(Problem(f"db/trash/{stamp}", "", message, "put the later one back first")) from error
    shutil.rmtree(folder)
    return count


def trash(home: Home) -> dict[str, int]:
    """The folders in the trash, with the bytes in each."""
    folder = home.db / "trash"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {one.name: sum(file.stat().st_size for file in one.iterdir()) for one in found if one.is_dir()}


def purge(home: Home, grace: float) -> list[str]:
    """Delete what has been in the trash for more than `grace` days; returns the names of those folders."""
    gone = []
    for name in trash(home):
        try:
            since = datetime.strptime(name, STAMP).replace(tzinfo=UTC)
        except ValueError:
            continue  # not ours
        if datetime.now(UTC) - since > timedelta(days=grace):
            shutil.rmtree(home.db / "trash" / name)
            gone.append(name)
    return gone
