"""Answers: what stands in watch/done and watch/failed. Each is written whole, and the manifest moves last."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.crash import crashpoint
from svid.errors import Problem
from svid.home import Home
from svid.inbox.claim import Claimed
from svid.inbox.scan import LARGEST
from svid.media.codecs import CODECS
from svid.store.again import reproduced
from svid.store.engine import Store
from svid.store.files import file_stem, make_folder, sheet_beside, sync_folder, write_whole
from svid.store.models import Job, Video
from svid.store.receipt import Receipts, receipt
from svid.store.show import artifact_of, chain_as_dicts


def unanswered(home: Home, store: Store) -> list[str]:
    """The jobs of this home that have ended and have no answer yet, in the order in which they came."""
    waiting = select(Job.id).where(Job.home == home.id, Job.state.in_(("done", "failed")), ~Job.answered)
    with store.read() as session:
        return list(session.scalars(waiting.order_by(Job.seq)))


def answer(home: Home, store: Store, job: str) -> bool:
    """Answer a job that has ended; False where another daemon has done so by now. Safe to repeat after a crash. Whoever
    answers holds the lock of the database meanwhile: a daemon that comes late finds the job answered, and does not put
    back what people have taken out of done/."""
    with store.write() as session:
        row = session.scalars(select(Job).where(Job.id == job)).one()
        if row.answered:
            return False
        _answer(home, session, row)
        row.answered = True
        return True


def answer_finished(home: Home, store: Store) -> list[str]:
    """Answer every job that `unanswered` names; returns those that were answered here."""
    return [job for job in unanswered(home, store) if answer(home, store, job)]


def _answer(home: Home, session: Session, job: Job) -> None:
    folder = (home.done if job.state == "done" else home.failed) / job.id
    make_folder(folder)
    if job.state == "done":
        _write_json(home, folder / "result.json", _result(home, session, job))
    else:
        name = session.get_one(Video, job.video_id).name
        _take_back(home.done / job.id, {name, job.manifest.get("name") or name})
        facts = {"job": job.id, **_proof(session, job)}
        _write_errors(home, folder, [Problem(**problem) for problem in job.errors or []], facts)
    _write_json(home, folder / "receipt.json", receipt(session, job.id))
    crashpoint("answer-written")
    _move_manifest(home, home.claimed / job.claimed, folder, Path(job.file).suffix, job.text)
    crashpoint("manifest-moved")
    Receipts(home.receipts, home.tmp).drop(job.id)


def _take_back(folder: Path, names: set[str]) -> None:
    """Remove the video of a job that has failed: it gets its name before the job is done, and it may never be that.
    What else people keep there stays."""
    if not folder.is_dir():
        return
    for name in names:
        for suffix in {codec.suffix for codec in CODECS.values()}:
            video = folder / f"{file_stem(name)}{suffix}"
            video.unlink(missing_ok=True)
            sheet_beside(video).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody keeps something there
        folder.rmdir()
    sync_folder(folder.parent)


def _result(home: Home, session: Session, job: Job) -> dict[str, Any]:
    artifact = artifact_of(session, home, job.id)
    segments = chain_as_dicts(session, artifact.pop("tip"))
    return {"job": job.id, "video": job.video_id, "artifact": artifact, "segments": segments, **_proof(session, job)}


def _proof(session: Session, job: Job) -> dict[str, Any]:
    found = reproduced(session, job)
    return {"reproduced": found} if found else {}


def _move_manifest(home: Home, claimed: Path, folder: Path, suffix: str, text: str) -> None:
    target = folder / f"manifest{suffix}"
    try:
        claimed.rename(target)
    except FileNotFoundError:
        if not target.exists():  # someone took it away; what it said is in the database
            write_whole(target, text.encode(), home.tmp)
    sync_folder(folder)
    if claimed.parent.is_dir():
        sync_folder(claimed.parent)


def refuse(home: Home, store: Store, claimed: Claimed, problems: Sequence[Problem]) -> Path | None:
    """Answer a file that could not become a job; returns the folder with the reason and the file. None where the file
    was adopted by another daemon, which answers it, or was taken away."""
    with store.write():  # in which nobody adopts it
        return _refuse(home, claimed, problems) if os.path.lexists(claimed.path) else None


def _refuse(home: Home, claimed: Claimed, problems: Sequence[Problem]) -> Path:
    stem = Path(claimed.name).stem or "manifest"
    mark = _mark(claimed.path)
    number, folder = 1, home.failed / f"{stem}-{mark}"
    while any(folder.glob("manifest*")):  # the same file was refused before; that answer stays
        number += 1
        folder = home.failed / f"{stem}-{mark}-{number}"
    make_folder(folder)
    _write_errors(home, folder, problems, {})
    crashpoint("answer-written")
    with contextlib.suppress(FileNotFoundError):  # somebody took it away just now; the answer stands all the same
        claimed.path.rename(folder / f"manifest{Path(claimed.name).suffix}")
    sync_folder(folder)
    sync_folder(home.claimed)
    return folder


def _mark(file: Path) -> str:
    """What tells a refused file from others of its name: the beginning of its digest, as far as a manifest may go.
    Whatever the file is (a link, a pipe, a terabyte, not ours to read), it is answered."""
    try:
        with os.fdopen(_open(file), "rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                return "link"
            head = stream.read(LARGEST)
    except OSError as error:
        return "link" if error.errno == errno.ELOOP else "unread"
    more = f" and {info.st_size} bytes".encode() if info.st_size > len(head) else b""
    return hashlib.sha256(head + more).hexdigest()[:8]


def _open(file: Path) -> int:
    return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _write_errors(home: Home, folder: Path, problems: Sequence[Problem], facts: dict[str, Any]) -> None:
    write_whole(folder / "error.txt", "".join(f"{problem}\n" for problem in problems).encode(), home.tmp)
    _write_json(home, folder / "error.json", {**facts, "errors": [problem.as_dict() for problem in problems]})


def _write_json(home: Home, target: Path, value: dict[str, Any]) -> None:
    write_whole(target, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), home.tmp)
