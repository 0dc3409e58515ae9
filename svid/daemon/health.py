"""What `svid doctor` says of the storage of a home."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import func, select

from svid.api import Finding
from svid.daemon.halt import why_stopped
from svid.errors import SvidError
from svid.home import Home
from svid.store import disk, gc
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.homes import roots
from svid.store.models import Job
from svid.store.mounts import network_file_system
from svid.store.quick import look

MIB = 2**20


def storage_findings(home: Home, store: Store) -> Iterator[Finding]:
    """Space, folders, a quick look at what is stored, the trash, and jobs that waited for the disk."""
    reserve = home.config.daemon.disk_reserve
    stopped = why_stopped(home)
    if stopped:
        yield Finding("error", f"stopped: {stopped}")
    free = disk.free_bytes(home.db) // MIB
    yield Finding("ok", f"disk: {free} MiB free, {reserve} MiB of them kept free")
    for folder in (home.tmp, home.claimed, home.done, home.failed):
        problem = disk.probe(folder)
        if problem is not None:
            yield Finding("error", f"{home.shown(folder)}: {problem.message}", problem.hint)
    kind = network_file_system(home.db)
    if kind is not None:
        hint = "only one machine may use it; a local disk is better"
        yield Finding("error" if home.shares else "warning", f"{home.db} is on {kind}, a network file system", hint)
    yield from _stored(home, store)
    trash = gc.trash(home)
    if trash:
        yield Finding("ok", f"trash: {sum(trash.values()) / MIB:.1f} MiB in {len(trash)} folders", "svid gc")
    yield from _left_over(home)


def _stored(home: Home, store: Store) -> Iterator[Finding]:
    try:
        with store.read() as session:
            seen = look(session, Blobs(home.blobs, home.tmp))
            ended = (Job.home == home.id, ~Job.answered, Job.state.in_(gc.ENDED))
            unanswered = session.scalar(select(func.count(Job.seq)).where(*ended)) or 0
            others = [str(root) for id_, root in roots(session, home).items() if id_ != home.id]
    except SvidError as error:
        yield Finding("error", str(error.problems[0]))
        return
    share = "" if seen.complete else f" of about {seen.of}"
    yield Finding("ok", f"stored: {seen.checked}{share} blobs and segments looked at", "svid verify reads every byte")
    if others:
        yield Finding("ok", f"shared: the database is also that of {', '.join(others)}")
    for problem in seen.problems[:10]:
        yield Finding("error", str(problem))
    if unanswered:
        yield Finding("warning", f"{unanswered} jobs have ended and have no answer yet", "svid up writes them")


def _left_over(home: Home) -> Iterator[Finding]:
    old = [file for file in home.tmp.iterdir() if file.is_file() and time.time() - file.stat().st_mtime > 24 * 3600]
    if old:
        size = sum(file.stat().st_size for file in old) / MIB
        yield Finding(
            "warning",
            f"db/tmp: {len(old)} files of more than a day ago, {size:.1f} MiB",
            "with no daemon, nothing needs them",
        )
