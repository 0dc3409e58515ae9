"""Promise 4: two daemons on one inbox never do the same job twice, and lose no file."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from pathlib import Path

import pytest

from svid.cli.open import store_of
from svid.home import Home
from svid.store.blobs import Blobs
from svid.store.files import sha256_of
from svid.store.show import find_anything
from svid.store.verify import verify
from tests.conftest import quick_home
from tests.e2e.tools import drop, ends, frames_of, killed_at_last, new, rows, start, value, wait_for

pytestmark = pytest.mark.slow

STEPS = {"sample": {"steps": 8}}


def test_every_job_is_done_once_and_no_file_is_lost(tmp_path: Path) -> None:
    dice = random.Random(4)
    home = quick_home(tmp_path / "home")
    dropped = [
        drop(home, "base.json", new("base", "boats", **STEPS)),
        drop(home, "more-0.json", new("other 0", "gulls 0", **STEPS)),
    ]
    daemons = [start(home, "up", "--once") for _ in range(2)]
    with killed_at_last(*daemons):
        # An extension can name a video from the moment that its job is in the queue.
        accepted = "SELECT count(*) FROM job WHERE file = 'base.json'"
        wait_for(lambda: home.database.exists() and _try(home, accepted), daemons[0])
        rest = [(f"extend-{n}.json", {"extend": "base", "prompts": [f"on {n}"]}) for n in range(2)]
        rest += [(f"more-{n}.json", new(f"other {n}", f"gulls {n}", **STEPS)) for n in range(1, 4)]
        # The very same manifest twice is two jobs, whoever takes them.
        rest += [(f"twin-{n}.json", new("twin", "two of one", **STEPS)) for n in range(2)]
        dice.shuffle(rest)
        for name, manifest in rest:
            time.sleep(dice.uniform(0, 0.3))
            dropped.append(drop(home, name, manifest))
        ended = [ends(daemon) for daemon in daemons]
    assert [code for code, _ in ended] == [0, 0], ended

    jobs = rows(home, "SELECT id, file, state, answered, attempt FROM job ORDER BY seq")
    assert len(jobs) == len(dropped) == 9
    assert {(state, answered, attempt) for _, _, state, answered, attempt in jobs} == {("done", 1, 1)}
    attempts = rows(home, "SELECT job_id, n, outcome, committed FROM attempt")
    assert sorted(attempts) == sorted((id_, 1, "done", 1) for id_, *_ in jobs)
    assert value(home, "SELECT count(DISTINCT worker) FROM attempt") == 2, "one of the two did nothing"

    assert {folder.name for folder in home.done.iterdir()} == {id_ for id_, *_ in jobs}
    assert sorted((home.done / id_ / "manifest.json").read_bytes() for id_, *_ in jobs) == sorted(dropped)
    assert list(home.failed.iterdir()) == list(home.claimed.iterdir()) == []
    assert [file.name for file in home.inbox.iterdir()] == ["harbour.png"]
    for id_, *_ in jobs:
        artifact = json.loads((home.done / id_ / "result.json").read_text())["artifact"]
        assert sha256_of(Path(artifact["path"])) == artifact["sha256"]

    store = store_of(home)
    with store.read() as session:
        base = find_anything(session, home, "base")
        assert [problem for problem in verify(session, Blobs(home.blobs, home.tmp), home) if problem] == []
    assert [segment["frames"] for segment in base["segments"]] == [9, 4, 4]
    assert [segment["parent"] for segment in base["segments"][1:]] == [one["id"] for one in base["segments"][:2]]
    assert [artifact["frames"] for artifact in base["artifacts"]] == [9, 13, 17]
    # In the order in which they were accepted.
    prompts = "SELECT json_extract(ask, '$.prompt') FROM segment WHERE id = ?"
    order = [file for _, file, *_ in jobs if file.startswith("extend")]
    said = [value(home, prompts, segment["id"]) for segment in base["segments"][1:]]
    assert said == [f"on {file[7]}" for file in order]
    assert len(frames_of(base["artifacts"][-1]["path"])) == 17

    tips = [tip for (tip,) in rows(home, "SELECT tip_id FROM video WHERE name = 'twin'")]
    assert len(tips) == 2
    assert tips[0] == tips[1], "the same ask gives the same segment"


def _try(home: Home, sql: str) -> int:
    try:
        return int(value(home, sql))
    except sqlite3.OperationalError:
        return 0  # the tables are being made
