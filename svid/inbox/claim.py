"""Taking a file out of the inbox. The rename is the mutex: of several daemons exactly one succeeds."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svid.crash import crashpoint
from svid.inbox.scan import LARGEST

NAME_BYTES = 160
_numbers = itertools.count()


@dataclass(frozen=True)
class Claimed:
    """A file in watch/claimed, under a name that says which daemon took it."""

    path: Path
    name: str
    """What it was called in the inbox, fit to be shown."""


def claim(file: Path, folder: Path, worker: str) -> Claimed | None:
    """Move a file into `folder`; None where someone else was faster."""
    name = shown_name(file.name)
    target = folder / f"{worker}.{next(_numbers)}.{name}"
    try:
        file.rename(target)
    except FileNotFoundError:
        return None
    crashpoint("manifest-claimed")
    return Claimed(target, name)


def claimed_parts(name: str) -> tuple[str, str] | None:
    """Who claimed the file of this name in watch/claimed, and what it was called; None for one that nobody claimed: a
    copier or another system may leave its own there."""
    owner, _, rest = name.partition(".")
    number, _, shown = rest.partition(".")
    return (owner, shown) if owner and shown and number.isdecimal() else None


def claimed_names(folder: Path) -> list[str]:
    """The names of the manifests in watch/claimed."""
    return [file.name for file in folder.iterdir() if claimed_parts(file.name) is not None]


def shown_name(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 and control characters replaced, at most 160 bytes long."""
    text = os.fsencode(name).decode("utf-8", "replace")
    text = "".join(letter if letter.isprintable() else "_" for letter in text)
    while len(text.encode()) > NAME_BYTES:
        stem, dot, suffix = text.rpartition(".")
        text = f"{stem[:-1]}{dot}{suffix}" if len(stem) > 1 else text[:-1]
    return text


def adopt(
    folder: Path,
    worker: str,
    alive: Callable[[str], bool],
    has_job: Callable[[str], bool],
    alone: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Claimed]:
    """The files in `folder` that are to become jobs: this daemon's own, and those of daemons that are gone.

    A file with a job keeps its name, by which the job's row finds it. `alone` keeps everybody from making jobs and
    giving answers: whoever does either looks in there whether the file is still his, so one that only seemed to be gone
    finds that it is not.
    """
    for file in sorted(folder.iterdir(), key=_turn):
        parts = claimed_parts(file.name)
        if parts is None or has_job(file.name):
            continue
        owner, name = parts
        if owner != worker and alive(owner):
            continue
        if owner == worker:
            yield Claimed(file, name)
            continue
        target = folder / f"{worker}.{next(_numbers)}.{name}"
        with alone():
            if has_job(file.name):
                continue
            try:
                file.rename(target)
            except FileNotFoundError:
                continue
        yield Claimed(target, name)


def _turn(file: Path) -> tuple[int, str]:
    """In the order of the claims, which is that of the drops: a video before what extends it. By number, not by name,
    which would put the tenth before the second."""
    number = file.name.partition(".")[2].partition(".")[0]
    return int(number) if number.isdecimal() else 0, file.name


def read_quiet(file: Path) -> bytes | None:
    """The bytes of a file that nobody is writing to; None where it changed while it was read."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):  # whatever it was when it was looked at
            raise OSError(errno.EINVAL, "is not a regular file")
        data = stream.read(LARGEST + 1)
        after = os.fstat(handle)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size
    return data if same else None
