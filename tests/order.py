"""In which order files are written, flushed, named and pointed at: a record of a process, and what is wrong with it.

`recorded(home)` notes every flush, every new name and every new folder of this process, and looks before each of them
whether the database has committed something since: so a commit stands in the record between the calls that it came
between. `faults` then plays a power failure after every entry: a disk may have lost whatever was not flushed by then,
but never what a committed row points at.

What a disk does with a flush, and SQLite's own flushes (`synchronous=FULL`), are not seen here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from svid.home import Home
from svid.store.files import sheet_beside

Stamp = tuple[int, int, int]
"""Inode, size and time of the last write of a file: another one where anything was written since."""


@dataclass(frozen=True)
class Flushed:
    """fsync of a file."""

    stamp: Stamp


@dataclass(frozen=True)
class FolderFlushed:
    """fsync of a folder, by its inode."""

    folder: int


@dataclass(frozen=True)
class AllFlushed:
    """sync of everything, with what there was to flush."""

    stamps: frozenset[Stamp]


@dataclass(frozen=True)
class Named:
    """A rename or a link: what got the name, and the inodes of the folders that have to be flushed for it."""

    path: Path
    source: Path
    stamps: frozenset[Stamp]
    folders: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """A new folder, and the inode of the one above."""

    path: Path
    folder: int


@dataclass(frozen=True)
class Committed:
    """Files that rows point at since this commit, each with the inodes of its folder and of the one above, and jobs by
    what became of them."""

    points: dict[Path, frozenset[int]]
    jobs: dict[str, str]


Entry = Flushed | FolderFlushed | AllFlushed | Named | Made | Committed


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_ino, info.st_size, info.st_mtime_ns


def _stamps(path: Path) -> frozenset[Stamp]:
    """Of a file, or of every file below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return frozenset(_stamp(file.stat()) for file in files if file.is_file())


@dataclass
class Record:
    """What happened in a home, in order."""

    home: Home
    entries: list[Entry] = field(default_factory=list)
    _points: set[Path] = field(default_factory=set)
    _jobs: dict[str, str] = field(default_factory=dict)

    def note(self, entry: Entry) -> None:
        """Note an entry, and before it what has been committed since the last one."""
        self.look()
        self.entries.append(entry)

    def look(self) -> None:
        """Note what the database has committed."""
        points, jobs = _pointed(self.home)
        fresh, changed = points - self._points, dict(jobs.items() - self._jobs.items())
        if self._points - points:  # taken away by gc: what is left of the rows is in the trash
            fresh |= set((self.home.db / "trash").glob("*/rows.json"))
        if fresh or changed:
            there = {path: frozenset(one.stat().st_ino for one in path.parents[:2]) for path in sorted(fresh)}
            self.entries.append(Committed(there, changed))
        self._points, self._jobs = points, jobs


def _pointed(home: Home) -> tuple[set[Path], dict[str, str]]:
    """The files that rows point at, and the jobs with their states."""
    with contextlib.closing(sqlite3.connect(f"{home.database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute
        try:
            points = {home.blobs / name[:2] / name for (name,) in rows("SELECT sha256 FROM blob")}
            for (path,) in rows("SELECT path FROM artifact"):
                points |= {home.root / path, sheet_beside(home.root / path)}
            told = 'SELECT job_id, "index" FROM job_segment JOIN job ON job.id = job_id WHERE NOT answered'
            receipts = (home.receipts / job / f"{index}.json" for job, index in rows(told))
            points |= {file for file in receipts if file.parent.is_dir()}
            jobs = {}
            for id_, claimed, state, answered in rows("SELECT id, claimed, state, answered FROM job"):
                jobs[id_] = state
                if not answered:
                    points.add(home.claimed / claimed)
                else:
                    points |= set(((home.done if state == "done" else home.failed) / id_).iterdir())
        except sqlite3.OperationalError:  # no tables yet
            return set(), {}
    return points, jobs


@contextlib.contextmanager
def recorded(home: Home) -> Iterator[Record]:
    """Record what this process does in `home`."""
    record = Record(home)
    record.look()
    record.entries.clear()
    real = {name: getattr(os, name) for name in ("fsync", "sync", "replace", "rename", "link", "mkdir")}

    def fsync(handle: int) -> None:
        real["fsync"](handle)
        info = os.fstat(handle)
        folder = os.path.isdir(f"/proc/self/fd/{handle}")  # noqa: PTH112
        record.note(FolderFlushed(info.st_ino) if folder else Flushed(_stamp(info)))

    def sync() -> None:
        real["sync"]()
        record.note(AllFlushed(_stamps(home.root.parent)))

    def naming(name: str) -> Any:
        def named(source: Any, target: Any, **more: Any) -> None:
            record.look()
            stamps, folder = _stamps(Path(source)), Path(source).parent
            real[name](source, target, **more)
            # What moves within watch/ must be gone from where it was, too: there it would be taken again.
            folders = [Path(target).parent, *([folder] if folder in (home.inbox, home.claimed) else [])]
            inodes = tuple(one.stat().st_ino for one in folders)
            record.note(Named(Path(target), Path(source), stamps, inodes))

        return named

    def mkdir(path: Any, *rest: Any, **more: Any) -> None:
        real["mkdir"](path, *rest, **more)
        if Path(path).parent == home.tmp:
            return  # of scratch files: after a power failure nobody looks for them
        record.note(Made(Path(path), Path(path).parent.stat().st_ino))

    fakes = {"fsync": fsync, "sync": sync, "mkdir": mkdir}
    with contextlib.ExitStack() as stack:
        for name in real:
            stack.enter_context(mock.patch.object(os, name, fakes.get(name) or naming(name)))
        yield record
        record.look()


@dataclass
class _Disk:
    """What would be left of the names and bytes if the power failed now."""

    clean: set[Stamp] = field(default_factory=set)
    unsure: dict[int, set[Path]] = field(default_factory=dict)
    """Names by the folder that has not been flushed since."""
    named: set[Path] = field(default_factory=set)
    flushed: set[int] = field(default_factory=set)
    jobs: dict[str, str] = field(default_factory=dict)

    def may_lose(self, path: Path) -> bool:
        """Whether a name, or a folder on the way to it, may be gone."""
        return any(path == one or one in path.parents for names in self.unsure.values() for one in names)


class Fault(NamedTuple):
    """A file that a power failure would spoil, and why."""

    path: Path
    why: str


UNFLUSHED = "got its name before its bytes were flushed"
HASTY = "got its name before its job had ended"
ALONE = "the manifest moved before this was safe"
EARLY = "a row pointed at it before its folder was flushed"
NEVER = "its folder was never flushed"


def faults(entries: Sequence[Entry]) -> list[Fault]:
    """What a power failure at some instant of the record would break."""
    disk, found = _Disk(), list[Fault]()
    for entry in entries:
        found += _step(disk, entry)
    left = sorted({path for names in disk.unsure.values() for path in names if path.suffix != ".part"})
    return found + [Fault(path, NEVER) for path in left]


def _step(disk: _Disk, entry: Entry) -> list[Fault]:
    match entry:
        case Flushed(stamp):
            disk.clean.add(stamp)
        case FolderFlushed(folder):
            disk.unsure.pop(folder, None)
            disk.flushed.add(folder)
        case AllFlushed(stamps):
            disk.clean |= stamps
            disk.unsure.clear()
        case Made(path, folder):
            disk.unsure.setdefault(folder, set()).add(path)
        case Named():
            return _name(disk, entry)
        case Committed():
            return _commit(disk, entry)
    return []


ANSWERS = ("result.json", "error.json", "error.txt", "receipt.json")


def _name(disk: _Disk, entry: Named) -> list[Fault]:
    found, path, job = list[Fault](), entry.path, entry.path.parent.name
    if any(one.suffix == ".part" for one in path.parents):
        return []  # within a backup that has no name itself yet
    # What is claimed is whoever's file, and what is put aside as damaged is what it is.
    ours = path.parent.name != "claimed" and not path.name.startswith("damaged-")
    if ours and not entry.stamps <= disk.clean:
        found.append(Fault(path, UNFLUSHED))
    if path.name in ANSWERS and job in disk.jobs and disk.jobs[job] not in ("done", "failed"):
        found.append(Fault(path, HASTY))
    if path.stem == "manifest":
        wanted = ["result.json"] if path.parents[1].name == "done" else ["error.json", "error.txt"]
        answers = [path.with_name(name) for name in wanted + ["receipt.json"] * (job in disk.jobs)]
        found += [Fault(one, ALONE) for one in answers if one not in disk.named or disk.may_lose(one)]
    disk.named.add(path)
    for folder in entry.folders:
        disk.unsure.setdefault(folder, set()).add(path)
    return found


def _commit(disk: _Disk, entry: Committed) -> list[Fault]:
    disk.jobs |= entry.jobs
    # A file that was there already may have been named by a process that died before it flushed the folders.
    unproved = {path for path, above in entry.points.items() if path not in disk.named and not above <= disk.flushed}
    return [Fault(path, EARLY) for path in entry.points if path in unproved or disk.may_lose(path)]
