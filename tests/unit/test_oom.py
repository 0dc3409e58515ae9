"""The kernel's out-of-memory killer, told from anybody else's kill by what the kernel counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon import child as child_module
from svid.daemon.child import Child
from svid.daemon.lock import DaemonLock
from svid.daemon.loop import Daemon
from svid.daemon.oom import oom_kills
from svid.home import Home
from svid.store import queue
from svid.workbench import Workbench
from tests.e2e.tools import new, rows

COUNTS = "low 0\nhigh 3\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n"


def tree(root: Path, group: str, counts: str | None, below: str = "user.slice/svid.service") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    folder = root / "sys/fs/cgroup" / below
    folder.mkdir(parents=True)
    if counts is not None:
        (folder / "memory.events").write_text(counts)
    return root


@pytest.mark.parametrize(
    ("group", "counts", "below", "found"),
    [
        ("0::/user.slice/svid.service\n", COUNTS, "user.slice/svid.service", 2),
        ("0::/\n", COUNTS, "", 2),
        ("12:memory:/old\n1:name=systemd:/old\n0::/user.slice/svid.service\n", COUNTS, "user.slice/svid.service", 2),
        ("12:memory:/old\n", COUNTS, "old", None),
        ("0::/user.slice/svid.service\n", None, "user.slice/svid.service", None),
        ("0::/elsewhere\n", COUNTS, "user.slice/svid.service", None),
        ("0::/user.slice/svid.service\n", "low 0\nhigh 0\n", "user.slice/svid.service", None),
        ("0::/user.slice/svid.service\n", "oom_kill many\n", "user.slice/svid.service", None),
        ("0::/user.slice/svid.service\n", "nothing of the kind at all\n", "user.slice/svid.service", None),
        ("", COUNTS, "", None),
    ],
)
def test_kills_are_counted_where_the_kernel_says_so(
    tmp_path: Path, group: str, counts: str | None, below: str, found: int | None
) -> None:
    assert oom_kills(tree(tmp_path, group, counts, below)) == found


def test_where_there_is_no_proc_there_is_no_count(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) is None


@pytest.mark.parametrize(
    ("before", "after", "starved", "words"),
    [
        (4, 5, True, "it was ended by signal 9 (SIGKILL, by the kernel because memory ran out)"),
        (4, 4, False, "it was ended by signal 9 (SIGKILL)"),
        (None, None, False, "it was ended by signal 9 (SIGKILL, which the kernel sends when memory runs out)"),
        (None, 5, False, "it was ended by signal 9 (SIGKILL, which the kernel sends when memory runs out)"),
        (4, None, False, "it was ended by signal 9 (SIGKILL, which the kernel sends when memory runs out)"),
    ],
)
def test_a_render_process_that_was_killed_says_by_whom(
    home: Home, monkeypatch: pytest.MonkeyPatch, before: int | None, after: int | None, starved: bool, words: str
) -> None:
    counted = before
    monkeypatch.setattr(child_module, "oom_kills", lambda: counted)
    lock = DaemonLock(home.prepare().daemons, home.id)
    child = Child(home, lock.handle)
    child.render("j1", 1, {})
    child.process.kill()
    counted = after
    assert child.bury() == words
    assert child.starved == starved
    lock.release()


def test_one_that_ends_by_another_signal_did_not_starve(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter(range(9))
    monkeypatch.setattr(child_module, "oom_kills", lambda: next(kills))
    lock = DaemonLock(home.prepare().daemons, home.id)
    child = Child(home, lock.handle)
    child.render("j1", 1, {})
    child._send({"do": "quit"})
    child.process.wait()
    assert child.bury() == "it exited with status 0"
    assert not child.starved
    lock.release()


class Quiet:
    """A screen that remembers the kinds of events."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def show(self, event: dict[str, Any]) -> None:
        self.kinds.append(event["event"])


class Killed:
    """A render process that was killed."""

    def __init__(self, job: str, attempt: int, *, starved: bool, doing: dict[str, Any]) -> None:
        self.job, self.attempt, self.starved, self.doing = job, attempt, starved, doing

    def bury(self) -> str:
        return "killed"


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    bench = Workbench(home, desk_of(home))
    bench.accept(new("a", "one"))
    made = Daemon(home, bench.store, bench.desk, Quiet())
    yield made
    made.lock.release()


@pytest.mark.parametrize(
    ("doing", "plan"), [({}, "resident"), ({"model": "wan22-mini", "memory": "one-expert"}, "one-expert")]
)
def test_an_attempt_that_starved_is_recorded_so_and_the_next_takes_less(
    daemon: Daemon, doing: dict[str, Any], plan: str
) -> None:
    job = queue.claim(daemon.store, daemon.lock.id, daemon.home.id)
    assert job is not None
    daemon._bury(Killed(job.id, job.attempt, starved=True, doing=doing))  # type: ignore[arg-type]
    assert rows(daemon.home, "SELECT outcome, memory, detail FROM attempt") == [("out of memory", plan, "killed")]
    assert rows(daemon.home, "SELECT state FROM job") == [("queued",)]
    assert list(daemon.ladder.plans.values()) != [plan]
    assert daemon.ladder.plans


def test_an_attempt_that_was_killed_otherwise_is_a_death(daemon: Daemon) -> None:
    job = queue.claim(daemon.store, daemon.lock.id, daemon.home.id)
    assert job is not None
    daemon._bury(Killed(job.id, job.attempt, starved=False, doing={}))  # type: ignore[arg-type]
    assert rows(daemon.home, "SELECT outcome, memory FROM attempt") == [("crashed", None)]
    assert daemon.ladder.plans == {}
