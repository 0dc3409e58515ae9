"""A look at a sample of what is stored, in a fixed time: what came last, then from a random place on. It reads no blob,
so it finds what is missing, shortened or contradicts itself, and not a flipped bit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, literal_column, select, text
from sqlalchemy.orm import Session

from svid.errors import Problem
from svid.store.blobs import Blobs
from svid.store.models import Base, Blob, Segment
from svid.store.verify import check_segment

SECONDS = 0.5
NEWEST = 500
BATCH = 100
SMALL = 32 * 2**20
"""Bytes of a database that SQLite itself checks within the time."""

rowid: ColumnElement[int] = literal_column("rowid")


@dataclass
class Look:
    """What was seen: `checked` rows of `of`, which is counted by the highest row number."""

    checked: int = 0
    of: int = 0
    complete: bool = False
    problems: list[Problem] = field(default_factory=list)


def look(session: Session, blobs: Blobs, seconds: float = SECONDS) -> Look:
    """Check blobs by their size and segments by their two hashes until the time is over or all were seen."""
    found, end = Look(), time.monotonic() + seconds
    _check_pages(session, found)
    tables: list[tuple[Iterator[Any], Any]] = []
    for model, check in ((Blob, _check_size), (Segment, check_segment)):
        last = session.scalar(select(rowid).select_from(model).order_by(rowid.desc()).limit(1)) or 0
        found.of += last
        tables.append((_newest_then_any(session, model, last), check))
    while tables and time.monotonic() < end:
        rows, check = tables.pop(0)
        row = next(rows, None)
        if row is None:
            continue
        tables.append((rows, check))
        found.checked += 1
        problem = check(blobs, row) if check is _check_size else check(session, row)
        if problem is not None:
            found.problems.append(problem)
    found.complete = not tables
    return found


def _newest_then_any(session: Session, model: type[Base], last: int) -> Iterator[Any]:
    """Every row once: the newest, then those below a random place, then those between."""
    newest = max(last - NEWEST, 0)
    start = random.randint(0, newest)  # noqa: S311 - any place will do
    for high, low in ((last, newest), (start, 0), (newest, start)):
        while high > low:
            some = select(rowid, model).where(rowid <= high, rowid > low).order_by(rowid.desc()).limit(BATCH)
            batch = list(session.execute(some))
            for number, row in batch:
                high = number - 1
                yield row
            if not batch:
                break


def _check_size(blobs: Blobs, blob: Blob) -> Problem | None:
    file = f"db/blobs/{blob.sha256[:2]}/{blob.sha256}"
    try:
        size = blobs.path(blob.sha256).stat().st_size
    except OSError as error:
        return Problem(file, blob.kind, f"can't be read: {error.strerror}", "svid verify lists what is affected")
    if size != blob.bytes:
        return Problem(file, blob.kind, f"expected {blob.bytes} bytes, found {size}")
    return None


def _check_pages(session: Session, found: Look) -> None:
    pages, size = (session.scalar(text(f"PRAGMA {name}")) or 0 for name in ("page_count", "page_size"))
    if pages * size <= SMALL:
        said = session.scalar(text("PRAGMA quick_check(1)"))
        if said != "ok":
            found.problems.append(Problem("db/svid.db", "", str(said), "svid recover rebuilds it"))
