"""Several homes, one database: each home's daemons do its own jobs, and go on with videos of the others."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import sqlite3
import textwrap
from pathlib import Path
from typing import Any

import pytest

from svid.daemon.lock import DaemonLock
from svid.home import Home, bundled_dir
from svid.store import queue
from svid.store.files import sha256_of
from svid.store.scratch import sweep_own
from svid.workbench import Workbench
from tests.conftest import svid
from tests.e2e.shared import sharing
from tests.e2e.tools import data, drop, ends, killed_at_last, new, rows, run, start, value, wait_for

STEPS = {"sample": {"steps": 250}}
"""A segment takes seconds, so that its daemon can be met in it."""


# Lineage is shared, jobs are not


def test_a_home_goes_on_with_a_video_of_another_and_answers_in_its_own_folder(day: Workbench, night: Workbench) -> None:
    before = day.show("harbour")
    job = night.accept({"extend": before["id"], "prompts": ["the moon"]})
    assert queue.claim(day.store, "day", day.home.id) is None, "it is not this home's"
    assert night.work().id == job.id
    after = night.show("harbour")
    assert [one["id"] for one in after["segments"][:2]] == [one["id"] for one in before["segments"]]
    assert (len(after["segments"]), after) == (3, day.show("harbour"))
    assert {folder.name for folder in night.home.done.iterdir()} == {job.id}
    assert job.id not in {folder.name for folder in day.home.done.iterdir()}
    first, second = (Path(one["path"]) for one in after["artifacts"])
    assert first.is_relative_to(day.home.done)
    assert second.is_relative_to(night.home.done)
    assert {sha256_of(first), sha256_of(second)} == {one["sha256"] for one in after["artifacts"]}
    assert not (night.home.root / "db/svid.db").exists()


def test_each_home_has_its_own_status_and_they_share_the_lineage(day: Workbench, night: Workbench) -> None:
    waits = night.accept({"extend": "harbour", "prompts": ["the moon"]}).id
    one, two = data(day.home, "status"), data(night.home, "status")
    assert one["counts"] == {"videos": 1, "segments": 2, "done": 1}
    assert two["counts"] == {"videos": 1, "segments": 2, "queued": 1}
    assert ([job["id"] for job in two["jobs"]], waits in str(one["jobs"])) == ([waits], False)
    assert (one["other_homes"], two["other_homes"]) == ([str(night.home.root)], [str(day.home.root)])
    assert run(day.home, "tree").stdout == run(night.home, "tree").stdout
    assert f"shared: the database is also that of {day.home.root}" in run(night.home, "doctor").stdout


def test_a_home_is_paused_for_itself_and_a_job_cancelled_from_anywhere(day: Workbench, night: Workbench) -> None:
    run(day.home, "pause")
    assert (data(day.home, "status")["paused"], data(night.home, "status")["paused"]) == (True, False)
    run(day.home, "resume")
    assert list(day.home.orders.iterdir()) == []
    job = night.accept({"extend": "harbour", "prompts": ["the moon"]}).id
    run(day.home, "priority", job, "3")
    run(day.home, "cancel", job)
    assert rows(day.home, "SELECT state, priority FROM job WHERE id = ?", job) == [("failed", 3)]
    assert not (night.home.failed / job).exists(), "its own home answers"
    assert run(night.home, "status").exit_code == 0


def test_a_proof_does_not_wait_for_the_daemon_of_another_home(day: Workbench, night: Workbench) -> None:
    lock = DaemonLock(day.home.daemons, day.home.id)
    try:
        assert "no daemon runs" in run(night.home, "reproduce", "harbour", code=5).stderr
    finally:
        lock.release()


def test_jobs_of_one_video_keep_their_order_across_homes(day: Workbench, night: Workbench) -> None:
    first = day.accept({"extend": "harbour", "prompts": ["one"]})
    second = night.accept({"extend": "harbour", "prompts": ["two"]})
    assert queue.claim(night.store, "night", night.home.id) is None
    assert data(night.home, "status")["waits"] == {second.id: f"{first.id} of {day.home.root}"}
    assert day.work().id == first.id
    assert night.work().id == second.id
    prompts = rows(day.home, "SELECT json_extract(ask, '$.prompt') FROM segment ORDER BY \"index\"")
    assert prompts == [("boats",), ("gulls",), ("one",), ("two",)]


def test_once_does_not_wait_for_a_home_where_no_daemon_runs(day: Workbench, night: Workbench) -> None:
    first = day.accept({"extend": "harbour", "prompts": ["one"]})
    second = night.accept({"extend": "harbour", "prompts": ["two"]})
    said = run(night.home, "up", "--once", code=75).stderr
    assert f"{second.id}: waits for {first.id} of the home {day.home.root}, where no daemon runs" in said
    run(day.home, "cancel", first.id)
    assert night.work().id == second.id


# The page


@pytest.mark.slow
def test_what_the_page_says_of_several_homes_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (bundled_dir() / "docs/daemon.md").read_text(encoding="utf-8")
    (section,) = [one for one in page.split("\n## ") if one.startswith("Several homes")]
    make, table, use = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SVID_HOME", raising=False)
    shutil.copyfile(bundled_dir() / "watch/examples/harbour.png", "harbour.png")
    Path("harbour.toml").write_text(
        'name = "harbour at dawn"\nimage = "harbour.png"\nprompts = ["boats"]\nframes = 9\nwidth = 32\nheight = 32\n'
    )
    follow(make)
    config = Path("night/svid.toml")
    config.write_text(re.sub(r"(?s)\[store\].*?\n\n", textwrap.dedent(table) + "\n", config.read_text(), count=1))
    assert Home(tmp_path / "night").db == tmp_path / "day/db"
    follow(use)
    assert len(list(Path("night/watch/done").iterdir())) == len(list(Path("day/watch/done").iterdir())) == 1
    assert len(data(Home(tmp_path / "day"), "show", "harbour at dawn")["segments"]) == 2


def follow(lines: str) -> None:
    """Do what an indented block of a page says, line by line."""
    for line in lines.splitlines():
        svid(None, *shlex.split(line, comments=True)[1:])


# Daemons


@pytest.mark.slow
def test_processes_that_start_at_once_migrate_once_and_keep_what_was_before(day: Workbench, night: Workbench) -> None:
    day.store.close()
    night.store.close()
    back_to_0002(day.home)
    many = [start(home.home, "status", "--json") for home in (day, night) * 2]
    with killed_at_last(*many):
        assert [ends(one) for one in many] == [(0, "")] * 4
    assert value(day.home, "SELECT version_num FROM alembic_version") == "0005"
    assert rows(day.home, "SELECT home FROM job") == [(day.home.id,)]
    assert [file.name for file in (day.home.db / "backups").iterdir()] == ["svid-0002.db"]
    with contextlib.closing(sqlite3.connect(day.home.db / "backups/svid-0002.db")) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchone() == ("0002",)
        assert kept.execute("SELECT count(*) FROM job").fetchone() == (1,)
        assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sweep_own(day.home.tmp)
    assert list(day.home.tmp.iterdir()) == []


def back_to_0002(home: Home) -> None:
    """The database as the svid before this one left it."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("DROP INDEX segment_rendered")
        connection.execute("DROP TABLE home")
        connection.execute("ALTER TABLE job DROP COLUMN home")
        for column in ("memory", "reached"):
            connection.execute(f"ALTER TABLE attempt DROP COLUMN {column}")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")


@pytest.mark.slow
def test_two_homes_with_two_daemons_each_do_every_job_once_also_when_one_is_killed(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    homes = [sharing(tmp_path / name, "../shared/db") for name in ("day", "night")]
    dropped: dict[str, list[bytes]] = {home.id: [] for home in homes}

    def give(home: Home, name: str, manifest: dict[str, Any]) -> None:
        dropped[home.id].append(drop(home, name, manifest))

    give(homes[0], "long.json", new("long", "a", "b", **STEPS))
    for number in range(2):
        for home in homes:
            give(home, f"more-{number}.json", new(f"{home.root.name} {number}", f"gulls {number}"))
    daemons = [start(home, "up") for home in homes for _ in range(2)]
    with killed_at_last(*daemons):
        worker = wait_for(lambda: at_work(homes[0], "long.json"), daemons[0])
        kill(homes[0], worker)
        # The other daemon of its home takes it over, and not those of the other home.
        wait_for(lambda: state(homes[0], "long.json") == "done")
        video = value(homes[0], "SELECT video_id FROM job WHERE file = 'long.json'")
        give(homes[1], "extend.json", {"extend": video, "prompts": ["c"]})
        give(homes[0], "again.json", {"extend": video, "prompts": ["d"]})
        wait_for(lambda: all(answered(home) == len(dropped[home.id]) for home in homes))
        alive = [daemon for daemon in daemons if daemon.poll() is None]
        assert len(alive) == 3
        for daemon in alive:
            daemon.terminate()
        assert [ends(daemon)[0] for daemon in alive] == [0, 0, 0]

    jobs = rows(homes[0], "SELECT id, home, file, state, answered, attempt FROM job")
    assert {(state_, answered_) for *_, state_, answered_, _ in jobs} == {("done", 1)}
    assert {file: attempt for _, _, file, _, _, attempt in jobs if attempt != 1} == {"long.json": 2}
    for home in homes:
        own = [id_ for id_, of, *_ in jobs if of == home.id]
        assert {folder.name for folder in home.done.iterdir()} == set(own)
        assert sorted((home.done / id_ / "manifest.json").read_bytes() for id_ in own) == sorted(dropped[home.id])
        assert list(home.failed.iterdir()) == list(home.claimed.iterdir()) == []
        assert [file.name for file in home.inbox.iterdir()] == ["harbour.png"]
    workers = rows(homes[0], "SELECT j.home, a.worker FROM attempt a JOIN job j ON j.id = a.job_id")
    assert all(worker.startswith(f"{of}-") for of, worker in workers)
    # As many segments as were asked for: none was rendered for two.
    assert value(homes[0], "SELECT sum(committed) FROM attempt") == 2 + 4 + 2
    assert len(data(homes[1], "show", video)["segments"]) == 4
    assert run(homes[0], "verify").stdout.endswith(" 0 wrong\n")
    assert list(homes[0].daemons.iterdir()) == []


def state(home: Home, file: str) -> str:
    return str(value(home, "SELECT state FROM job WHERE file = ?", file))


def answered(home: Home) -> int:
    return int(value(home, "SELECT count(*) FROM job WHERE answered AND home = ?", home.id))


def at_work(home: Home, file: str) -> str | None:
    """Who renders a job, once it has begun to; None before, also while the tables are being made."""
    with contextlib.suppress(sqlite3.OperationalError):
        found = rows(home, "SELECT worker FROM job WHERE file = ? AND state = 'running' AND progress IS NOT NULL", file)
        return str(found[0][0]) if found else None
    return None


def process_of(home: Home, worker: str) -> int:
    return int((home.daemons / worker).read_bytes().partition(b"\n")[0])


def kill(home: Home, worker: str) -> None:
    os.kill(process_of(home, worker), signal.SIGKILL)
