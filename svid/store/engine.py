"""The database: one engine, short transactions, migrations at start-up.

SQLite by default; the tables run on PostgreSQL by changing the URL. No transaction spans model work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from svid.errors import Problem, StoreError

BACKUPS_KEPT = 5


class Store:
    """Sessions on the database of a home."""

    def __init__(self, engine: Engine) -> None:
        self._reader = engine
        self._writer = engine.execution_options(svid_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock from its first statement and commits on leaving, or nothing at all.

        The lock is taken at once because SQLite refuses, without waiting, a reader that becomes a writer late.
        """
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()


def open_store(database: Path, migrations: Path) -> Store:
    """Open the database file, making or migrating it first.

    Raises StoreError where the file is no database, was made by a newer svid, or where its file system can't keep a
    write-ahead log (some network mounts).
    """
    engine = connect(f"sqlite:///{database}")
    try:
        with engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal":
            raise StoreError(
                Problem(database.name, "journal_mode", f"expected wal, found {mode}", "put db/ on a local file system")
            )
        migrate(engine, migrations, database)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise StoreError(Problem(database.name, "", f"can't be used as a database: {error}")) from error
    return Store(engine)


def connect(url: str) -> Engine:
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
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("svid_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def migrate(engine: Engine, migrations: Path, database: Path | None = None) -> None:
    """Bring the tables to the newest revision, after a backup where there is something to lose."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations))
    script = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head()
    if current == newest:
        return
    if current is not None:
        _check_known(script, current)
        if database is not None:
            backup(database, database.parent / "backups", current)
    with engine.execution_options(svid_write=True).begin() as connection:
        # A second process may have migrated while this one waited for the lock.
        if MigrationContext.configure(connection).get_current_revision() != newest:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _check_known(script: ScriptDirectory, current: str) -> None:
    try:
        script.get_revision(current)
    except CommandError as error:
        raise StoreError(
            Problem("svid.db", "alembic_version", f"revision {current} is unknown to this svid", "use a newer svid")
        ) from error


def backup(database: Path, folder: Path, label: str) -> Path:
    """Copy a live database whole (a plain file copy would miss what is still in the write-ahead log)."""
    folder.mkdir(exist_ok=True)
    target = folder / f"svid-{label}.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    for old in sorted(folder.glob("svid-*.db"), key=lambda file: file.stat().st_mtime)[:-BACKUPS_KEPT]:
        old.unlink()
    return target
