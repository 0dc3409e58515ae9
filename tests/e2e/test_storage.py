"""Full, read-only and broken storage: no job fails of it, svid says why it takes no work, and goes on by itself.

What a disk does to bytes that it said it had written can't be shown here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon.halt import why_stopped
from svid.daemon.worker import _try
from svid.errors import StorageError
from svid.home import Home
from svid.render.job import render_job
from svid.render.watch import Watch
from svid.store import queue
from svid.store.files import sha256_of
from svid.store.models import Job
from svid.store.scratch import sweep_own
from svid.workbench import Workbench
from tests.conftest import quick_home, svid
from tests.e2e.tools import bench_in, drop, ends, killed_at_last, new, rows, start, value, wait_for
from tests.full import MOUNTABLE, PAGE, WAYS, fill, limited, remount, small_disk


def roomy(root: Path) -> Home:
    """A home that keeps no reserve, so that it fits on a small disk."""
    quick_home(root)
    config = root / "svid.toml"
    config.write_text(config.read_text().replace("settle = 0.2", "settle = 0.2\ndisk_reserve = 0"))
    return Home(root)


def attempt(bench: Workbench) -> tuple[str, dict[str, Any]]:
    """One go at the next job, as the render process makes it."""
    try:
        job = queue.claim(bench.store, "bench", bench.home.id)
    except StorageError as error:
        return "", {"outcome": "storage", "problem": error.problems[0].as_dict()}
    assert job is not None
    outcome = _try(
        lambda: render_job(bench.studio, job.id, job.attempt, Watch(lambda event: None)), bench.home, bench.store
    )
    sweep_own(bench.home.tmp)
    return job.id, {**outcome, "attempt": job.attempt}


def segments(bench: Workbench, job: str) -> list[str]:
    with bench.store.read() as session:
        row = session.query(Job).where(Job.id == job).one()
    return [one["id"] for one in bench.show(row.video_id)["segments"]]


def finishes(bench: Workbench, job: str, began: bool, outcome: dict[str, Any], expected: list[str]) -> None:
    """After an attempt that met a full disk, the job waits, and another attempt does what is left of it."""
    if began:
        queue.release(bench.store, job, outcome["attempt"], "storage", "full")
    assert value(bench.home, "SELECT state FROM job WHERE id = ?", job) == "queued"
    done = value(bench.home, "SELECT count(*) FROM job_segment WHERE job_id = ?", job)
    assert segments(bench, job) == expected[:done]
    assert [file for file in bench.home.tmp.rglob("*") if file.is_file()] == []
    again, outcome = attempt(bench)
    assert (again, outcome["outcome"]) == (job, "done")
    committed = value(bench.home, "SELECT sum(committed) FROM attempt WHERE job_id = ?", job)
    assert committed == len(expected), "no segment that was committed is rendered again"


def check(bench: Workbench, job: str, expected: list[str]) -> None:
    assert segments(bench, job) == expected
    path, sha256 = rows(bench.home, "SELECT path, sha256 FROM artifact WHERE job_id = ?", job)[0]
    assert sha256_of(bench.home.root / path) == sha256


@contextlib.contextmanager
def brim(bench: Workbench, way: str, step: int) -> Iterator[None]:
    """A disk on which the job's writes go wrong after `step` pages."""
    if way == "tmpfs":
        ballast = fill(bench.home.root.parent, step)
        try:
            yield
        finally:
            ballast.unlink()
    else:
        bench.store.close()  # the write-ahead log begins anew, so that the limit is met by every kind of file
        with limited(step * PAGE):
            yield


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_job_waits_whichever_of_its_writes_finds_the_disk_full(tmp_path: Path, way: str) -> None:
    disk = small_disk(tmp_path / "disk") if way == "tmpfs" else contextlib.nullcontext(tmp_path)
    with disk as folder:
        home = roomy(folder / "home")
        bench = Workbench(home, desk_of(home))
        expected = [one["id"] for one in bench.run(new("a", "one", "two"))["segments"]]
        outcomes: list[str] = []
        for step in range(400):
            job = bench.accept(new(f"b{step}", "one", "two", reuse=False)).id
            with brim(bench, way, step):
                began, outcome = attempt(bench)
            outcomes.append(outcome["outcome"])
            if outcome["outcome"] == "storage":
                finishes(bench, job, bool(began), outcome, expected)
            check(bench, job, expected)
            if outcomes[-3:] == ["done"] * 3:
                break
        assert outcomes[-3:] == ["done"] * 3
        assert outcomes.count("storage") >= 5
        bench.store.close()
        assert svid(home, "verify").stdout.endswith(" 0 wrong\n")


def status(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(svid(home, "status", "--json").stdout)
    return found


def stopped(home: Home) -> str | None:
    found: str | None = status(home)["stopped"]
    return found


def done(home: Home) -> bool:
    return any(home.done.glob("*/manifest.json"))


HOLD = '''"""From the third segment on everything waits for as long as a file is there."""

import time
from pathlib import Path

import svid

HELD = Path(__file__).parents[1] / "held"


@svid.hookimpl(wrapper=True)
def svid_sample(segment):
    while segment.index > 1 and HELD.exists():
        time.sleep(0.02)
    return (yield)
'''


@pytest.mark.slow
@pytest.mark.skipif(not MOUNTABLE, reason="a limit on the size of files can't be felt by a probe")
def test_the_daemon_says_that_the_disk_is_full_and_goes_on_when_it_is_not(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        home = roomy(folder / "home")
        (home.plugins / "hold.py").write_text(HOLD)
        (home.root / "held").touch()
        daemon = start(home, "up")
        with killed_at_last(daemon):
            drop(home, "a.json", new("a", *[f"part {number}" for number in range(12)]))
            wait_for(lambda: list(home.blobs.iterdir()), daemon)
            wait_for(lambda: len(rows(home, "SELECT 1 FROM job_segment")) == 2, daemon)
            fill(folder)
            (home.root / "held").unlink()
            # Filled up for as long as it takes: whoever closes the database last frees the room of its log, in which
            # the rest of so small a job may fit.
            reason = wait_for(lambda: fill(folder) and why_stopped(home), daemon)
            assert "No space left" in reason or "full" in reason
            assert wait_for(lambda: fill(folder) and stopped(home), daemon)
            committed = value(home, "SELECT count(*) FROM job_segment")
            assert 1 <= committed < 12
            drop_later = new("b", "one")
            fill(folder).unlink()
            drop(home, "b.json", drop_later)
            wait_for(lambda: len(list(home.done.glob("*/manifest.json"))) == 2, daemon)
            assert stopped(home) is None
            daemon.terminate()
            assert ends(daemon)[0] == 0
        assert rows(home, "SELECT sum(committed) FROM attempt") == [(13,)]
        assert "storage" in {outcome for (outcome,) in rows(home, "SELECT outcome FROM attempt")}
        assert list(home.failed.iterdir()) == []
        assert svid(home, "verify").stdout.endswith(" 0 wrong\n")


@pytest.mark.slow
@pytest.mark.skipif(not MOUNTABLE, reason="only a file system of one's own can be made read-only")
def test_a_disk_that_is_read_only_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        home = roomy(folder / "home")
        drop(home, "a.json", new("a", "one"))
        svid(home, "status")
        remount(folder, "ro")
        once = svid(home, "up", "--once", check=False)
        assert once.returncode == 75
        assert "Read-only" in once.stderr
        assert "Read-only" in str(stopped(home))
        daemon = start(home, "up")
        with killed_at_last(daemon):
            remount(folder, "rw")
            wait_for(lambda: done(home), daemon)


@pytest.mark.slow
def test_below_the_reserve_no_job_starts(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    config = home.root / "svid.toml"
    text = config.read_text()
    config.write_text(text.replace("settle = 0.2", "settle = 0.2\ndisk_reserve = 100_000_000"))
    drop(home, "a.json", new("a", "one"))
    once = svid(home, "up", "--once", check=False)
    assert once.returncode == 75
    assert "expected at least 100000000 MiB free" in once.stderr
    assert "expected at least 100000000 MiB free" in str(stopped(home))
    assert [file.name for file in home.inbox.glob("*.json")] == ["a.json"]
    config.write_text(text)
    assert svid(home, "up", "--once").returncode == 0
    assert stopped(home) is None


BAD_SECTOR = '''"""Files that bad.txt of the home names can't be read."""

import errno
from pathlib import Path

LIST, whole = Path(__file__).parents[1] / "bad.txt", Path.open


def opened(self, *given, **more):
    if self != LIST and LIST.exists() and self.name in LIST.read_text():
        raise OSError(errno.EIO, "Input/output error", str(self))
    return whole(self, *given, **more)


Path.open = opened
'''


@pytest.mark.slow
def test_a_file_that_can_not_be_read_costs_one_job_and_retry_asks_again(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    (home.plugins / "bad_sector.py").write_text(BAD_SECTOR)
    drop(home, "a.json", new("a", "one"))
    svid(home, "up", "--once")
    latents = value(home, "SELECT latents FROM segment")
    (home.root / "bad.txt").write_text(latents)
    drop(home, "b.json", {"extend": "a", "prompts": ["two"]})
    drop(home, "c.json", new("c", "other", seed=6))
    assert svid(home, "up", "--once", check=False).returncode == 1
    assert dict(rows(home, "SELECT file, state FROM job")) == {"a.json": "done", "b.json": "failed", "c.json": "done"}
    job, errors = rows(home, "SELECT id, errors FROM job WHERE file = 'b.json'")[0]
    assert f"db/blobs/{latents[:2]}/{latents}" in errors
    assert stopped(home) is None
    (home.root / "bad.txt").unlink()
    svid(home, "retry", job)
    svid(home, "up", "--once")
    assert value(home, "SELECT count(*) FROM job WHERE state = 'done'") == 3


def test_status_answers_without_a_database_that_can_be_read(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    home.database.write_bytes(b"this is not a database, and never was" * 200)
    found = status(home)
    assert "can't be used as a database" in found["stopped"]
    assert found["jobs"] == []
    assert "stopped: " in svid(home, "status").stdout
    done = svid(home, "up", "--once", check=False)
    assert (done.returncode, "file is not a database (svid recover rebuilds it)" in done.stderr) == (75, True)


def test_a_verb_says_that_the_disk_is_full(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("a", "one"))
    bench.store.close()
    with limited(16):
        said = svid(bench.home, "extend", "a", "--prompt", "on", check=False)
    assert said.returncode == 75, said.stderr
    # SQLite meets the limit first where its shared memory has to be made anew.
    assert "File too large" in said.stderr or "disk I/O error" in said.stderr
    assert list(bench.home.inbox.glob("*.json")) == []
    assert list(bench.home.inbox.glob(".*.part")) == []
