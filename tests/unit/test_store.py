from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
import torch
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from svid.errors import BlobError, StoreError
from svid.home import Home, bundled_dir
from svid.store.blobs import Blobs
from svid.store.engine import Store, connect, migrate, open_store
from svid.store.models import Base, Blob, JobSegment, Video

MIGRATIONS = bundled_dir() / "db" / "migrations"


def test_pragmas_are_in_force(store: Store) -> None:
    with store.read() as session:
        values = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_foreign_keys_are_enforced(store: Store) -> None:
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(JobSegment(job_id="nobody", index=0, segment_id="nothing", reused=False, settings={}))


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def write() -> None:
        with store.write() as session:
            session.add(Video(id="v1", name="lost"))
            session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        write()
    with store.read() as session:
        assert session.get(Video, "v1") is None


def test_migrations_make_exactly_the_tables_of_the_models(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'fresh.db'}")
    migrate(engine, MIGRATIONS)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    assert differences == []


def test_a_migration_backs_the_database_up_first(tmp_path: Path) -> None:
    database = tmp_path / "svid.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    newer = tmp_path / "migrations"
    (newer / "versions").mkdir(parents=True)
    (newer / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    for revision, down in (("0001", None), ("0002", "0001")):
        body = f"revision = {revision!r}\ndown_revision = {down!r}\ndef upgrade():\n    pass\n"
        (newer / "versions" / f"{revision}.py").write_text(body)
    migrate(connect(f"sqlite:///{database}"), newer, database)
    assert [file.name for file in (tmp_path / "backups").iterdir()] == ["svid-0001.db"]


def test_a_database_of_a_newer_svid_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "svid.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    with pytest.raises(StoreError, match="revision 9999 is unknown"):
        open_store(tmp_path / "svid.db", MIGRATIONS)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "svid.db").write_bytes(b"this is not a database, and never was" * 100)
    with pytest.raises(StoreError, match=r"svid\.db: can't be used as a database"):
        open_store(tmp_path / "svid.db", MIGRATIONS)


@pytest.fixture
def blobs(home: Home) -> Blobs:
    return Blobs(home.blobs, home.tmp)


def test_tensors_come_back_bit_for_bit_and_have_one_name(blobs: Blobs) -> None:
    tensors = {"b": torch.randn(2, 3), "a": torch.arange(6, dtype=torch.uint8)}
    name = blobs.put_tensors(tensors)
    assert blobs.put_tensors(dict(reversed(tensors.items()))) == name
    back = blobs.get_tensors(name)
    assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    assert blobs.path(name).stat().st_mode & 0o777 == 0o444


def test_a_flipped_bit_is_found_and_named(blobs: Blobs) -> None:
    name = blobs.put(b"latents" * 1000)
    path = blobs.path(name)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    for read in (blobs.get, blobs.verified):
        with pytest.raises(BlobError, match=name):
            read(name)


def test_a_missing_blob_is_named(blobs: Blobs) -> None:
    with pytest.raises(BlobError, match="0" * 64):
        blobs.get("0" * 64)


def test_publishing_flushes_before_it_renames_and_the_folder_after(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order only: that the disk obeys fsync when the power fails can't be shown here."""
    seen: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        seen.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        real_fsync(handle)

    def replace(self: Path, target: Path) -> Path:
        seen.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    blobs.put(b"some bytes")
    # The first of them makes the folder that the blob goes into.
    assert seen == ["fsync folder", "fsync file", "rename", "fsync folder"]


def test_rows_of_blobs_are_never_written_before_the_blob(store: Store, blobs: Blobs) -> None:
    from svid.render.commit import note_blob

    with pytest.raises(FileNotFoundError), store.write() as session:
        note_blob(session, blobs, "ab" * 32, "latents")
    with store.read() as session:
        assert session.get(Blob, "ab" * 32) is None
