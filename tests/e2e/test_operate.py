"""Running the house: pause, drain, cancel, retry, priorities, logs, figures, systemd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from svid.daemon.lock import running
from svid.home import Home
from tests.conftest import svid
from tests.e2e.tools import drop, ends, killed_at_last, new, rows, run, start, value, wait_for

LONG = {"sample": {"steps": 40}}


def state(home: Home, job: str) -> str:
    return str(value(home, "select state from job where id = ?", job))


def jobs(home: Home) -> list[str]:
    """The jobs' ids, none while the tables are being made."""
    with contextlib.suppress(sqlite3.OperationalError):
        return [row[0] for row in rows(home, "select id from job order by seq")]
    return []


def segments(home: Home) -> int:
    return int(value(home, "select count(*) from segment")) if jobs(home) else 0


@pytest.fixture
def paused(home: Home) -> Iterator[Home]:
    """A home with a daemon that is paused and has two jobs."""
    svid(home, "pause")
    drop(home, "a.json", new("a", "one"))
    drop(home, "b.json", new("b", "one"))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for(lambda: len(jobs(home)) == 2, daemon)
        yield home


def test_a_paused_home_takes_files_and_starts_nothing(paused: Home) -> None:
    status = json.loads(svid(paused, "status", "--json").stdout)
    assert (status["paused"], status["counts"]["queued"]) == (True, 2)
    assert "paused" in svid(paused, "status").stdout
    first, second = jobs(paused)
    svid(paused, "priority", second, "5")
    svid(paused, "resume")
    wait_for(lambda: [state(paused, job) for job in (first, second)] == ["done", "done"])
    ended = {job: str(value(paused, "select ended from job where id = ?", job)) for job in (first, second)}
    assert ended[second] < ended[first], "the higher priority went first"
    assert svid(paused, "priority", first, "1", check=False).returncode == 3


def test_once_in_a_paused_home_says_so(home: Home) -> None:
    svid(home, "pause")
    done = svid(home, "up", "--once", check=False)
    assert done.returncode == 75
    assert "is paused (svid resume)" in done.stderr


def test_a_job_that_waits_is_cancelled_and_asked_for_again(paused: Home) -> None:
    first, second = jobs(paused)
    assert svid(paused, "cancel", second[:6]).stdout.strip() == second
    assert state(paused, second) == "failed"
    answer = paused.failed / second / "error.json"
    wait_for(answer.exists)
    assert json.loads(answer.read_text())["errors"][0]["message"] == "was cancelled"
    assert svid(paused, "cancel", second, check=False).returncode == 3
    assert svid(paused, "retry", first, check=False).returncode == 3
    assert Path(svid(paused, "retry", second).stdout.strip()).suffix == ".json"
    svid(paused, "resume")
    third = wait_for(lambda: jobs(paused)[2:])[0]
    wait_for(lambda: state(paused, third) == "done")
    named = {row[0] for row in rows(paused, "select name from video where tip_id is not null")}
    assert named == {"a", "b"}


def test_a_job_that_runs_is_cancelled_at_its_next_step(home: Home) -> None:
    drop(home, "long.json", new("long", "one", segments=50, **LONG))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        job = wait_for(lambda: jobs(home), daemon)[0]
        wait_for(lambda: segments(home) >= 1, daemon)
        svid(home, "cancel", job)
        wait_for(lambda: state(home, job) == "failed", daemon)
        wait_for((home.failed / job / "error.json").exists, daemon)
        assert 1 <= segments(home) < 50
        assert list(home.orders.iterdir()) == []
        assert value(home, "select outcome from attempt where job_id = ?", job) == "cancelled"
        drop(home, "next.json", new("next", "one"))
        wait_for(lambda: [state(home, one) for one in jobs(home)] == ["failed", "done"], daemon)


def test_a_drained_daemon_finishes_its_job_and_ends(home: Home) -> None:
    for name in ("a", "b"):
        drop(home, f"{name}.json", new(name, "one", "two", sample={"steps": 10}))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for(lambda: segments(home) >= 1, daemon)
        drained = svid(home, "drain").stdout.split()
        code, said = ends(daemon)
    assert code == 0, said
    assert len(drained) == 1
    assert sorted(row[0] for row in rows(home, "select state from job")) in (["done", "queued"], ["done", "done"])
    assert running(home.daemons) == []
    assert list(home.orders.iterdir()) == []
    svid(home, "up", "--once")
    assert [row[0] for row in rows(home, "select state from job")] == ["done", "done"]


def test_logs_in_json_name_job_attempt_segment_and_stage(home: Home) -> None:
    config = home.root / "svid.toml"
    config.write_text(config.read_text().replace("[daemon]", '[daemon]\nlog = "json"\nmetrics = "db/svid.prom"'))
    drop(home, "a.json", new("a", "one"))
    drop(home, "bad.json", {"image": "nothing.png", "prompts": ["x"]})
    said = svid(home, "up", "--once", check=False).stderr
    lines = [json.loads(line) for line in said.splitlines()]
    assert all({"time", "level"} <= line.keys() for line in lines)
    stages = [line for line in lines if line.get("event") == "stage"]
    assert {line["stage"] for line in stages} >= {"load_model", "sample", "decode", "encode"}
    assert all(line["job"] and line["segment"] == 1 and line["attempt"] == 1 for line in stages)
    assert [line["file"] for line in lines if line.get("event") == "refused"] == ["bad.json"]
    figures = dict(
        line.rsplit(" ", 1) for line in home.db.joinpath("svid.prom").read_text().splitlines() if line[0] != "#"
    )
    assert float(figures["svid_free_bytes"]) > 0
    assert {'svid_jobs{state="done"}', "svid_segments_total", "svid_paused"} <= figures.keys()


def test_systemd_hears_that_the_loop_turns(home: Home, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(address))
        heard.settimeout(60)
        env = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"}
        command = [sys.executable, "-m", "svid", "--home", str(home.root), "up"]
        daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        with killed_at_last(daemon):
            said = [heard.recv(4096).decode() for _ in range(4)]
            daemon.send_signal(signal.SIGTERM)
            while said[-1] != "STOPPING=1":
                said.append(heard.recv(4096).decode())
            assert ends(daemon)[0] == 0
    assert said[0] == "READY=1"
    assert said[1] == "WATCHDOG=1\nSTATUS=waiting"
    assert said[2] == said[3] == "WATCHDOG=1"


def test_the_unit_is_one_that_systemd_takes(home: Home, tmp_path: Path) -> None:
    unit = svid(home, "service").stdout
    assert f"ExecStart={sys.executable} -m svid --home {home.root} up" in unit
    assert "Type=notify" in unit
    assert "WatchdogSec=" in unit
    assert "WantedBy=default.target" in unit
    assert "WantedBy=multi-user.target" in svid(home, "service", "--system").stdout
    assert json.loads(svid(home, "service", "--json").stdout)["unit"] == unit


def test_a_priority_may_be_below_zero(paused: Home) -> None:
    first, _ = jobs(paused)
    run(paused, "priority", first, "-5")
    assert rows(paused, "SELECT priority FROM job ORDER BY seq") == [(-5,), (0,)]
    assert "-10 is not in the range" in run(paused, "priority", first, "-10", code=2).output
