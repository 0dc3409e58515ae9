"""The daemon's loop: look at the inbox, answer what has ended, keep the render process busy, wait to be woken."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from sqlalchemy import func, select

from svid.crash import crashpoint
from svid.daemon.child import Child
from svid.daemon.lock import DaemonLock
from svid.errors import HomeError, Problem, SvidError, UnknownVideo
from svid.home import Home
from svid.inbox.accept import Desk, accept
from svid.inbox.answer import answer_finished, refuse
from svid.inbox.claim import Claimed, adopt, claim
from svid.inbox.doorbell import Doorbell
from svid.inbox.scan import Scanner
from svid.store import queue
from svid.store.engine import Store
from svid.store.models import Job

log = logging.getLogger("svid.daemon")

PROGRESS_EVERY = 1.0
"""Seconds between two notes of a job's progress in the database."""


STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of the disk, not of the file that met them."""


PATIENCE = 30.0
"""Seconds that an extension waits for the manifest of its video, where others are on their way."""


class Screen(Protocol):
    """What shows people what happens."""

    def show(self, event: dict[str, Any]) -> None:
        """Show one event."""


class Daemon:
    """One daemon of a home. Several may run on one home; each file and each job is taken by one of them."""

    def __init__(self, home: Home, store: Store, desk: Desk, screen: Screen, *, once: bool = False) -> None:
        self.home, self.store, self.desk, self.screen, self.once = home, store, desk, screen, once
        self.settings = home.config.daemon
        self.lock = DaemonLock(home.daemons)
        self.scanner = Scanner(home.inbox, self.settings.settle)
        self.child: Child | None = None
        self.failures = 0
        self.stopping = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._noted = 0.0
        self._unknown: dict[str, float] = {}

    def wake(self) -> None:
        """Make the loop look now. May be called from any thread and from signal handlers."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def run(self) -> int:
        """Work until told to stop, or with `once` until nothing is left; returns the exit code."""
        _check_disk(self.home)
        _sweep(self.home)
        doorbell = Doorbell(self.home.inbox, self.wake)
        with self._signals():
            try:
                self.screen.show({"event": "up", "home": str(self.home.root), "once": self.once})
                while True:
                    doorbell.check()
                    self._pass()
                    if self._finished():
                        return 1 if self.failures and self.once else 0
                    self._wait()
            finally:
                doorbell.stop()
                if self.child is not None:
                    self.child.end()
                self.lock.release()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: Any) -> None:
            self.stopping += 1
            self.wake()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass(self) -> None:
        """One look at everything. Each part is safe to repeat, so it does not matter where the last one was cut off."""
        self._answer()
        if self.stopping:
            if self.child is not None and self.child.job is not None:
                self.child.stop(now=self.stopping > 1)
            return
        for job in queue.recover(self.store, self.lock.alive):
            self.screen.show({"event": "recovered", "job": job})
        self._take_files()
        self._start_job()

    def _answer(self) -> None:
        for job in answer_finished(self.home, self.store):
            with self.store.read() as session:
                row = session.scalars(select(Job).where(Job.id == job)).one()
            self.failures += row.state == "failed"
            self.screen.show({"event": row.state, "job": job, "errors": row.errors, "file": row.file})

    def _take_files(self) -> None:
        for file in self.scanner.look():
            claim(file, self.home.claimed, self.lock.id)
        for claimed in adopt(self.home.claimed, self.lock.id, self.lock.alive, self._has_job):
            try:
                job = accept(self.desk, claimed)
            except SvidError as error:
                if not (isinstance(error, UnknownVideo) and self._more_to_come(claimed)):
                    self._refuse(claimed, error.problems)
                continue
            except OSError as error:
                if error.errno in STORAGE:  # not the file's fault; it stays where it is and is looked at again
                    log.error("%s: %s; trying again", claimed.name, error)
                else:
                    self._refuse(claimed, [Problem(claimed.name, "", f"can't be read: {error.strerror}")])
                continue
            except Exception as error:  # whatever a file makes svid do, it is not to end the daemon
                log.exception("%s could not be understood", claimed.name)
                message = f"svid failed on it: {type(error).__name__}: {error}"
                self._refuse(claimed, [Problem(claimed.name, "", message, "please report this")])
                continue
            if job is not None:
                self.screen.show({"event": "accepted", "file": claimed.name, "job": job.id, "video": job.video_id})

    def _more_to_come(self, claimed: Claimed) -> bool:
        """Whether the video that a manifest goes on from may be asked for by one that was dropped with it: one that is
        still settling, or one that another daemon has taken and not accepted yet. Not for ever: that one may wait
        for ours."""
        since = self._unknown.setdefault(claimed.path.name, time.monotonic())
        if time.monotonic() - since > PATIENCE:
            return False
        others = (file.name for file in self.home.claimed.iterdir() if not file.name.startswith(f"{self.lock.id}."))
        return bool(self.scanner.waiting) or not all(self._has_job(name) for name in others if name != ".gitkeep")

    def _refuse(self, claimed: Claimed, problems: Sequence[Problem]) -> None:
        self.failures += 1
        folder = refuse(self.home, claimed, problems)
        errors = [problem.as_dict() for problem in problems]
        self.screen.show({"event": "refused", "file": claimed.name, "errors": errors, "folder": folder.name})

    def _has_job(self, name: str) -> bool:
        with self.store.read() as session:
            return bool(session.scalar(select(func.count(Job.seq)).where(Job.claimed == name)))

    def _start_job(self) -> None:
        if self.child is not None and self.child.job is not None:
            return
        job = queue.claim(self.store, self.lock.id)
        if job is None:
            return
        crashpoint("job-taken")
        if self.child is None:
            self.child = Child(self.home, self.lock.handle)
        self.child.render(job.id, job.attempt)
        self.screen.show({"event": "started", "job": job.id, "file": job.file, "attempt": job.attempt})

    def _finished(self) -> bool:
        busy = self.child is not None and self.child.job is not None
        if self.stopping:
            return not busy
        if not self.once or busy or self.scanner.waiting:
            return False
        with self.store.read() as session:
            live = _unanswered(session)
        return live == 0 and not any(self.home.claimed.glob("*.[0-9]*.*"))

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            if self.child is not None:
                selector.register(self.child.wire, selectors.EVENT_READ)
            for key, _ in selector.select(self._patience()):
                if key.fileobj == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        while os.read(self._wake_read, 4096):
                            pass
                else:
                    self._hear()

    def _patience(self) -> float:
        """Sooner where a file is settling, or where a dead daemon's render process may still be ending."""
        if self.scanner.waiting:
            return min(self.settings.poll, max(self.settings.settle / 2, 0.05))
        return min(self.settings.poll, 0.2) if self.once else self.settings.poll

    def _hear(self) -> None:
        """Messages from the render process, or its death."""
        child = self.child
        if child is None:
            return
        messages = child.wire.receive()
        if messages is None:
            self._bury(child)
            return
        for message in messages:
            if message["event"] == "outcome":
                self._settle(child, message)
            else:
                self.screen.show(message)
                self._note(child, message)

    def _note(self, child: Child, message: dict[str, Any]) -> None:
        due = message["event"] in ("segment", "committed") or time.monotonic() - self._noted > PROGRESS_EVERY
        if child.job is not None and message["event"] in ("segment", "step", "committed", "joining") and due:
            self._noted = time.monotonic()
            with contextlib.suppress(queue.Fenced):
                queue.note_progress(self.store, child.job, child.attempt, message)

    def _settle(self, child: Child, message: dict[str, Any]) -> None:
        """A job has ended, one way or another."""
        job, attempt, child.job = message["job"], message["attempt"], None
        with contextlib.suppress(queue.Fenced):
            if message["outcome"] == "failed":
                queue.fail(self.store, job, attempt, message["errors"])
            elif message["outcome"] == "stopped":
                queue.release(self.store, job, attempt, "stopped")
                self.screen.show({"event": "stopped", "job": job})
            elif message["outcome"] == "out of memory":
                self._crashed(job, attempt, "out of memory", message["detail"])

    def _bury(self, child: Child) -> None:
        how = child.bury()
        self.child = None
        if child.job is not None:
            with contextlib.suppress(queue.Fenced):
                self._crashed(child.job, child.attempt, "crashed", how)

    def _crashed(self, job: str, attempt: int, outcome: str, detail: str) -> None:
        again = queue.crashed(self.store, job, attempt, outcome, detail, self.settings.max_attempts)
        self.screen.show({"event": "crashed", "job": job, "detail": detail, "again": again})


def _unanswered(session: Any) -> int:
    """Jobs that have not ended, or have no answer yet."""
    return session.scalar(select(func.count(Job.seq)).where(~Job.answered)) or 0


def _check_disk(home: Home) -> None:
    """Files move between these folders by rename, which is a mutex and all or nothing on one file system only."""
    for one, other in (
        (home.inbox, home.claimed),
        (home.claimed, home.done),
        (home.claimed, home.failed),
        (home.tmp, home.blobs),
        (home.tmp, home.done),
    ):
        if one.stat().st_dev != other.stat().st_dev:
            raise HomeError(Problem(str(one), "", f"is on another file system than {other}", "put both on one"))


def _sweep(home: Home) -> None:
    """Remove the scratch files of processes that are gone."""
    for file in home.tmp.iterdir():
        owner = file.name.partition("-")[0]
        if owner.isdigit() and not _process_alive(int(owner)):
            file.unlink(missing_ok=True)


def _process_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
