"""`svid recover`: a database from what can be read of the old one, from receipts and from blobs."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from svid.cli import main
from svid.cli.open import desk_of
from svid.daemon.lock import DaemonLock
from svid.home import Home
from svid.render.watch import Watch
from svid.store import queue
from svid.store.models import Job
from svid.store.quick import look
from svid.workbench import Workbench
from tests.conftest import quick_home, svid
from tests.e2e.tools import bench_in, drop, new, rows, value

TABLES = ("blob", "asset", "segment", "clip", "video", "job", "attempt", "job_segment", "artifact")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three videos, one forked from another, a job that failed, and one that waits."""
    bench = bench_in(tmp_path_factory.mktemp("recover") / "home")
    bench.run(new("a", "one", "two"))
    bench.run({"extend": "a", "prompts": ["three"]})
    bench.run({"branch": "a@1", "name": "b", "prompts": ["other"]})
    bench.accept({"extend": "b", "prompts": ["waits"]})
    bench.store.close()
    return bench.home


@pytest.fixture
def copy(rendered: Home, tmp_path: Path) -> Home:
    shutil.copytree(rendered.root, tmp_path / "home")
    return Home(tmp_path / "home")


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), *arguments])


def recover(home: Home, *arguments: str) -> dict[str, Any]:
    done = run(home, "recover", "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def content(home: Home, *tables: str) -> dict[str, list[str]]:
    return {
        table: sorted(repr(row).replace("'null'", "None") for row in rows(home, f"SELECT * FROM {table}"))
        for table in tables or TABLES
    }


def no_database(home: Home) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{home.database}{ending}").unlink(missing_ok=True)


def test_a_whole_database_comes_out_as_it_was(copy: Home) -> None:
    before = content(copy)
    found = recover(copy)
    assert (found["lost"], found["installed"]) == ([], False)
    assert found["found"] == {table: len(before[table]) for table in found["found"]}
    assert content(copy) == before
    recover(copy, "--yes")
    assert content(copy) == before
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")


def test_without_a_database_the_receipts_give_back_what_was_answered(copy: Home) -> None:
    before = content(copy)
    waits = value(copy, "SELECT id FROM job WHERE state = 'queued'")
    lineage = ("blob", "asset", "segment", "clip", "job_segment", "artifact")
    shown = {name: json.loads(run(copy, "show", name, "--json").stdout) for name in ("a", "b")}
    no_database(copy)
    assert "db/svid.db: is gone" in recover(copy)["lost"]
    found = recover(copy, "--yes")
    assert found["receipts"] == 3
    assert content(copy, *lineage) == {table: before[table] for table in lineage}
    for name, one in shown.items():
        again = json.loads(run(copy, "show", name, "--json").stdout)
        answered = [job for job in one["jobs"] if job["id"] != waits]
        assert {**again, "jobs": None} == {**one, "jobs": None}
        assert [job["id"] for job in again["jobs"]] == [job["id"] for job in answered]
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")
    bench = Workbench(copy, desk_of(copy))
    assert len(bench.run({"extend": "a", "prompts": ["four"]})["segments"]) == 4


@pytest.mark.parametrize(("blobs", "emptied"), [(True, False), (False, False), (True, True)])
def test_a_database_that_is_gone_is_not_made_anew(copy: Home, *, blobs: bool, emptied: bool) -> None:
    no_database(copy)
    if emptied:  # as a disk that was full may leave it
        copy.database.touch()
    if not blobs:  # as where the disk of [store] is not mounted
        shutil.rmtree(copy.blobs)
    for command in (["tree"], ["show", "a"], ["extend", "a"], ["up", "--once"]):
        done = run(Home(copy.root), *command)
        assert done.exit_code == 75, (command, done.output)
        assert "svid.db: is gone (put it back" in done.stderr
    assert "svid.db: is gone" in run(copy, "status").stdout
    assert "svid.db: is gone" in run(copy, "doctor").stdout
    assert copy.database.exists() == emptied
    assert not emptied or copy.database.stat().st_size == 0


class Killed(BaseException):
    """The process ends here."""


def killed_after(bench: Workbench, commits: int) -> Job:
    """Begin the next job as a process does that is killed when so many segments are committed."""
    seen = []

    def tell(event: Any) -> None:
        seen.extend([event] if event["event"] in ("committed", "reused") else [])
        if len(seen) == commits:
            raise Killed

    with pytest.raises(Killed):
        bench.work(Watch(tell))
    with bench.store.read() as session:
        return session.scalars(select(Job).where(Job.state == "running")).one()


def test_a_job_that_was_taken_up_again_goes_on_after_a_recovery(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.accept(new("long", "one", "two", "three"))
    for commits in (1, 2):
        job = killed_after(bench, commits)
        assert job.attempt == commits
        assert queue.recover(bench.store, bench.home.id, lambda worker: False) == [job.id]
    bench.store.close()
    no_database(bench.home)
    recover(bench.home, "--yes")
    again = Workbench(bench.home, desk_of(bench.home))
    queue.recover(again.store, again.home.id, lambda worker: False)
    done = again.work()
    assert (done.id, done.attempt, done.state) == (job.id, 3, "done")
    assert len(again.show("long")["segments"]) == 3


def test_a_reproduction_moves_no_tip_in_a_recovery(copy: Home) -> None:
    bench = Workbench(copy, desk_of(copy))
    bench.work()
    bench.run({"reproduce": "a@1"})
    tip = bench.show("a")["tip"]
    bench.store.close()
    no_database(copy)
    recover(copy, "--yes")
    assert json.loads(run(copy, "show", "a", "--json").stdout)["tip"] == tip


def test_a_job_whose_number_was_given_again_is_not_lost(copy: Home, tmp_path: Path) -> None:
    """As after an old database was put back, and jobs were taken since."""
    before = content(copy, "job_segment")
    no_database(copy)
    shutil.move(copy.db / "blobs", tmp_path / "away")
    receipts = [*copy.watch.glob("*/*/receipt.json")]
    for receipt in receipts:
        receipt.rename(receipt.with_suffix(".away"))
    bench = Workbench(copy.prepare(), desk_of(copy))
    bench.run(new("c", "other"))
    bench.store.close()
    shutil.copytree(tmp_path / "away", copy.db / "blobs", dirs_exist_ok=True)
    for receipt in receipts:
        receipt.with_suffix(".away").rename(receipt)
    assert recover(copy, "--yes")["lost"] == []
    assert len(before["job_segment"]) + 1 == len(content(copy, "job_segment")["job_segment"])
    assert len(json.loads(run(copy, "show", "a", "--json").stdout)["segments"]) == 3


def test_the_same_manifest_is_taken_however_many_of_its_jobs_were_lost(copy: Home) -> None:
    bench = Workbench(copy, desk_of(copy))
    first, _ = bench.accept(new("twice", "one")), bench.accept(new("twice", "one"))
    with contextlib.closing(sqlite3.connect(copy.database)) as connection, connection:
        connection.execute("DELETE FROM job WHERE id = ?", (first.id,))
    assert bench.accept(new("twice", "one")).occurrence == 3


def damage(database: Path, dead: range) -> None:
    """Overwrite pages of a database that nobody has open."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database.open("r+b") as file:
        for page in dead:
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)


@pytest.mark.parametrize("first", range(1, 40, 3))
def test_damaged_pages_cost_only_what_no_receipt_tells(copy: Home, first: int) -> None:
    lineage = ("asset", "segment", "clip", "job_segment", "artifact")
    before = content(copy, *lineage)
    pages = copy.database.stat().st_size // 4096
    damage(copy.database, range(first % pages, min(first % pages + 3, pages)))
    recover(copy, "--yes")
    assert content(copy, *lineage) == before
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")
    assert len(list((copy.db / "backups").glob("damaged-*.db"))) == 1


def test_a_cut_off_database_gives_what_it_still_has(copy: Home) -> None:
    for receipt in copy.watch.rglob("receipt.json"):
        receipt.unlink()
    damage(copy.database, range(0))
    with copy.database.open("r+b") as file:
        file.truncate(copy.database.stat().st_size // 2)
    found = recover(copy, "--yes")
    assert found["lost"]
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")
    assert run(copy, "status").exit_code == 0


def test_what_can_not_be_proved_is_not_taken(copy: Home) -> None:
    tip = value(copy, "SELECT tip_id FROM video WHERE name = 'a'")
    with contextlib.closing(sqlite3.connect(copy.database)) as connection, connection:
        connection.execute("UPDATE segment SET ask = json_set(ask, '$.prompt', 'lie') WHERE id = ?", (tip,))
    for receipt in copy.watch.rglob("receipt.json"):
        text = json.loads(receipt.read_bytes())
        for row in text["segment"]:
            row["ask"]["prompt"] = "lie" if row["id"] == tip else row["ask"]["prompt"]
        receipt.write_text(json.dumps(text))
    found = recover(copy, "--yes")
    assert f"segment {tip[:16]}: its hashes are wrong" in found["lost"]
    assert len(json.loads(run(copy, "show", "a", "--json").stdout)["segments"]) == 2
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")


def test_a_missing_blob_takes_what_stands_on_it_and_nothing_else(copy: Home) -> None:
    tip, latents = rows(copy, 'SELECT id, latents FROM segment ORDER BY "index" DESC LIMIT 1')[0]
    (copy.blobs / latents[:2] / latents).unlink()
    found = recover(copy, "--yes")
    assert any(line.startswith(f"blob {latents[:16]}") for line in found["lost"])
    assert any(line.startswith(f"segment {tip[:16]}") for line in found["lost"])
    assert len(json.loads(run(copy, "show", "a", "--json").stdout)["segments"]) == 2
    assert run(copy, "verify").stdout.endswith(" 0 wrong\n")


def test_a_running_daemon_is_not_robbed_of_its_database(copy: Home) -> None:
    lock = DaemonLock(copy.daemons, copy.id)
    done = run(copy, "recover", "--yes")
    lock.release()
    assert done.exit_code == 2
    assert "a daemon runs here" in done.stderr


def test_a_receipt_that_is_no_receipt_is_named(copy: Home) -> None:
    for number, text in enumerate(
        ("{", "[]", '{"job": []}', '{"job": [{"seq": "x"}]}', '{"job": [{"seq": 9}], "segment": [1]}')
    ):
        (copy.done / f"x{number}").mkdir()
        (copy.done / f"x{number}" / "receipt.json").write_text(text)
    found = recover(copy)
    assert len([line for line in found["lost"] if "receipt.json" in line]) == 5
    assert found["found"]["job"] == 4


# verify --quick


def quick(home: Home) -> dict[str, Any]:
    done = run(home, "verify", "--quick", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (1 if found["problems"] else 0)
    return found


def test_a_quick_look_sees_all_of_a_small_home(copy: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "__defaults__", (60.0,))
    number = value(copy, "SELECT (SELECT count(*) FROM blob) + (SELECT count(*) FROM segment)")
    assert quick(copy) == {"checked": number, "of": number, "complete": True, "problems": []}
    sha256 = value(copy, "SELECT latents FROM segment LIMIT 1")
    blob = copy.blobs / sha256[:2] / sha256
    data = blob.read_bytes()
    blob.unlink()
    assert "No such file" in quick(copy)["problems"][0]["message"]
    blob.write_bytes(data[:-1])
    assert quick(copy)["problems"][0]["message"] == f"expected {len(data)} bytes, found {len(data) - 1}"
    blob.write_bytes(data)
    assert "looked at (all), 0 wrong" in run(copy, "verify", "--quick").stdout


def test_a_quick_look_ends_in_time_and_takes_every_row_once(copy: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from svid.cli.open import store_of
    from svid.store import quick as module
    from svid.store.blobs import Blobs
    from svid.store.models import Blob

    with store_of(copy).write() as session:
        for number in range(1500):
            session.add(Blob(sha256=f"{number:064x}", kind="latents", bytes=1))
    with store_of(copy).read() as session:
        last = session.query(Blob).count()
        seen = [row.sha256 for row in module._newest_then_any(session, Blob, last)]
        assert sorted(seen) == sorted({row.sha256 for row in session.query(Blob)})
        found = module.look(session, Blobs(copy.blobs, copy.tmp), seconds=0.0)
    assert (found.checked, found.complete) == (0, False)


def test_an_answer_that_was_cut_off_is_given_after_a_recovery(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    drop(home, "a.json", new("a", "one"))
    killed = svid(home, "up", "--once", check=False, SVID_CRASH="answer-written")
    assert killed.returncode < 0
    for end in ("", "-wal", "-shm"):
        Path(f"{home.database}{end}").unlink(missing_ok=True)
    recover(home, "--yes")
    assert rows(home, "SELECT state, answered FROM job") == [("done", 0)]
    svid(home, "up", "--once")
    (folder,) = (path.parent for path in home.done.glob("*/result.json"))
    assert (folder / "manifest.json").is_file()
    assert rows(home, "SELECT state, answered FROM job") == [("done", 1)]


def test_what_came_since_an_older_copy_of_the_database_is_where_videos_end(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("v", "one", "two"))
    old = tmp_path / "yesterday.db"
    with contextlib.closing(sqlite3.connect(bench.home.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(old),))
    bench.run({"extend": "v", "prompts": ["three"]})
    bench.run({"redo": "v", "seed": 9})
    bench.run(new("w", "one"))
    tips = rows(bench.home, "SELECT id, name, tip_id FROM video ORDER BY id")
    bench.store.close()
    for file in bench.home.db.glob("svid.db*"):
        file.unlink()
    shutil.move(old, bench.home.database)
    assert run(bench.home, "recover", "--yes").exit_code == 0
    assert rows(bench.home, "SELECT id, name, tip_id FROM video ORDER BY id") == tips
    assert "0 segments, 0 blobs" in run(bench.home, "gc").stdout


def test_a_job_that_an_older_copy_of_the_database_has_in_the_queue_is_not_done_again(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("v", "one", "two"))
    bench.accept({"extend": "v", "prompts": ["three"]})
    old = tmp_path / "yesterday.db"
    with contextlib.closing(sqlite3.connect(bench.home.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(old),))
    bench.work()
    before = content(bench.home, "job", "video", "segment", "job_segment", "artifact", "attempt")
    bench.store.close()
    for file in bench.home.db.glob("svid.db*"):
        file.unlink()
    shutil.move(old, bench.home.database)
    assert run(bench.home, "recover", "--yes").exit_code == 0
    assert content(bench.home, *before) == before
    assert run(bench.home, "up", "--once").exit_code == 0
    assert content(bench.home, *before) == before
    assert run(bench.home, "verify").stdout.endswith(" 0 wrong\n")
