"""A copy of a home that is a home itself, with all of its database also where that is shared: the database by SQLite's
own online copy, blobs by hard links where the file system is the same, and every blob read back. Answers are copied, as
people may change what svid has given them. A daemon may run meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from svid.errors import BlobError, HomeError, Problem
from svid.home import WATCH, Home
from svid.store.blobs import Blobs
from svid.store.engine import Store, copy_database
from svid.store.files import sync_folder
from svid.store.models import Blob

STAMP = "%Y%m%dT%H%M%SZ"
PLAIN = ("home.id", "plugins", "watch/README.md", "watch/schema", "watch/examples")
STORED = ("README.md", "pins")
"""What is copied beside svid.toml, database, blobs and answers, of the home and of the folder of its database.
Manifests that no job was made of stay in the inbox."""
STORE_PATH = re.compile(r"""(^\[store\][^\[]*?^\s*path\s*=\s*)(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


@dataclass
class Made:
    """A backup: where it is, and how its blobs came there."""

    folder: Path
    linked: int = 0
    copied: int = 0
    bytes: int = 0


def back_up(home: Home, target: Path, open_copy: Callable[[Path], Store], *, copy: bool = False) -> Made:
    """Make a backup in a new folder under `target`; with `copy`, without a hard link to the home's own files.

    A blob that an earlier backup under `target` has is linked to that one. The folder gets its name when everything in
    it was checked. Raises HomeError where it can't be there, BlobError where a blob is missing or changed.
    """
    if target.resolve().is_relative_to(home.blobs.resolve()):
        raise HomeError(Problem(str(target), "", "lies among the blobs", "put backups elsewhere"))
    target.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime(STAMP)
    before = [folder for folder in sorted(target.iterdir()) if _is_backup(folder)]
    part, whole = target / f"{stamp}.part", target / stamp
    if whole.exists():
        raise HomeError(Problem(str(whole), "", "is there already", "one backup a second is enough"))
    made = Made(whole)
    part.mkdir()
    try:
        _fill(home, Home(part), made, before[-1] if before else None, open_copy, copy=copy)
        os.sync()  # the files of a backup are many; one flush of everything is faster than one of each
        part.rename(whole)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(target)
    return made


def _fill(
    home: Home, into: Home, made: Made, before: Path | None, open_copy: Callable[[Path], Store], *, copy: bool
) -> None:
    # It has a database of its own, so its svid.toml must not lead to one that is shared.
    (into.root / "svid.toml").write_text(_unshared((home.root / "svid.toml").read_text("utf-8")), encoding="utf-8")
    for folder in (into.blobs, into.tmp, *(into.watch / name for name in WATCH)):
        folder.mkdir(parents=True)
    # The database first: blobs have their names before their rows, so every row of the copy has its blob by now.
    copy_database(home.database, into.database)
    for name in PLAIN:
        _copy_plain(home.root / name, into.root / name)
    for name in STORED:
        _copy_plain(home.db / name, into.db / name)
    for answers in (home.done, home.failed):
        for file in _files_in(answers):
            at = file.relative_to(home.root)
            old = before / at if before is not None and _is_same(before / at, file) else None
            _take(file, into.root / at, old, copy=True)
    store = open_copy(into.database)
    try:
        with store.read() as session:
            for sha256 in session.scalars(select(Blob.sha256).order_by(Blob.sha256).execution_options(yield_per=500)):
                old = Blobs(before / "db/blobs", before / "db/tmp").path(sha256) if before is not None else None
                earlier = old if old is not None and old.is_file() else None
                made.bytes += _take_blob(home, into, sha256, earlier, made, copy=copy)
    finally:
        store.close()
    for leftover in ("svid.db-wal", "svid.db-shm"):
        into.database.with_name(leftover).unlink(missing_ok=True)


def _is_backup(folder: Path) -> bool:
    """Whether a folder was made by `back_up`, and is not some home: its files may change."""
    try:
        datetime.strptime(folder.name, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return (folder / "db/svid.db").is_file()


def _is_same(one: Path, other: Path) -> bool:
    """Whether a file is the copy of another that an earlier backup made, which keeps its time."""
    try:
        was, now = one.stat(), other.stat()
    except FileNotFoundError:
        return False
    return (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns)


def _unshared(text: str) -> str:
    """svid.toml with `[store] path` at its default. Raises HomeError where that is written in an unusual way."""
    if tomllib.loads(text).get("store", {}).get("path", "db") == "db":
        return text
    found = STORE_PATH.sub(r'\1"db"', text, count=1)
    if tomllib.loads(found).get("store", {}).get("path") != "db":
        message = 'expected path = "..." in a line under [store], found it written otherwise'
        raise HomeError(Problem("svid.toml", "store.path", message, "write it so: a backup has a database of its own"))
    return found


def _take_blob(home: Home, into: Home, sha256: str, earlier: Path | None, made: Made, *, copy: bool) -> int:
    source, target = Blobs(home.blobs, home.tmp), Blobs(into.blobs, into.tmp)
    at = target.path(sha256)
    try:
        linked = _take(source.path(sha256), at, earlier, copy=copy)
    except FileNotFoundError:
        trashed = next(iter((home.db / "trash").glob(f"*/{sha256}")), None)  # by a gc that ran meanwhile
        if trashed is None:
            source.verified(sha256)  # says which blob, and what helps
            raise
        linked = _take(trashed, at, earlier, copy=copy)
    try:
        target.verified(sha256)
    except BlobError:
        if earlier is None:
            raise
        at.unlink()  # the earlier backup has rotted; this one need not
        linked = _take(source.path(sha256), at, None, copy=copy)
        target.verified(sha256)
    made.linked += linked
    made.copied += not linked
    return 0 if linked else at.stat().st_size


def _take(source: Path, target: Path, earlier: Path | None, *, copy: bool) -> bool:
    """Have `source` at `target` too; True where that took no space. With `copy` not as a link to `source`, which the
    `earlier` backup's may be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    links = [] if copy else [source]
    if earlier is not None and not (copy and source.exists() and earlier.samefile(source)):
        links.append(earlier)
    for link in links:
        try:
            os.link(link, target)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links
            continue
        return True
    shutil.copy2(source, target)
    return False


def _files_in(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink())


def _copy_plain(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
