"""Kills without end: a daemon, its render process, or both, of one daemon or of two, at any instant, again and again.

    python -m tests.crash.chaos [--kills 500] [--seed 1]

Rounds of jobs (new, extend, branch; then redo, ripple, extend) go into a home whose daemons are killed with SIGKILL at
random instants and, in the first round, at every named crash point; after each kill they are started again. Most of a
kill's cost is two processes that import torch, so that most kills wait until what was just started has done something,
of any amount, counted in its events: they meet work, and not imports, and jobs end however slow the machine is. The
same rounds go into another home that nobody disturbs. At the end every job must have one outcome, and every file, id
and tip must be the same in both. The last line is one JSON object: kills, jobs, lost, twice, wrong_bytes, seconds.

What such a test can't show is a power failure: what a killed process has written is still in the kernel's memory and
reaches the disk, whether it was flushed or not. That every file is flushed before it gets its name, and its folder
before a row points at it, is held by tests/e2e/test_order.py; whether the disk then keeps its word, by nobody.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svid.crash import POINTS
from svid.home import Home
from svid.store.files import sha256_of
from tests.conftest import quick_home
from tests.crash.test_kill import children

SMALL: dict[str, Any] = {"frames": 9, "width": 32, "height": 32, "sample": {"steps": 3}}
PATIENCE = 300.0
EVENTS = 16
"""A kill waits for at most so many events: about two segments of a render process."""


@dataclass
class Chaos:
    """The home that is disturbed, and what has been done to it."""

    home: Home
    dice: random.Random
    kills: int = 0
    rounds: int = 0
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)


def asked(number: int) -> dict[str, dict[str, Any]]:
    """The manifests of a round by file name. Those of one round may be taken in any order; a redo means a video as
    other jobs have left it, so that it comes in the round after them."""
    name = f"batch {number // 2}"
    if number % 2:
        return {
            f"{number}-a.json": {"redo": name},
            f"{number}-b.json": {"redo": f"{name} too@1", "ripple": True, "prompts": ["seven"]},
            f"{number}-c.json": {"extend": f"{name} again", "prompts": ["eight"]},
        }
    new = {"image": "harbour.png", **SMALL}
    return {
        f"{number}-a.json": {"name": name, "prompts": ["one", "two"], "seed": number, **new},
        f"{number}-b.json": {"extend": name, "prompts": ["three"]},
        f"{number}-c.json": {"branch": f"{name}@1", "name": f"{name} again", "prompts": ["four"]},
        f"{number}-d.json": {"name": f"{name} too", "prompts": ["five", "six"], "seed": 7, **new},
    }


def run(folder: Path, kills: int, seed: int, *, points: bool = True) -> dict[str, float]:
    """Kill so often, and count what is wrong in the end."""
    began = time.monotonic()
    chaos = Chaos(_home(folder / "killed"), random.Random(seed))
    if points:
        _at_every_point(chaos)
    while chaos.kills < kills:
        if not _waiting(chaos.home):
            _drop_next(chaos)
        _kill_once(chaos)
    _until_done(chaos.home)
    if chaos.rounds % 2:
        _drop_next(chaos)
        _until_done(chaos.home)
    calm = _home(folder / "calm")
    for number in range(chaos.rounds):
        _drop(calm, number)
        _until_done(calm)
    return {
        "kills": chaos.kills,
        "jobs": sum(len(asked(number)) for number in range(chaos.rounds)),
        **_compare(chaos.home, calm, chaos.rounds),
        "seconds": round(time.monotonic() - began, 1),
    }


def _home(root: Path) -> Home:
    """A home in which no number of deaths makes a job fail."""
    quick_home(root)
    config = root / "svid.toml"
    config.write_text(config.read_text().replace("settle = 0.2", "settle = 0.2\nmax_attempts = 100000"))
    (root / "plugins/pulse.py").write_text(PULSE)
    return Home(root)


def _drop_next(chaos: Chaos) -> None:
    _drop(chaos.home, chaos.rounds)
    chaos.rounds += 1


def _drop(home: Home, number: int) -> None:
    for name, manifest in asked(number).items():
        part = home.inbox / f".{name}"
        part.write_text(json.dumps(manifest))
        part.rename(home.inbox / name)


def _start(home: Home, **env: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "svid", "--home", str(home.root), "up", "--once"]
    with _log(home).open("ab") as log:
        return subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONFAULTHANDLER": "1", **env})


def _log(home: Home) -> Path:
    """What its daemons and their render processes say."""
    return home.root / "daemons.log"


def _ended(home: Home, daemon: subprocess.Popen[bytes]) -> int:
    """The exit status of a daemon. Raises TimeoutError with what each of its threads is at where it doesn't end."""
    try:
        return daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        for process in (*children(daemon.pid), daemon.pid):
            os.kill(process, signal.SIGABRT)  # on which Python says where every thread is
            time.sleep(2)
        daemon.kill()
        daemon.wait()
    jobs = _rows(home, "SELECT file, state, worker, attempt, progress, claimed FROM job")
    files = [file.name for folder in (home.inbox, home.claimed, home.daemons) for file in folder.iterdir()]
    said = _log(home).read_text(errors="replace")[-20_000:]
    raise TimeoutError("\n".join([f"{home.root} gets nowhere", *map(str, jobs), *files, said]))


def _at_every_point(chaos: Chaos) -> None:
    """One kill at every point that has a name."""
    markers = chaos.home.root / "fired"
    markers.mkdir()
    _drop_next(chaos)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if _ended(chaos.home, _start(chaos.home, SVID_CRASH=",".join(POINTS), SVID_CRASH_ONCE=str(markers))) == 0:
            break
    chaos.kills += len(list(markers.iterdir()))
    shutil.rmtree(markers)


def _kill_once(chaos: Chaos) -> None:
    """Start one daemon or two, let a render process get somewhere, and a moment of any length later kill some of what
    runs; then all, so that the next time begins with what is on the disk."""
    dice, before = chaos.dice, _pulse(chaos.home)
    daemons = [_start(chaos.home) for _ in range(dice.choice((1, 2)))]
    if dice.random() < 0.2:
        time.sleep(dice.uniform(0.0, 3.0))  # whatever they do first
    else:
        end, enough = time.monotonic() + PATIENCE, before + dice.randint(1, EVENTS)
        while _pulse(chaos.home) < enough and any(one.poll() is None for one in daemons):
            if time.monotonic() > end:
                raise TimeoutError(f"{chaos.home.root} gets nowhere")
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 0.5))
    for daemon in daemons:
        victims = dice.choice(("daemon", "child", "both", "both"))
        for victim in children(daemon.pid) if victims != "daemon" else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                chaos.kills += 1
        if victims == "child":
            time.sleep(dice.uniform(0, 0.5))
        if daemon.poll() is None:
            daemon.kill()
            chaos.kills += 1
        daemon.wait()


PULSE = """
from pathlib import Path
from svid import hookimpl

@hookimpl
def svid_event(event):
    with (Path(__file__).parents[1] / "pulse").open("a") as pulse:
        pulse.write(".")
"""
"""A plugin that shows outside that a render process does something."""


def _pulse(home: Home) -> int:
    """Events of render processes so far."""
    file = home.root / "pulse"
    return file.stat().st_size if file.exists() else 0


def _waiting(home: Home) -> bool:
    """Whether anything is still to be done."""
    files = [*home.inbox.glob("*.json"), *home.claimed.glob("*.json")]
    with contextlib.closing(sqlite3.connect(home.database, timeout=30)) as connection:
        try:
            return bool(files) or bool(connection.execute("SELECT count(*) FROM job WHERE NOT answered").fetchone()[0])
        except sqlite3.OperationalError:
            return bool(files)  # killed before there were tables


def _until_done(home: Home) -> None:
    end = time.monotonic() + PATIENCE
    while _ended(home, _start(home)) != 0 or _waiting(home):
        if time.monotonic() > end:
            raise TimeoutError(f"{home.root} does not come to an end")


def _compare(killed: Home, calm: Home, rounds: int) -> dict[str, int]:
    """What is lost, done twice, or has other bytes than in the home that nobody disturbed."""
    wanted = {name for number in range(rounds) for name in asked(number)}
    answers = _rows(killed, "SELECT file, state, id FROM job")
    done = [name for name, state, id_ in answers if state == "done" and (killed.done / id_ / "result.json").is_file()]
    committed, placed = (_rows(killed, sql)[0][0] for sql in (COMMITTED, "SELECT count(*) FROM job_segment"))
    one, other = _bytes(killed), _bytes(calm)
    return {
        "lost": len(wanted - set(done)),
        "twice": len(done) - len(set(done)) + (committed - placed),
        "wrong_bytes": len({*one.items()} ^ {*other.items()}),
    }


COMMITTED = "SELECT coalesce(sum(committed), 0) FROM attempt"


def _rows(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(home.database, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def _bytes(home: Home) -> dict[str, str]:
    """Every video with its tip, every file, and every segment's latents, tail and place, by name."""
    found = {path.relative_to(home.done).as_posix(): sha256_of(path) for path in home.done.rglob("*.mp4")}
    found |= {id_: f"{name} {tip}" for id_, name, tip in _rows(home, "SELECT id, name, tip_id FROM video")}
    for id_, latents, tail, parent in _rows(home, "SELECT id, latents, tail, parent_id FROM segment"):
        found[id_] = f"{latents} {tail} {parent}"
        for blob in (latents, tail):
            found[blob] = sha256_of(next(home.blobs.rglob(f"{blob}*")))
    return found


def main() -> int:
    """The long form, for people; exits with 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svid-chaos-") as folder:
        found = run(Path(folder), given.kills, given.seed)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["lost"] == found["twice"] == found["wrong_bytes"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
