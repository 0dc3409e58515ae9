"""The homes that use one database. A job belongs to the home whose inbox it came from: that one's daemons do it, and
its answer lies in that one's watch/. Videos, segments and blobs belong to all of them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from svid.errors import HomeError, Problem, StorageError, SvidError
from svid.home import Home
from svid.store.engine import Store, open_store
from svid.store.models import Job, KnownHome

GONE = Problem("db/svid.db", "", "is gone", "put it back, or end the daemon and use svid recover")
"""What is said of a database that was there."""


def register(store: Store, home: Home) -> None:
    """Note that `home` uses this database and where it is now. Costs one read where nothing has changed.

    Raises HomeError where it is a copy of another home that uses the database too: both would do the same jobs.
    """
    root = str(home.root.resolve())
    with store.read() as session:
        known = session.get(KnownHome, home.id)
    if known is not None and known.root == root:
        return
    if known is not None and _both_there(home, Home(Path(known.root))):
        message = f"has the id {home.id} of {known.root}, and both use {home.database}"
        hint = f"if this is the copy, remove {home.root / 'home.id'}: it becomes a home without the other's jobs"
        raise HomeError(Problem(str(home.root), "", message, hint))
    with store.write() as session:
        session.merge(KnownHome(id=home.id, root=root))
        # Jobs from before homes had ids are those of the home around the database; where none is, of whoever comes
        # first.
        if not home.shares or not (home.db.parent / "svid.toml").exists():
            session.execute(update(Job).where(Job.home == "").values(home=home.id))


def _both_there(home: Home, other: Home) -> bool:
    """Whether `other` is there, is another folder than `home`, has its id and uses its database."""
    try:
        if other.root.samefile(home.root):
            return False
        return other.id == home.id and other.database.samefile(home.database)
    except (OSError, SvidError):
        return False  # it was moved, or what is there now is something else


def open_home(home: Home, migrations: Path) -> Store:
    """The database of a home, made where the home is new.

    Raises StorageError where it is gone from a home that has done work: an empty one in its place would look as if
    there had never been any; else what `open_store` raises."""
    if not _is_there(home.database) and _has_worked(home):
        raise StorageError(GONE)
    return open_store(home.database, migrations)


def _is_there(database: Path) -> bool:
    """Whether there is a file with something in it: one of no bytes is, for SQLite, a database without tables."""
    return database.is_file() and database.stat().st_size > 0


def _has_worked(home: Home) -> bool:
    """Whether there are blobs, or answers with receipts: the disk that has the blobs may be away as well."""
    made = chain(home.blobs.glob("*/*"), home.watch.glob("*/*/receipt.json"))
    return next(made, None) is not None


def roots(session: Session, home: Home) -> dict[str, Path]:
    """Where every home that uses this database is, or was when it last did; `home` itself where it is now."""
    found = {row.id: Path(row.root) for row in session.scalars(select(KnownHome))}
    return {**found, home.id: home.root}
