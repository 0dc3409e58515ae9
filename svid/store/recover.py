"""A new database from what is left: the rows of the old one that can still be read, the receipts beside the answers and
in db/receipts, and the blobs that all of them point at. Nothing is taken that can't be proved: a segment by its two
hashes, a blob by its file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, func, inspect, not_, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from svid.errors import SvidError
from svid.home import Home
from svid.store.blobs import Blobs
from svid.store.engine import open_store
from svid.store.files import make_folder, publish, sync_folder
from svid.store.ids import ask_key, segment_id
from svid.store.models import LIVE, Attempt, Base, Job, JobSegment, KnownHome, Moment, Segment, Video
from svid.store.receipt import Receipts
from svid.store.rows import TABLES, put, typed

Rows = dict[str, list[dict[str, Any]]]
PATIENCE = 256
"""Rows that can't be read, one after the other, before the search for the next good one takes longer steps."""


@dataclass
class Report:
    """What a recovery found: rows that are in the new database, by table, and what is not, in words."""

    file: Path
    home: str
    """Whose the jobs are that do not say so, because they are from before homes had ids."""
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    lost: list[str] = field(default_factory=list)
    receipts: int = 0


def rebuild(home: Home, migrations: Path) -> Report:
    """Make db/recovered.db. The old database is only read."""
    report = Report(home.db / "recovered.db", home.id)
    for leftover in home.db.glob("recovered.db*"):
        leftover.unlink()
    store = open_store(report.file, migrations)
    try:
        old = salvage(home.database, report)
        homes = _homes(home)
        receipts = [*_receipts(homes, report), *_unanswered(home, report)]
        with store.write() as session:
            session.add_all(KnownHome(id=id_, root=str(root)) for id_, root in homes.items())
            blobs = Blobs(home.blobs, home.tmp)
            _take(session, blobs, old, report)
            known = set(session.scalars(select(Video.id).where(Video.tip_id.is_not(None))))
            before = _placed(session)
            for rows in receipts:
                _take(session, blobs, rows, report)
            _point(session, known - {video for video, *_ in _placed(session) - before})
            _count_attempts(session)
    finally:
        store.close()
    return report


def _homes(home: Home) -> dict[str, Path]:
    """Where the homes are that the old database knows of, as far as they are there, and this one."""
    found = {home.id: home.root}
    if home.database.is_file():
        with closing(_open(home.database)) as connection, suppress(sqlite3.DatabaseError):
            for id_, root in connection.execute("SELECT id, root FROM home").fetchall():
                with suppress(SvidError):
                    if Home(Path(root)).id == id_:
                        found.setdefault(id_, Path(root))
    return found


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def salvage(database: Path, report: Report) -> Rows:
    """The rows of a database that can still be read, damaged as it may be."""
    found: Rows = {name: [] for name in TABLES}
    if not database.is_file():
        report.lost.append("db/svid.db: is gone")
        return found
    with closing(_open(database)) as connection:
        connection.row_factory = sqlite3.Row
        for name, model in TABLES.items():
            missed = 0
            for row in _readable(connection, name):
                try:
                    found[name].append(_python(model, dict(row)))  # type: ignore[arg-type]
                except (TypeError, ValueError):
                    missed += 1
            if missed:
                report.lost.append(f"db/svid.db: {name}: {missed} rows can't be read")
    return found


def _readable(connection: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row | None]:
    """Row after row by its number, None for each that can't be read."""
    try:
        top = connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0  # noqa: S608 - our own tables
    except sqlite3.DatabaseError:
        yield None
        return
    number, bad = 0, 0
    while number < top:
        query = f"SELECT rowid AS rowid_, * FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT 1"  # noqa: S608
        try:
            row = connection.execute(query, (number,)).fetchone()
        except sqlite3.DatabaseError:
            bad += 1
            number += 1 if bad < PATIENCE else 2 ** min(bad - PATIENCE, 40)
            yield None
            continue
        if row is None:
            return
        number, bad = row["rowid_"], 0
        yield row


def _python(model: type[Base], row: Mapping[str, Any]) -> dict[str, Any]:
    """SQLite's values as Python's. Raises ValueError for text that is no JSON or no time."""
    found: dict[str, Any] = {}
    for column in inspect(model).columns:
        value = row.get(str(column.name))
        if value is not None and isinstance(column.type, JSON):
            value = json.loads(value)
        elif value is not None and isinstance(column.type, Moment):
            value = datetime.fromisoformat(value).replace(tzinfo=UTC)
        found[str(column.key)] = value
    return found


def _receipts(homes: Mapping[str, Path], report: Report) -> Iterator[Rows]:
    """The receipts beside the answers of every home, in the order in which their jobs came."""
    found = []
    for id_, file in [(id_, file) for id_, root in homes.items() for file in root.glob("watch/*/*/receipt.json")]:
        rows = _read(file, str(file.relative_to(homes[id_])), report)
        if rows is not None:
            rows["job"][0]["home"] = id_  # it lies there
            rows["job"][0]["answered"] = any(file.parent.glob("manifest*"))  # which moves there last
            found.append((rows["job"][0]["seq"], file.parent.name, rows))
    report.receipts = len(found)
    for _, _, rows in sorted(found, key=lambda one: one[:2]):
        yield rows


def _unanswered(home: Home, report: Report) -> Iterator[Rows]:
    """What db/receipts tells of jobs that had no answer yet, a segment at a time in the order of the chains."""
    found = []
    for file in Receipts(home.receipts, home.tmp).files():
        rows = _read(file, home.shown(file), report)
        if rows is not None:
            found.append((rows["job"][0]["seq"], int(file.stem), rows))
    for _, _, rows in sorted(found, key=lambda one: one[:2]):
        yield rows


def _read(file: Path, shown: str, report: Report) -> Rows | None:
    """The rows of a receipt; None, and a line in the report, where it is none."""
    try:
        rows: Rows = json.loads(file.read_bytes())
        rows["job"][0]["seq"] = int(rows["job"][0]["seq"])
        if not all(isinstance(row, dict) for name in TABLES for row in rows.get(name, [])):
            raise TypeError("expected rows, found something else")
    except (OSError, ValueError, LookupError, TypeError) as error:
        report.lost.append(f"{shown}: can't be read: {error}")
        return None
    return rows


def _take(session: Session, blobs: Blobs, rows: Rows, report: Report) -> None:
    """Put in what is not there yet and can be proved."""
    for name, model in TABLES.items():
        given = rows.get(name, [])
        # A segment comes after its parent, a fork after what it is forked from.
        for row in sorted(given, key=_turn) if name in ("segment", "video") else given:
            reason = _put(session, blobs, model, row, report)
            if reason is not None:
                report.lost.append(f"{name} {_named(row)}: {reason}")


def _turn(row: Mapping[str, Any]) -> tuple[int, str]:
    index = row.get("index")
    return index if isinstance(index, int) else 0, str(row.get("created"))


def _put(session: Session, blobs: Blobs, model: type[Base], row: dict[str, Any], report: Report) -> str | None:
    """Put a row in, or say why not."""
    try:
        reason = _doubt(session, blobs, model, row, report)
        if reason is None:
            if model is Job:
                _go_on(session, row)
            with session.begin_nested():
                report.found[model.__tablename__] += put(session, model, row)
    except (SQLAlchemyError, LookupError, TypeError, ValueError, AttributeError) as error:
        return f"does not fit: {str(error).splitlines()[0]}"
    return reason


def _go_on(session: Session, row: Mapping[str, Any]) -> None:
    """Let a job that an older database has not at its end be as far as a receipt tells: it would be done once more."""
    there, told = session.get(Job, row["seq"]), typed(Job, row)
    if there is None or there.id != told["id"] or there.state not in LIVE:
        return
    if told["state"] not in LIVE or told["attempt"] > there.attempt:
        for key in told.keys() - {"seq"}:
            setattr(there, key, told[key])


def _doubt(session: Session, blobs: Blobs, model: type[Base], row: dict[str, Any], report: Report) -> str | None:
    """Why a row can't be what was committed; None where nothing speaks against it. A video's tip is found later."""
    if model.__tablename__ == "blob":
        file = blobs.path(str(row["sha256"]))
        if not file.is_file() or file.stat().st_size != row["bytes"]:
            return "its file is missing or has another size"
    elif model is Segment:
        key = ask_key(row["ask"]) if isinstance(row["ask"], dict) else ""
        if key != row["ask_key"] or segment_id(key, row["latents"], row["tail"]) != row["id"]:
            return "its hashes are wrong"
    elif model is Job:
        row["home"] = row.get("home") or report.home
        # Jobs are known by their ids; a number may have been given again, after the database was lost or put back.
        number = session.scalar(select(Job.seq).where(Job.id == row["id"]))
        if number is None and session.get(Job, row["seq"]) is not None:
            number = (session.scalar(select(func.max(Job.seq))) or 0) + 1
        row["seq"] = number or row["seq"]
    elif model is Video:
        row["tip_id"] = row["tip_id"] if session.get(Segment, row["tip_id"] or "") else None
        there = session.get(Video, row["id"])
        if there is not None and there.tip_id is None:  # its segment was not there when its row was
            there.tip_id = row["tip_id"]
    return None


def _named(row: Mapping[str, Any]) -> str:
    return str(next((row[key] for key in ("id", "sha256", "segment_id", "job_id") if key in row), "?"))[:16]


def _placed(session: Session) -> set[tuple[str, str, int]]:
    """What jobs have put into videos: video, job, place."""
    rows = select(Job.video_id, Job.id, JobSegment.index).join(JobSegment, JobSegment.job_id == Job.id)
    return {(video, job, index) for video, job, index in session.execute(rows)}


def _point(session: Session, known: set[str]) -> None:
    """Let the videos that are not `known` end where the last of their jobs got, as far as the segments are there. A
    redo has moved the tip only if it is done, and a reproduction never."""
    redo, proof = (Job.manifest[verb].as_string().is_not(None) for verb in ("redo", "reproduce"))
    for video in session.scalars(select(Video).where(Video.id.not_in(known))):
        placed = (
            select(JobSegment.segment_id)
            .join(Job, Job.id == JobSegment.job_id)
            .where(Job.video_id == video.id, not_(proof), or_(Job.state == "done", not_(redo)))
            .order_by(Job.seq.desc(), JobSegment.index.desc())
            .limit(1)
        )
        tip = session.scalars(placed).first()
        if tip is not None:
            video.tip_id = tip


def _count_attempts(session: Session) -> None:
    """A receipt has its job as it was then; a later one may tell of attempts since."""
    latest = func.max(Attempt.n)
    behind = select(Job, latest).join(Attempt, Attempt.job_id == Job.id).group_by(Job.id).having(latest > Job.attempt)
    for job, number in session.execute(behind):
        job.attempt = number


def install(home: Home, report: Report) -> Path | None:
    """Put the new database in the place of the old one, kept in db/backups; returns where, None where there was none.
    No daemon may run."""
    folder = home.db / "backups"
    make_folder(folder)
    kept = folder / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    for ending in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.link(f"{home.database}{ending}", f"{kept}{ending}")
    sync_folder(folder)
    for ending in ("-wal", "-shm"):  # they belong to the old one, and would be read into the new one
        Path(f"{home.database}{ending}").unlink(missing_ok=True)
    publish(report.file, home.database)
    return kept if kept.is_file() else None
