"""Bringing the tables of a database to the newest revision, with a backup of what was there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine

from svid.errors import Problem, StoreError
from svid.store.engine import copy_database
from svid.store.files import make_folder, publish
from svid.store.scratch import own_folder

BACKUPS_KEPT = 5


def migrate(engine: Engine, migrations: Path, database: Path | None = None) -> None:
    """Bring the tables to the newest revision, after a backup where there is something to lose."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(svid_write=True).begin() as connection:
        # Looked at with the lock held: a second process may have migrated while this one waited for it.
        current = MigrationContext.configure(connection).get_current_revision()
        if current == script.get_current_head():
            return
        if current is not None:
            _check_known(script, current)
            if database is not None:
                backup(database, database.parent / "backups", current)
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
    """Keep a copy of a live database in `folder`, under a name that it gets once it is whole."""
    make_folder(folder)
    target, part = folder / f"svid-{label}.db", own_folder(database.parent / "tmp") / f"svid-{label}.part"
    copy_database(database, part)
    publish(part, target)
    for old in sorted(folder.glob("svid-*.db"), key=lambda file: file.stat().st_mtime)[:-BACKUPS_KEPT]:
        old.unlink()
    return target
