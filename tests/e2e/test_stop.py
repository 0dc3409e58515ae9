"""SIGTERM: the segment in flight is finished and the job goes on later; a second one ends it at the next step, a third
one at once.

No sleep decides anything here: every step waits for what the database says, and only the patience has a number.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from svid.home import Home
from tests.conftest import quick_home, svid
from tests.e2e.tools import drop, ends, frames_of, killed_at_last, new, rows, start, value, wait_for

pytestmark = pytest.mark.slow

SEGMENTS = 3
STEPS = 100
"""The render process has this many steps to hear of what it has been told."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return quick_home(tmp_path_factory.mktemp("stop") / "home")


def progress(home: Home, file: str) -> dict[str, Any] | None:
    """Where a running job stands, as `svid status` shows it; None before it stands anywhere."""
    try:
        found = rows(home, "SELECT progress FROM job WHERE file = ? AND state = 'running'", file)
    except sqlite3.OperationalError:
        return None  # the tables are being made
    return json.loads(found[0][0]) if found and found[0][0] else None


def committed(home: Home, file: str) -> list[str]:
    """The segments that a job has so far."""
    sql = 'SELECT segment_id FROM job_segment s JOIN job j ON j.id = s.job_id WHERE j.file = ? ORDER BY s."index"'
    return [id_ for (id_,) in rows(home, sql, file)]


def state(home: Home, file: str) -> str:
    return str(value(home, "SELECT state FROM job WHERE file = ?", file))


def outcomes(home: Home, file: str) -> list[tuple[Any, ...]]:
    sql = "SELECT a.outcome, a.committed FROM attempt a JOIN job j ON j.id = a.job_id WHERE j.file = ? ORDER BY a.n"
    return rows(home, sql, file)


GATE = """
import time
from pathlib import Path
from svid import hookimpl

FOLDER = Path(__file__).parents[1]

@hookimpl
def svid_event(event):
    if event["event"] == "step" and event["index"] == 1 and event["step"] == 1:
        (FOLDER / "reached").touch()
        while not (FOLDER / "open").exists():
            time.sleep(0.02)
"""
"""A plugin that holds the second segment after its first step until a file is there."""


def hear(process: subprocess.Popen[str], word: str) -> str:
    """Read what a daemon says until it has said `word`."""
    assert process.stderr is not None
    said = ""
    while word not in said:
        line = process.stderr.readline()
        assert line, f"it ended without a word of {word!r}: {said}"
        said += line
    return said


def test_one_signal_finishes_the_segment_and_the_job_goes_on_later(home: Home) -> None:
    prompts = [f"scene {number}" for number in range(SEGMENTS)]
    (home.plugins / "gate.py").write_text(GATE)
    drop(home, "long.json", new("long", *prompts, sample={"steps": STEPS}))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for((home.root / "reached").exists, daemon)
        daemon.send_signal(signal.SIGTERM)
        hear(daemon, "stopping after this segment")
        (home.root / "open").touch()
        code, said = ends(daemon)
    assert code == 0, said
    assert "stopped" in said
    assert state(home, "long.json") == "queued"
    before = committed(home, "long.json")
    assert len(before) == 2, "the segment in flight is finished, and no other one begun"
    assert outcomes(home, "long.json") == [("stopped", len(before))]
    assert list(home.done.iterdir()) == list(home.failed.iterdir()) == []

    svid(home, "up", "--once")
    assert state(home, "long.json") == "done"
    after = committed(home, "long.json")
    assert len(after) == SEGMENTS
    assert after[: len(before)] == before
    assert outcomes(home, "long.json") == [("stopped", len(before)), ("done", SEGMENTS - len(before))]
    result = json.loads(next(home.done.glob("*/result.json")).read_text())
    assert [one["id"] for one in result["segments"]] == after
    assert len(frames_of(result["artifact"]["path"])) == 9 + 4 * (SEGMENTS - 1)


def test_a_second_signal_ends_it_at_the_next_step(home: Home) -> None:
    # A segment of this job takes longer than anybody waits.
    drop(home, "endless.json", new("endless", "on and on", sample={"steps": 1000}, width=64, height=64, frames=81))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for(lambda: (progress(home, "endless.json") or {}).get("step", 0) >= 1, daemon)
        daemon.send_signal(signal.SIGTERM)
        here = (progress(home, "endless.json") or {})["step"]
        # It goes on after the first signal.
        wait_for(lambda: (progress(home, "endless.json") or {}).get("step", 0) > here, daemon)
        assert daemon.poll() is None
        daemon.send_signal(signal.SIGTERM)
        code, said = ends(daemon)
    assert code == 0, said
    assert state(home, "endless.json") == "queued"
    assert committed(home, "endless.json") == []
    assert outcomes(home, "endless.json") == [("stopped", 0)]
    assert Path(home.claimed, value(home, "SELECT claimed FROM job WHERE file = 'endless.json'")).is_file()


HANG = """
import time
from pathlib import Path
from pydantic import BaseModel, field_validator
from svid import hookimpl

FOLDER = Path(__file__).parents[1]

def hang(name):
    (FOLDER / name).touch()
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

class Options(BaseModel):
    calm: bool = True

    @field_validator("calm")
    @classmethod
    def _check(cls, value):
        return value or hang("accepting")

@hookimpl
def svid_options():
    return Options

@hookimpl
def svid_sample(segment):
    if segment.prompt == "hang":
        hang("sampling")
"""
"""A plugin that never returns, whatever is raised in it."""


def test_a_third_signal_ends_a_plugin_that_hangs_and_nothing_is_lost(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    plugin = home.plugins / "hang.py"
    plugin.write_text(HANG)
    drop(home, "hangs.json", new("hangs", "one", "hang"))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for((home.root / "sampling").exists, daemon)
        daemon.send_signal(signal.SIGTERM)
        hear(daemon, "stopping after this segment")
        daemon.send_signal(signal.SIGTERM)
        assert "waiting for segment 2/2: sample; once more: at once" in hear(daemon, "stopping at the next step")
        daemon.send_signal(signal.SIGTERM)
        code, said = ends(daemon)
    assert code == 0, said
    assert "stopping at once" in said
    assert state(home, "hangs.json") == "queued"
    before = committed(home, "hangs.json")
    assert len(before) == 1
    assert outcomes(home, "hangs.json") == [("stopped", 1)]

    plugin.unlink()
    svid(home, "up", "--once")
    assert state(home, "hangs.json") == "done"
    assert committed(home, "hangs.json")[:1] == before


def test_a_third_signal_ends_a_daemon_that_a_plugin_holds(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    plugin = home.plugins / "hang.py"
    plugin.write_text(HANG)
    data = drop(home, "holds.json", new("holds", "one", options={"hang": {"calm": False}}))
    daemon = start(home, "up")
    with killed_at_last(daemon):
        wait_for((home.root / "accepting").exists, daemon)
        wait_for(lambda: daemon.poll() is not None or daemon.send_signal(signal.SIGTERM))
        code, _said = ends(daemon)
    plugin.unlink()
    assert code == -signal.SIGALRM
    svid(home, "up", "--once", check=False)
    (answer,) = home.failed.iterdir()
    assert (answer / "manifest.json").read_bytes() == data, "it is answered: there is no such plugin any more"
