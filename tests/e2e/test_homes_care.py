"""Several homes, one database: caring for it, and which home is which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from svid.cli.open import desk_of, store_of
from svid.daemon.lock import DaemonLock
from svid.home import Home
from svid.store import gc, queue
from svid.store.blobs import Blobs
from svid.store.homes import register
from svid.store.mounts import network_file_system
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.shared import picture
from tests.e2e.tools import data, new, rows, run

# Care


def test_gc_in_one_home_leaves_what_jobs_of_another_need(day: Workbench, night: Workbench) -> None:
    shutil.copyfile(night.home.watch / "examples/gull.png", night.home.inbox / "gull.png")
    first = night.accept(new("gull", "one", image="gull.png"))
    second = night.accept({"extend": "harbour", "prompts": ["the moon"]})
    scratch = night.studio.blobs.scratch()
    scratch.write_bytes(b"still being written")
    with day.store.write() as session:  # what only those jobs lead to: not even a video does
        session.connection().exec_driver_sql("UPDATE video SET tip_id = NULL WHERE name = 'harbour'")
        session.connection().exec_driver_sql(
            "UPDATE job SET started_from = json_object('tip', (SELECT id FROM segment ORDER BY \"index\" DESC LIMIT 1))"
            " WHERE id = ?",
            (second.id,),
        )
    found, folder = gc.collect(day.store, day.home, Blobs(day.home.blobs, day.home.tmp), young=0)
    assert (found.segments, found.orphans, folder) == ([], [], None)
    assert scratch.exists()
    assert night.work().id == first.id


def test_verify_and_recover_know_every_home(day: Workbench, night: Workbench, tmp_path: Path) -> None:
    night.run({"extend": "harbour", "prompts": ["the moon"]})
    (path,) = night.home.done.glob("*/*.mp4")
    path.write_bytes(b"changed")
    assert "its bytes have changed" in run(day.home, "verify", code=1).stderr
    before = rows(day.home, "SELECT id, home, state FROM job ORDER BY seq")
    segments = rows(day.home, "SELECT id FROM segment ORDER BY id")
    with day.store.write() as session:  # of the jobs nothing can be read any more, of the homes something can
        for table in ("artifact", "attempt", "job_segment", "job"):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")
    for bench in (day, night):
        bench.store.close()
    found = data(day.home, "recover", "--yes")
    assert (found["receipts"], found["installed"]) == (2, True)
    assert rows(day.home, "SELECT id, home, state FROM job ORDER BY seq") == before
    assert rows(day.home, "SELECT id FROM segment ORDER BY id") == segments
    assert len(rows(day.home, "SELECT * FROM home")) == 2


def test_no_database_is_replaced_while_a_daemon_of_another_home_uses_it(day: Workbench, night: Workbench) -> None:
    lock = DaemonLock(night.home.daemons, night.home.id)
    assert "a daemon runs here, of this home or of another" in run(day.home, "recover", "--yes", code=2).stderr
    lock.release()
    assert run(day.home, "recover", "--yes").exit_code == 0


def test_a_backup_of_a_home_that_shares_is_a_home_with_all_of_the_lineage(
    day: Workbench, night: Workbench, tmp_path: Path
) -> None:
    video = night.run({"extend": "harbour", "prompts": ["the moon"]})
    made = Path(data(night.home, "backup", str(tmp_path / "backups"))["folder"])
    before = picture(day.home, night.home)
    home = Home(made)
    assert (home.db, home.id, home.shares) == (made / "db", night.home.id, False)
    assert run(home, "verify").stdout.endswith(" 0 wrong\n")
    other = Workbench(home, desk_of(home))
    assert other.show("harbour")["segments"] == video["segments"]
    assert len(other.run({"extend": "harbour", "prompts": ["the sun"]})["segments"]) == 4
    assert picture(day.home, night.home) == before, "nothing of the shared one was touched"


def test_a_store_path_that_can_not_be_rewritten_is_no_backup(day: Workbench, tmp_path: Path) -> None:
    config = day.home.root / "svid.toml"
    config.write_text('store.path = "./db/../db"\n' + config.read_text())
    home = Home(day.home.root)
    assert "found it written otherwise" in run(home, "backup", str(tmp_path / "backups"), code=2).stderr
    assert list((tmp_path / "backups").iterdir()) == []


# Which home it is


def test_a_home_that_is_moved_keeps_its_jobs(day: Workbench, night: Workbench, tmp_path: Path) -> None:
    job = night.accept({"extend": "harbour", "prompts": ["the moon"]})
    night.home.root.rename(tmp_path / "moved")
    home = Home(tmp_path / "moved")
    moved = Workbench(home, desk_of(home))
    assert moved.work().id == job.id
    assert (home.done / job.id / "manifest.json").is_file()
    assert data(day.home, "status")["other_homes"] == [str(home.root)]


def test_a_copy_of_a_home_on_the_same_database_is_refused_until_it_has_its_own_id(
    night: Workbench, tmp_path: Path
) -> None:
    job = night.accept({"extend": "harbour", "prompts": ["the moon"]})
    shutil.copytree(night.home.root, tmp_path / "copy")
    copy = Home(tmp_path / "copy")
    said = run(copy, "up", "--once", code=2).stderr
    assert f"has the id {night.home.id} of {night.home.root}, and both use" in said
    (copy.root / "home.id").unlink()
    fresh = Home(copy.root).prepare()
    assert fresh.id != night.home.id
    assert queue.claim(store_of(fresh), "w", fresh.id) is None
    assert night.work().id == job.id


def test_the_store_must_be_where_something_is(tmp_path: Path) -> None:
    quick_home(tmp_path / "lost")
    config = tmp_path / "lost/svid.toml"
    config.write_text('[store]\npath = "/mnt/not/mounted"\n' + config.read_text())
    said = run(Home(tmp_path / "lost"), "status", code=2).stderr
    assert "svid.toml: store.path: expected a folder in one that is there" in said


def test_an_id_that_is_none_is_named(home: Home) -> None:
    (home.root / "home.id").write_text("mine\n")
    assert "expected h and eight hexadecimal digits, found 'mine'" in run(home, "status", code=2).stderr


def test_jobs_from_before_homes_had_ids_go_to_the_home_around_the_database(day: Workbench, night: Workbench) -> None:
    ((job,),) = rows(day.home, "SELECT id FROM job")
    with day.store.write() as session:  # as migration 0003 leaves them
        session.connection().exec_driver_sql("UPDATE job SET home = ''")
        session.connection().exec_driver_sql("DELETE FROM home")
    register(night.store, night.home)
    assert rows(day.home, "SELECT home FROM job") == [("",)]
    register(day.store, day.home)
    assert rows(day.home, "SELECT id, home FROM job") == [(job, day.home.id)]


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /srv/nas rw shared:5 - nfs4 nas:/export rw
31 30 8:2 / /srv/nas/local\\040disk rw - xfs /dev/sdb rw
32 22 0:41 / /srv/far rw - fuse.sshfs far:/ rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/srv/nas/db", "nfs4"), ("/srv/nas/local disk/db", None), ("/srv/far", "fuse.sshfs"), ("/home/db", None)],
)
def test_a_network_file_system_is_known(tmp_path: Path, folder: str, kind: str | None) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_file_system(Path(folder), tmp_path / "mountinfo") == kind
    assert network_file_system(Path(folder), tmp_path / "none") is None


def test_a_shared_database_on_a_network_file_system_is_refused_and_one_s_own_warned_of(
    day: Workbench, night: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("svid.daemon.places", "svid.daemon.health"):
        monkeypatch.setattr(f"{module}.network_file_system", lambda folder: "nfs4")
    assert "is on nfs4, a network file system" in run(night.home, "up", "--once", code=2).stderr
    assert "error   " in run(night.home, "doctor", code=1).stdout
    assert "warning " in run(day.home, "doctor").stdout
    assert "no other machine may run" in run(day.home, "up", "--once").stderr
