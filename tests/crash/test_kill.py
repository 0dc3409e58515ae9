"""`kill -9` of the daemon and of its render process, at every named point and at random instants.

A kill leaves the page cache alone, so this shows that the order of writes is right and that names never point at half
of anything. What a disk does when the power fails it can't show.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from svid.crash import POINTS
from svid.home import Home
from svid.store.files import sha256_of
from tests.conftest import quick_home, svid

pytestmark = pytest.mark.slow

SMALL = {"frames": 17, "width": 32, "height": 32, "sample": {"steps": 4}}
NEW = {"name": "a", "image": "harbour.png", "prompts": ["one", "two"], "seed": 5, **SMALL}
MORE = {"extend": "a", "prompts": ["three"]}
MOST_RUNS = 25


def drop(home: Home, name: str, manifest: Mapping[str, Any]) -> None:
    part = home.inbox / f".{name}"
    part.write_text(json.dumps(manifest))
    part.rename(home.inbox / name)


def patient_home(root: Path) -> Home:
    """A home in which no number of deaths makes a job fail, and in which a segment is saved as often as can be."""
    quick_home(root)
    config = root / "svid.toml"
    text = config.read_text().replace("settle = 0.2", "settle = 0.2\nmax_attempts = 99")
    config.write_text(text.replace("snapshot_seconds = 30.0", "snapshot_seconds = 0.0"))
    assert Home(root).config.render.snapshot_seconds == 0
    return Home(root)


def outcome(home: Home) -> dict[str, Any]:
    """Everything that a kill must not change: ids, latents, the bytes of every file, and who was answered."""
    shown = json.loads(svid(home, "show", "a", "--json").stdout)
    segments = [{key: one[key] for key in ("id", "parent", "seed", "latents", "frames")} for one in shown["segments"]]
    files = {
        path.relative_to(home.done).as_posix(): sha256_of(path)
        for path in [*home.done.rglob("*.mp4"), *home.done.rglob("*-sheet.png")]
    }
    answered = sorted(path.relative_to(home.done).as_posix() for path in home.done.rglob("*") if path.is_file())
    results = [json.loads(path.read_text()) for path in sorted(home.done.rglob("result.json"))]
    frames = [result["artifact"]["frames"] for result in results]
    return {"segments": segments, "files": files, "answered": answered, "frames": frames}


def rendered(home: Home) -> int:
    """Times that a segment was rendered and committed."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        return int(connection.execute("SELECT sum(committed) FROM attempt").fetchone()[0])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = patient_home(tmp_path_factory.mktemp("whole") / "home")
    drop(home, "new.json", NEW)
    svid(home, "up", "--once")
    drop(home, "more.json", MORE)
    svid(home, "up", "--once")
    return outcome(home)


def run_until_done(home: Home, **env: str) -> int:
    """Start the daemon again until it ends by itself; returns how often it was killed."""
    for kills in range(MOST_RUNS):
        done = svid(home, "up", "--once", check=False, **env)
        if done.returncode == 0:
            return kills
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("the daemon was killed again and again")


def test_a_kill_at_every_point_is_harmless(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    home = patient_home(tmp_path / "home")
    for name, manifest in (("new.json", NEW), ("more.json", MORE)):
        markers = tmp_path / f"fired-{name}"
        markers.mkdir()
        drop(home, name, manifest)
        kills = run_until_done(home, SVID_CRASH=",".join(POINTS), SVID_CRASH_ONCE=str(markers))
        assert kills >= 4, "the points in the daemon itself end it"
        assert {marker.name for marker in markers.iterdir()} == set(POINTS)
    assert outcome(home) == uninterrupted
    assert rendered(home) == 3, "a committed segment is never rendered again"
    assert svid(home, "verify").stdout.endswith("0 wrong\n")
    assert [file.name for file in home.inbox.iterdir()] == ["harbour.png"]
    assert list(home.claimed.iterdir()) == []


DIARY = """
import json, os, signal
from pathlib import Path
from svid import hookimpl

FOLDER = Path(__file__).parents[1]

@hookimpl
def svid_event(event):
    with (FOLDER / "diary").open("a") as diary:
        diary.write(json.dumps(event) + "\\n")
    wanted = json.loads((FOLDER / "deaths").read_text())
    here = [event["event"], event.get("index"), event.get("step")]
    if here in wanted:
        (FOLDER / "deaths").write_text(json.dumps([one for one in wanted if one != here]))
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""A plugin that writes down every event, and dies at some of them, once each."""


def diary(home: Home) -> list[dict[str, Any]]:
    """The events that count steps, as (event, index, step)."""
    events = [json.loads(line) for line in (home.root / "diary").read_text().splitlines()]
    return [one for one in events if one["event"] in ("segment", "resumed", "step")]


def with_diary(root: Path, deaths: list[list[Any]]) -> Home:
    home = patient_home(root)
    (home.plugins / "diary.py").write_text(DIARY)
    (root / "deaths").write_text(json.dumps(deaths))
    return home


def test_a_segment_goes_on_after_the_step_that_was_written(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    home = with_diary(tmp_path / "home", [])
    (tmp_path / "fired").mkdir()
    armed = {"SVID_CRASH": "snapshot-written", "SVID_CRASH_ONCE": str(tmp_path / "fired")}
    drop(home, "new.json", NEW)
    assert run_until_done(home, **armed) == 0, "it is the render process that dies, and the daemon starts another"
    first, again, *rest = [
        [one for one in diary(home) if one["index"] == 0 and one["event"] == kind]
        for kind in ("segment", "resumed", "step")
    ]
    assert len(first) == 2
    assert [(one["after"], one["of"]) for one in again] == [(1, 4)]
    assert [one["step"] for one in rest[0]] == [2, 3, 4], "the first was done, and died before it was told"
    assert list(home.snapshots.iterdir()) == []
    drop(home, "more.json", MORE)
    svid(home, "up", "--once")
    assert outcome(home) == uninterrupted


def test_deaths_in_the_middle_of_segments_cost_fewer_steps_than_the_segments(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    home = with_diary(tmp_path / "home", [["step", 0, 3], ["step", 1, 2], ["step", 1, 4], ["stage", 2, None]])
    for name, manifest in (("new.json", NEW), ("more.json", MORE)):
        drop(home, name, manifest)
        svid(home, "up", "--once")
    assert json.loads((home.root / "deaths").read_text()) == []
    runs: list[list[dict[str, Any]]] = []
    for event in diary(home):
        if event["event"] == "segment":
            runs.append([])
        runs[-1].append(event)
    for index, count in ((0, 2), (1, 3)):
        own = [run for run in runs if run[0]["index"] == index]
        assert len(own) == count
        for number, (before, run) in enumerate(itertools.pairwise(own)):
            # Which steps are written depends on how long a write took. The first one that a process does always is, and
            # that is another segment's only for the first go at the second segment.
            resumed = [one["after"] for one in run if one["event"] == "resumed"]
            assert len(resumed) == 1 or (not resumed and (index, number) == (1, 0))
            after = resumed[0] if resumed else 0
            assert after <= max(one["step"] for one in before if one["event"] == "step")
            steps = [one["step"] for one in run if one["event"] == "step"]
            assert steps == list(range(after + 1, after + 1 + len(steps)))
            assert after + len(steps) == 4
    assert outcome(home) == uninterrupted
    assert list(home.snapshots.iterdir()) == []


def test_without_a_database_a_job_goes_on_after_the_segments_that_it_had(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    home = with_diary(tmp_path / "home", [["step", 1, 2]])
    plugin = home.plugins / "diary.py"
    plugin.write_text(
        plugin.read_text().replace("os.kill(os.getpid()", "os.kill(os.getppid(), 9); os.kill(os.getpid()")
    )
    drop(home, "new.json", NEW)
    assert svid(home, "up", "--once", check=False).returncode == -signal.SIGKILL
    plugin.unlink()
    for ending in ("", "-wal", "-shm"):
        Path(f"{home.database}{ending}").unlink(missing_ok=True)
    found = json.loads(svid(home, "recover", "--yes", "--json").stdout)
    assert (found["found"]["segment"], found["found"]["job"], found["receipts"]) == (1, 1, 0)
    svid(home, "up", "--once")
    assert rendered(home) == 2
    drop(home, "more.json", MORE)
    svid(home, "up", "--once")
    assert outcome(home) == uninterrupted
    assert list(home.receipts.iterdir()) == []


def children(process: int) -> list[int]:
    """The processes that `process` has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(stat.parent.name))
    return found


def test_kills_at_random_instants_are_harmless(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    dice = random.Random(20)
    home, rehearsal = patient_home(tmp_path / "home"), patient_home(tmp_path / "rehearsal")
    drop(rehearsal, "new.json", NEW)
    began = time.monotonic()
    svid(rehearsal, "up", "--once")
    whole = time.monotonic() - began
    for name, manifest in (("new.json", NEW), ("more.json", MORE)):
        drop(home, name, manifest)
        for _ in range(3):
            # Without `--once`: it waits for more when it has finished, so every kill finds it alive on any machine.
            command = [sys.executable, "-m", "svid", "--home", str(home.root), "up"]
            daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
            time.sleep(dice.uniform(0.2, 0.9) * whole)
            victims = dice.choice(["daemon", "child", "both"])
            for victim in children(daemon.pid) if victims != "daemon" else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            if victims == "child":
                time.sleep(dice.uniform(0, 0.2) * whole)
            assert daemon.poll() is None
            daemon.kill()
            daemon.wait()
        run_until_done(home)
    assert outcome(home) == uninterrupted
    assert rendered(home) == 3
    assert svid(home, "verify").stdout.endswith("0 wrong\n")
