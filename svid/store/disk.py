"""Whose fault is an error: the disk's, or that of the work that met it? A disk that is full, read-only or broken costs
no job, nor does a locked database; svid waits until it can write again."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from svid.errors import (
    BlobError,
    LoraError,
    MediaError,
    Problem,
    StageError,
    StorageError,
    StoreError,
    SvidError,
    WeightsError,
)

MIB = 2**20
SHORT = 1024 * MIB
"""Free bytes below which a stage that could not write, and does not say where, may have met the home's: what
it wrote half is gone when svid looks, and may have been as large as a clip."""
PROBE = 64 * 1024
"""Bytes that a probe writes: more than what a file system still has in a block that is half used."""

WRITING = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "raise the quota, or free some space",
    errno.EROFS: "the file system is mounted read-only; the kernel's log says why",
    errno.EFBIG: "a limit on the size of files (ulimit -f) is in force",
}
"""Errors of the disk that have nothing to do with which file was written, and what helps."""

READING = {
    errno.EIO: "the kernel's log says more",
    errno.ESTALE: "the network share has gone",
    errno.ENOTCONN: "what the file system is mounted from has gone",
}
"""Errors of the disk that may be about one file, or about all of them. A probe tells."""

ERRNOS = WRITING | READING

BUSY = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "the kernel's log says more",
    sqlite3.SQLITE_BUSY: "another program holds the database open",
    sqlite3.SQLITE_LOCKED: "another program holds the database open",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file or its folder can't be opened",
    sqlite3.SQLITE_PROTOCOL: "another program holds the database open",
}
"""What SQLite says of a database that is whole but can't be used now."""

LOST = "the disk fails under this file: put a good copy there, then svid retry JOB"
"""What helps where one file can't be read."""

ELSEWHERE = "it is not svid's own storage that fails; see to it, then svid retry JOB"
"""What helps where a stage met an error of a disk with a file of its own."""

DAMAGED = {
    sqlite3.SQLITE_CORRUPT: "svid recover rebuilds it",
    sqlite3.SQLITE_NOTADB: "svid recover rebuilds it",
}
"""What SQLite says of a database that is not whole. It stays so until someone puts another one in its place."""


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it. A plugin that could not write has its OSError as the cause of a
    StageError."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        context = None if error.__suppress_context__ else error.__context__
        error = getattr(error, "orig", None) or error.__cause__ or context


def storage_problem(error: BaseException | None) -> Problem | None:
    """What of the disk is behind an exception, or None where the disk is not to blame."""
    for one in _behind(error):
        if isinstance(one, StorageError):
            return one.problems[0]
        found = _of_database(one) or _of_file(one)
        if found is not None:
            return found
    return None


def met_a_file(error: BaseException | None) -> bool:
    """Whether a file or a database is behind an exception at all, so that the disk may be."""
    return any(isinstance(one, (OSError, sqlite3.Error, StorageError)) for one in _behind(error))


def _of_database(error: BaseException) -> Problem | None:
    if not isinstance(error, sqlite3.Error):
        return None
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the rest of it says where in SQLite
    hint = (BUSY | DAMAGED).get(code)
    return Problem("db/svid.db", "", str(error), hint) if hint is not None else None


def _of_file(error: BaseException) -> Problem | None:
    if not isinstance(error, OSError) or error.errno not in ERRNOS:
        return None
    return Problem(str(error.filename or "db"), "", str(error.strerror or error), ERRNOS[error.errno])


def fault_of_one(error: BaseException | None, own: Sequence[Path]) -> Problem | None:
    """Where the home's storage is well, the problem of the one job that met an error of a disk: a stored or given file
    that can't be read, or whatever a plugin's stage met with files of its own. None for what svid itself met while it
    wrote below its `own` folders: space may have been freed since, so that is tried again."""
    named: SvidError | None = None
    stage = False
    for one in _behind(error):
        if isinstance(one, StorageError):
            return None
        if isinstance(one, StageError):
            stage = True
        if isinstance(one, (StageError, BlobError, MediaError, WeightsError, LoraError)):
            named = one
        found = _of_database(one) or _of_file(one)
        if found is None:
            continue
        reading = isinstance(one, OSError) and one.errno in READING
        if named is None or not (stage or reading) or (not reading and _may_be_below(one, own)):
            return None
        name = one.filename if stage and isinstance(one, OSError) else None
        hint = f"{name}: {ELSEWHERE}" if name else ELSEWHERE
        return replace(named.problems[0], hint=hint if stage else LOST)
    return None


def is_about_reading(error: BaseException | None) -> bool:
    """Whether the error of a disk that is behind an exception is one that may be about one file only."""
    errors = (one for one in _behind(error) if _of_database(one) or _of_file(one))
    first = next(errors, None)
    return isinstance(first, OSError) and first.errno in READING


def _may_be_below(error: BaseException, folders: Sequence[Path]) -> bool:
    """Whether the file that could not be written is in one of `folders`; where the error does not name it, whether one
    of them has little room or a quota is used up."""
    name = error.filename if isinstance(error, OSError) else None
    if isinstance(name, (str, bytes)):
        return any(Path(os.fsdecode(name)).absolute().is_relative_to(folder) for folder in folders)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return any(free_bytes(folder) < SHORT for folder in folders if folder.is_dir())
    return isinstance(error, OSError) and error.errno == errno.EDQUOT


def is_damaged(error: BaseException) -> bool:
    """Whether it is the database's own bytes that are wrong."""
    cause = getattr(error, "orig", None) or error
    return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF in DAMAGED


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what is the disk's fault into StorageError. What svid says of a file that someone gave it stays what it is,
    though that file may lie on a broken disk."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        given = isinstance(error, SvidError) and not isinstance(error, StoreError)
        problem = None if given else storage_problem(error)
        if problem is None:
            raise
        raise StorageError(problem) from error


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the file system of `folder`."""
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def trouble_at_a_glance(folder: Path, reserve: int) -> Problem | None:
    """What keeps work from beginning, as far as it can be told without writing: microseconds. `reserve` is in MiB."""
    try:
        info = os.statvfs(folder)
    except OSError as error:
        return Problem(str(folder), "", f"can't be looked at: {error.strerror}")
    if info.f_flag & os.ST_RDONLY:
        return Problem(str(folder), "", os.strerror(errno.EROFS), ERRNOS[errno.EROFS])
    if info.f_files and not info.f_favail:
        return Problem(str(folder), "", "no inodes are left", "remove some files")
    free = info.f_bavail * info.f_frsize
    if free < reserve * MIB:
        message = f"expected at least {reserve} MiB free, found {free // MIB}"
        return Problem(str(folder), "", message, "free some space, or lower [daemon] disk_reserve")
    return None


def probe(folder: Path) -> Problem | None:
    """Write a small file into `folder`, flush it and read it back; says what goes wrong. It has no name by then, so
    that a process that is killed here leaves nothing."""
    file = folder / f".{secrets.token_hex(4)}-probe.part"
    data = bytes(range(256)) * (PROBE // 256)
    try:
        with file.open("w+b") as stream:
            file.unlink()
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            if hasattr(os, "posix_fadvise"):  # from the disk, where the system can forget what it has in memory
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            stream.seek(0)
            if stream.read() != data:
                raise OSError(errno.EIO, "other bytes come back than were written")
    except OSError as error:
        hint = ERRNOS.get(error.errno or 0, "svid writes here")
        return Problem(str(folder), "", str(error.strerror or error), hint)
    return None
