"""What the daemon takes in and what it answers, where one file can't be read or written any more."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import svid.inbox.accept as accept_module
import svid.inbox.answer as answer_module
from svid.cli.open import desk_of
from svid.daemon.lock import notes
from svid.daemon.loop import Daemon
from svid.errors import MediaError, Problem, StorageError
from svid.home import Home
from svid.inbox import pictures
from svid.inbox.arrivals import Arrivals
from svid.store import disk, queue
from svid.workbench import Workbench
from tests.e2e.tools import data, new, run
from tests.unit import badfiles
from tests.unit.badfiles import Disk, gone

broken = badfiles.broken


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    bench = Workbench(home, desk_of(home))
    made = Daemon(home, bench.store, bench.desk, Told(), once=True)
    made.intake.arrivals = Arrivals(settle=0.0)  # one look is enough
    yield made
    made.lock.release()


class Told:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def show(self, event: dict[str, Any]) -> None:
        self.events.append(event)


def told(daemon: Daemon, *kinds: str) -> list[dict[str, Any]]:
    assert isinstance(daemon.screen, Told)
    return [event for event in daemon.screen.events if event["event"] in kinds]


def drop_whole(home: Home, name: str, manifest: dict[str, Any]) -> None:
    (home.inbox / name).write_text(json.dumps(manifest))


def reads_badly(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Let copying the pictures of these names fail while their bytes are read."""
    whole = pictures._read

    def read(source: Any, written: str) -> bytes:
        if written not in names:
            return whole(source, written)
        try:
            raise gone(errno.EIO)
        except OSError as error:
            raise MediaError(Problem(written, "", f"can't be read: {error.strerror}")) from error

    monkeypatch.setattr(pictures, "_read", read)


def test_a_picture_that_can_not_be_read_costs_its_manifest(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bad:
        def read(self, size: int) -> bytes:
            raise gone(errno.EIO)

    with pytest.raises(MediaError, match="can't be read: Input/output error"):
        pictures._read(Bad(), "a.png")  # type: ignore[arg-type]
    shutil.copyfile(daemon.home.inbox / "harbour.png", daemon.home.inbox / "bad.png")
    drop_whole(daemon.home, "a.json", new("a", "one", image="bad.png"))
    drop_whole(daemon.home, "b.json", new("b", "one"))
    reads_badly(monkeypatch, ["bad.png"])
    daemon.intake.take()
    assert [event["file"] for event in told(daemon, "accepted")] == ["b.json"]
    (refused,) = told(daemon, "refused")
    assert refused["file"] == "a.json"
    assert refused["errors"][0]["message"] == "bad.png: can't be read: Input/output error"


def test_a_manifest_that_can_not_be_read_costs_itself(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = accept_module.read_quiet

    def read(file: Path) -> bytes | None:
        if file.name.endswith("a.json"):
            raise gone(errno.EIO)
        return whole(file)

    monkeypatch.setattr(accept_module, "read_quiet", read)
    for name in ("a", "b"):
        drop_whole(daemon.home, f"{name}.json", new(name, "one"))
    daemon.intake.take()
    assert [event["file"] for event in told(daemon, "accepted")] == ["b.json"]
    assert told(daemon, "refused")[0]["errors"][0]["message"] == "can't be read: Input/output error"


def test_on_a_broken_storage_no_manifest_is_refused(
    daemon: Daemon, broken: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_whole(daemon.home, "a.json", new("a", "one"))
    reads_badly(monkeypatch, ["harbour.png"])
    broken.bad.add("-probe.part")
    with daemon.halt.guard():
        daemon.intake.take()
    assert daemon.halt.broken
    assert "Input/output error" in notes(daemon.home.daemons, daemon.home.id)[0]
    assert list(daemon.home.failed.iterdir()) == []
    broken.bad.clear()
    monkeypatch.undo()
    daemon.halt._until = 0.0
    daemon.halt.look()
    assert daemon.halt.reason is None
    daemon.intake.take()
    assert [event["file"] for event in told(daemon, "accepted")] == ["a.json"]


def answers_badly(monkeypatch: pytest.MonkeyPatch, bad: set[str], number: int = errno.EIO) -> None:
    """Let the folders of the answers to `bad` be ones that nothing can be put into."""
    whole = answer_module.make_folder

    def made(folder: Path) -> None:
        if folder.name in bad:
            raise gone(number, str(folder))
        whole(folder)

    monkeypatch.setattr(answer_module, "make_folder", made)


def failed_jobs(daemon: Daemon, *names: str) -> list[str]:
    """Jobs that have ended and have no answer."""
    for name in names:
        drop_whole(daemon.home, f"{name}.json", new(name, "one"))
    daemon.intake.take()
    jobs = [event["job"] for event in told(daemon, "accepted")]
    for job in jobs:
        assert queue.cancel(daemon.store, job)
    return jobs


def test_an_answer_that_can_not_be_written_is_put_off_and_others_are(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = failed_jobs(daemon, "a", "b")
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    bad = {first}
    answers_badly(monkeypatch, bad)
    daemon._answer()
    assert [event["job"] for event in told(daemon, "failed")] == [second]
    (event,) = told(daemon, "put-off")
    assert (event["what"], "Input/output error" in event["reason"]) == (first, True)
    assert daemon.halt.reason is None
    assert daemon._finished()
    assert daemon._exit_code() == 75
    assert {job["id"]: job["answered"] for job in data(daemon.home, "status")["jobs"]} == {first: False, second: True}
    assert run(daemon.home, "status").stdout.count("its answer is not written yet") == 1
    bad.clear()
    daemon._answer()
    assert len(told(daemon, "failed")) == 1, "its pause is not over"
    clock[0] += 1.0
    daemon._answer()
    assert [event["job"] for event in told(daemon, "failed")] == [second, first]
    assert not daemon.later


def test_answers_wait_for_a_disk_that_is_full_or_broken(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = failed_jobs(daemon, "a")
    answers_badly(monkeypatch, {job}, errno.ENOSPC)
    with pytest.raises(StorageError, match="No space left"):
        daemon._answer()
    monkeypatch.undo()
    answers_badly(monkeypatch, {job})
    monkeypatch.setattr(disk, "probe", lambda folder: Problem(str(folder), "", "fails as well"))
    with pytest.raises(StorageError, match="fails as well"):
        daemon._answer()
    assert not daemon.later
    monkeypatch.undo()
    daemon._answer()
    assert [event["job"] for event in told(daemon, "failed")] == [job]
