"""The database: one engine, short transactions, migrations at start-up.

SQLite by default; the tables run on PostgreSQL by changing the URL. No transaction spans model work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from svid.errors import Problem, StorageError, StoreError
from svid.store.disk import is_damaged, storage_errors, storage_problem, trouble_at_a_glance
from svid.store.files import removed_on_error

BUSY_TIMEOUT = 30_000
"""Milliseconds that a writer waits for another one before the database counts as locked."""


class Store:
    """Sessions on a database."""

    def __init__(self, engine: Engine) -> None:
        self._reader = engine
        self._writer = engine.execution_options(svid_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with storage_errors(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock and commits on leaving, or nothing at all.

        The lock is taken at once because SQLite refuses, without waiting, a reader that becomes a writer late, and
        because some take it for what they do to files.
        """
        with storage_errors(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            session.connection()
            yield session

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()


def open_store(database: Path, migrations: Path) -> Store:
    """Open the database file, making or migrating it first.

    Raises StoreError where the file is no database, was made by a newer svid, or where its file system can't keep a
    write-ahead log (some network mounts); StorageError where the disk does not let it be used now.
    """
    engine = connect(URL.create("sqlite", database=str(database)))  # a path may have ? and % in it
    try:
        with engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal":
            raise StoreError(
                Problem(database.name, "journal_mode", f"expected wal, found {mode}", "put db/ on a local file system")
            )
        if not is_newest(engine, migrations):
            from svid.store.migrate import migrate  # Alembic, which takes as long to import as many a command to run

            migrate(engine, migrations, database)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        problem = storage_problem(error)
        if problem is not None and not is_damaged(error):
            # "unable to open database file" is what SQLite says of a read-only file system; the reason is worth more
            raise StorageError(trouble_at_a_glance(database.parent, 0) or problem) from error
        said = Problem(
            f"db/{database.name}", "", f"can't be used as a database: {getattr(error, 'orig', None) or error}"
        )
        if is_damaged(error):  # another one may be put in its place, which a daemon waits for
            raise StorageError(replace(said, hint="svid recover rebuilds it")) from error
        raise StoreError(said) from error
    return Store(engine)


def connect(url: str | URL) -> Engine:
    """An engine with the settings that svid relies on (reference: SQLite's pragma documentation)."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _begin)
    return engine


def _pragmas(connection: Any, _record: Any) -> None:
    # The driver's own transactions would leave DDL outside and begin late; svid says BEGIN itself, below.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL costs about a millisecond a commit; NORMAL may lose the last commits when the power fails.
    for pragma in (f"busy_timeout={BUSY_TIMEOUT}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("svid_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def is_newest(engine: Engine, migrations: Path) -> bool:
    """Whether there is nothing to do, told by the file names alone: Alembic reads and compiles every migration, which
    takes longer than most commands."""
    newest = max((file.name.partition("_")[0] for file in (migrations / "versions").glob("*.py")), default="")
    with engine.connect() as connection:
        table = (
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
            if (engine.dialect.name == "sqlite")
            else None
        )
        if table is None or table.first() is None:
            return False
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == newest


def copy_database(database: Path, target: Path) -> None:
    """Copy a live database whole (a plain file copy would miss what is still in the write-ahead log) and check the
    copy. Raises StoreError where it is damaged, StorageError where the disk does not let it be written."""
    target.unlink(missing_ok=True)
    with (
        removed_on_error(target),
        storage_errors(),
        closing(sqlite3.connect(database)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        wrong = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if wrong != "ok":
        target.unlink()
        raise StoreError(Problem(database.name, "", f"is damaged: {wrong}", "svid recover rebuilds it"))
