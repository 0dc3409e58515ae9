from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from svid.cli.operate import job_of
from svid.daemon.metrics import write_metrics
from svid.errors import Ambiguous, BlobError, NotFound, StorageError, StoreError
from svid.home import Home, bundled_dir
from svid.store.blobs import Blobs
from svid.store.engine import Store, connect, open_store
from svid.store.explain import find_segment
from svid.store.lineage import counts, resolve, resolve_stored
from svid.store.migrate import migrate
from svid.store.models import Base, Blob, Job, JobSegment, Segment, Video
from svid.store.show import find_anything

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
    with pytest.raises(
        StorageError, match=r"db/svid\.db: can't be used as a database: file is not a database \(svid rec"
    ):
        open_store(tmp_path / "svid.db", MIGRATIONS)


@pytest.fixture
def blobs(home: Home) -> Blobs:
    return Blobs(home.blobs, home.tmp)


def test_tensors_come_back_bit_for_bit_and_have_one_name(blobs: Blobs) -> None:
    tensors = {"b": torch.randn(2, 3), "a": torch.arange(6, dtype=torch.uint8)}
    name = blobs.publish(blobs.draft_tensors(tensors))
    assert blobs.publish(blobs.draft_tensors(dict(reversed(tensors.items())))) == name
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


def test_rows_of_blobs_are_never_written_before_the_blob(store: Store, blobs: Blobs) -> None:
    from svid.render.commit import note_blob

    with pytest.raises(FileNotFoundError), store.write() as session:
        note_blob(session, blobs, "ab" * 32, "latents")
    with store.read() as session:
        assert session.get(Blob, "ab" * 32) is None


def test_a_database_from_before_seams_keeps_what_it_shows(tmp_path: Path) -> None:
    """Revision 0002 renames a column of a table that others point at, with rows in it."""
    first = tmp_path / "first"
    shutil.copytree(MIGRATIONS, first)
    for later in set((first / "versions").glob("*.py")) - {first / "versions" / "0001_tables.py"}:
        later.unlink()
    database = tmp_path / "svid.db"
    engine = connect(f"sqlite:///{database}")
    migrate(engine, first, database)
    blob = "INSERT INTO blob VALUES ('b', 'latents', 1, '2026-01-01')"
    columns = (
        'id, parent_id, "index", ask_key, ask, latents, tail, seed, frames, overlap, tail_trim, width, height, env'
    )
    values = "'k', '{}', 'b', 'b', '1', 81, 0, 5, 32, 32, '{}', 1.0, '2026-01-01'"
    with engine.begin() as connection:
        for sql in (
            blob,
            f"INSERT INTO segment ({columns}, seconds, created) VALUES ('s1', NULL, 0, {values})",
            f"INSERT INTO segment ({columns}, seconds, created) VALUES ('s2', 's1', 1, {values})",
            "INSERT INTO clip VALUES ('s1', 'e', 'b', 76, '2026-01-01')",
        ):
            connection.exec_driver_sql(sql)
    store = open_store(database, MIGRATIONS)
    with store.read() as session:
        one, two = (session.get_one(Segment, name) for name in ("s1", "s2"))
        assert (one.shown(two), two.shown(None)) == (76, 81)
        assert (two.parent_trim, two.blend) == (5, 0)


def test_status_and_metrics_count_a_million_segments_without_reading_their_rows(store: Store, home: Home) -> None:
    said: list[str] = []
    with store.read() as session:
        bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", lambda *given: said.append(given[2]))
    with store.read() as session:
        counts(session, home.id)
    write_metrics(home.root / "svid.prom", store, home, paused=False)
    about = [words for words in said if "FROM segment" in words]
    assert len(about) == 2
    with store.read() as session:
        plans = [session.execute(text(f"EXPLAIN QUERY PLAN {words}")).one()[3] for words in about]
    assert plans == ["SCAN segment USING COVERING INDEX segment_rendered"] * 2


def segment(id_: str) -> Segment:
    """The row of a first segment."""
    numbers = {"index": 0, "frames": 9, "overlap": 0, "parent_trim": 0, "blend": 0, "width": 32, "height": 32}
    stored = {"latents": "b", "tail": "b", "seed": "1", "env": {}, "seconds": 1.0}
    return Segment(id=id_, ask_key=id_, ask={}, **numbers, **stored)


def job(id_: str, video: str) -> Job:
    """The row of a job that waits."""
    texts = {"digest": id_, "file": "a.json", "claimed": id_, "text": "{}", "home": "h"}
    return Job(id=id_, occurrence=1, manifest={}, pictures={}, video_id=video, **texts)


@pytest.fixture
def named_alike(store: Store) -> Store:
    """A store with ids that begin alike, and with a video whose name is the beginning of a segment's id."""
    with store.write() as session:
        session.add(Blob(sha256="b", kind="latents", bytes=1))
        session.flush()
        session.add_all(
            segment(id_) for id_ in ("abcd01", "abcd02", *(f"beef{number}" for number in range(7)), "cafe1")
        )
        session.flush()
        session.add_all(Video(id=id_, name=f"the {id_}", tip_id="abcd01") for id_ in ("v12341", "v12342", "v5678"))
        session.add(Video(id="v9999", name="cafe", tip_id="abcd02"))
        session.flush()
        session.add_all([job("j12341", "v12341"), job("j12342", "v12342"), job("j5678", "v5678")])
    return store


def test_a_beginning_of_several_ids_is_called_ambiguous_and_they_are_named(named_alike: Store, home: Home) -> None:
    with named_alike.read() as session:
        looks = [lambda written: find_anything(session, home, written), lambda written: find_segment(session, written)]
        looks += [lambda written: resolve(session, written), lambda written: resolve_stored(session, written)]
        several = [(0, "abcd"), (1, "abcd"), (3, "abcd"), (0, "v1234"), (1, "v1234@1"), (2, "v1234"), (0, "j1234")]
        for place, written in several:
            with pytest.raises(Ambiguous, match="is ambiguous: 2 ") as caught:
                looks[place](written)
            begins = written.partition("@")[0]
            assert f"say which by id: {begins}" in caught.value.problems[0].hint
            assert caught.value.problems[0].hint.count(begins) >= 2
        with pytest.raises(Ambiguous, match="more than 5 segments match") as caught:
            find_segment(session, "beef")
        assert "beef4" in caught.value.problems[0].hint
        assert "beef5" not in caught.value.problems[0].hint
        with pytest.raises(NotFound, match="no video has this id or name"):
            find_segment(session, "bee")
        assert find_segment(session, "abcd02").id == "abcd02"
    with pytest.raises(Ambiguous, match=r"2 jobs match \(say which by id: j12341, j12342\)"):
        job_of(named_alike, "j123")
    assert job_of(named_alike, "j5678").id == "j5678"


def test_the_name_of_a_video_comes_before_the_beginning_of_a_segment_s_id(named_alike: Store, home: Home) -> None:
    with named_alike.read() as session:
        assert find_segment(session, "cafe").id == "abcd02"
        assert find_segment(session, "cafe1").id == "cafe1"
        assert find_anything(session, home, "cafe")["kind"] == "video"
