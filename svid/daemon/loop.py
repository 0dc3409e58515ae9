"""The daemon's loop: look at the inbox, answer what has ended, keep the render process busy, wait to be woken."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from svid.crash import crashpoint
from svid.daemon.child import Child
from svid.daemon.halt import Halt
from svid.daemon.intake import Intake
from svid.daemon.ladder import Ladder
from svid.daemon.later import Later
from svid.daemon.lock import DaemonLock, running
from svid.daemon.orders import Orders
from svid.daemon.places import check_places
from svid.daemon.renewal import Renewal
from svid.daemon.report import Reporter
from svid.errors import Paused, Problem, StorageError
from svid.home import Home
from svid.inbox.accept import Desk
from svid.inbox.answer import answer, unanswered
from svid.inbox.claim import claimed_names
from svid.inbox.doorbell import Doorbell
from svid.store import queue
from svid.store.engine import Store
from svid.store.homes import roots
from svid.store.models import LIVE, Job
from svid.store.scratch import sweep_dead
from svid.store.snapshots import Snapshots, sweep

log = logging.getLogger("svid.daemon")

STOPPING = ("segment", "step", "now")
"""When the job in hand ends after one, two and three signals."""
GRACE = 5
"""Seconds after a third signal in which this process ends as it should; then it is ended."""
PROGRESS_EVERY = 1.0
"""Seconds between two notes of a job's progress in the database."""


class Screen(Protocol):
    """What shows people what happens."""

    def show(self, event: dict[str, Any]) -> None:
        """Show one event."""


class Daemon:
    """One daemon of a home. Several may run on one home; each file and each job is taken by one of them."""

    def __init__(self, home: Home, store: Store, desk: Desk, screen: Screen, *, once: bool = False) -> None:
        self.home, self.store, self.screen, self.once = home, store, screen, once
        self.settings = home.config.daemon
        self.lock = DaemonLock(home.daemons, home.id)
        self.halt = Halt(home, store, self.lock, screen.show)
        self.later = Later(self.halt, self.settings.poll, screen.show)
        self._owed: list[tuple[str, int, dict[str, Any]]] = []
        self.intake = Intake(home, desk, self.lock, self.halt, self.later, screen.show)
        self.renewal = Renewal(home, store, screen.show)
        self.child: Child | None = None
        self.ladder = Ladder(home.config.render.memory)
        self.snapshots = Snapshots(home.snapshots, home.tmp)
        self.failures = self.stopping = self._said_stopping = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._noted = 0.0
        self.orders = Orders(home.orders, home.id)
        self.reporter = Reporter(home, store)
        self.paused = self.draining = False

    def wake(self) -> None:
        """Make the loop look now. May be called from any thread and from signal handlers."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def run(self) -> int:
        """Work until told to stop, or with `once` until nothing is left; returns the exit code."""
        check_places(self.home)
        with self.halt.guard():
            sweep_dead(self.home.tmp)
            for name in sweep(self.snapshots, self.store, time.time()):
                log.info("swept the snapshot %s: nobody goes on with it", name)
        doorbell = Doorbell(self.home.inbox, self.wake)
        with self._signals():
            try:
                self.screen.show({"event": "up", "home": str(self.home.root), "once": self.once})
                self.reporter.ready()
                while True:
                    doorbell.check()
                    self.halt.look()
                    with self.halt.guard():
                        self._pass()
                        if self._finished():
                            return self._exit_code()
                    if self._gives_up():
                        return StorageError.exit_code if self.once else 0
                    job = self.child.job if self.child is not None else None
                    self.reporter.turn(job, paused=self.paused, stopped=self.halt.reason is not None)
                    self._wait()
            finally:
                self.reporter.stopping()
                self.orders.obeyed("drain", self.lock.id)
                doorbell.stop()
                if self.child is not None:
                    self.child.end()
                self.lock.release()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: Any) -> None:
            self.stopping += 1
            if self.stopping == 3:
                self._end_at_once()
            self.wake()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            if self.stopping > 2:
                signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_at_once(self) -> None:
        """The third signal: whatever a plugin does, this ends. It is no worse than a kill, which loses nothing."""
        if self.child is not None:
            self.child.kill()
        signal.alarm(GRACE)  # unless it is this process that a plugin holds, it has ended by then

    def _pass(self) -> None:
        """One look at everything. Each part is safe to repeat, so it does not matter where the last one was cut off."""
        if self.stopping and self.child is not None and self.child.job is not None:
            self._say_stopping(self.child, self.child.job)
            if self.stopping > 2:
                self.child.kill()
            self.child.stop(now=self.stopping > 1)
        if not self.halt.broken:
            self._pay()
            self._answer()
            self._obey()
        if self.lock.keep():
            log.warning("db/daemons/%s was removed and is there again; this daemon lives", self.lock.id)
        if self.child is not None and self.child.lost(self.settings.hang_seconds, self.settings.poll + 1):
            self._bury(self.child)
        if self.stopping or self.halt.reason is not None:
            return
        for job in queue.recover(self.store, self.home.id, self._works):
            self.screen.show({"event": "recovered", "job": job})
        self._renew()
        self.intake.take()
        if not self.paused and not self.draining:
            self._start_job()

    def _works(self, worker: str) -> bool:
        """Whether a job that a daemon has taken is in somebody's hands: of one's own, only the render process's and
        those whose end is still to be written down. An error of the disk may come between the claim and those."""
        if worker != self.lock.id:
            return self.lock.alive(worker)
        return bool(self._owed) or (self.child is not None and self.child.job is not None)

    def _obey(self) -> None:
        """Carry out what people have ordered."""
        for job in self.orders.cancelled():
            if self.child is not None and self.child.job == job:
                self.child.stop(now=True)
            elif queue.cancel(self.store, job) or self._is_over(job):
                self.orders.obeyed("cancel", job)
        if self.orders.paused != self.paused:
            self.paused = not self.paused
            self.screen.show({"event": "paused", "paused": self.paused})
        if not self.draining and self.orders.draining(self.lock.id):
            self.draining = True
            self.screen.show({"event": "draining"})

    def _is_over(self, job: str) -> bool:
        """Whether nobody will work on a job any more. One that the database lacks may come again: after the loss of the
        database a claimed manifest becomes the job that it was."""
        state = queue.state_of(self.store, job)
        return state not in LIVE and (state is not None or not self.intake.undecided)

    def _answer(self) -> None:
        for job in unanswered(self.home, self.store):
            if not self.later.due(job):
                continue
            with self.later.trying(job):
                if not answer(self.home, self.store, job):
                    continue
                with self.store.read() as session:
                    row = session.scalars(select(Job).where(Job.id == job)).one()
                self.failures += row.state == "failed"
                self.screen.show({"event": row.state, "job": job, "errors": row.errors, "file": row.file})

    def _renew(self) -> None:
        """Go by what svid.toml and the plugins say now. The job in hand ends as it began."""
        desk = self.renewal.look()
        if desk is not None:
            self.intake.desk = desk
            if self.child is not None:
                self.child.outdated = True

    def _start_job(self) -> None:
        if self.child is not None and self.child.job is not None:
            return
        if self.child is not None and self.child.outdated:
            self.child.end()
            self.child = None
        job = queue.claim(self.store, self.lock.id, self.home.id)
        if job is None:
            return
        crashpoint("job-taken")
        if self.child is None:
            self.child = Child(self.home, self.lock.handle)
        self.child.render(job.id, job.attempt, self.ladder.plans)
        self.screen.show({"event": "started", "job": job.id, "file": job.file, "attempt": job.attempt})

    def _say_stopping(self, child: Child, job: str) -> None:
        """Once per signal: when the render process ends, what is waited for, and what another signal would do."""
        if self.stopping > self._said_stopping:
            self._said_stopping = self.stopping
            when = STOPPING[min(self.stopping, len(STOPPING)) - 1]
            self.screen.show({"event": "stopping", "job": job, "when": when, "waits": child.at})

    def _finished(self) -> bool:
        busy = self.child is not None and self.child.job is not None
        if self.halt.broken or (self.once and self.halt.reason is not None and not self.stopping):
            return False
        if self.stopping or self.draining:
            return not busy
        if self.once and self.paused and not busy:
            raise Paused(Problem(str(self.home.root), "", "is paused", "svid resume"))
        if not self.once or busy or self.intake.waiting:
            return False
        with self.store.read() as session:
            live = queue.unanswered(session, self.home.id)
            if live:
                self._check_others(session)
            if self.later:  # answers that can't be written now are for a later run
                return not session.scalar(
                    select(func.count(Job.seq)).where(Job.home == self.home.id, Job.state.in_(LIVE))
                )
        return live == 0 and not claimed_names(self.home.claimed)

    def _check_others(self, session: Session) -> None:
        """For --once, with nothing to do: raises Paused where a job waits for one that nobody is there to do."""
        for job, earlier, home in queue.waits_for_others(session, self.home.id):
            if not running(self.home.daemons, home):
                root = roots(session, self.home).get(home, home)
                message = f"waits for {earlier} of the home {root}, where no daemon runs"
                raise Paused(Problem(job, "", message, f"svid --home {root} up"))

    def _exit_code(self) -> int:
        if not self.once:
            return 0
        if self.later or ((self.stopping or self.draining) and self._left()):
            return StorageError.exit_code
        return int(self.failures + self.intake.refused > 0)

    def _left(self) -> bool:
        """Whether there is work that a run which was told to end has not done."""
        with self.store.read() as session:
            return queue.unanswered(session, self.home.id) > 0 or bool(claimed_names(self.home.claimed))

    def _gives_up(self) -> bool:
        """With a disk that can't be used: not to wait for it, because someone wants the daemon to end."""
        busy = self.child is not None and self.child.job is not None
        return not busy and ((self.stopping > 0 and self.halt.broken) or (self.once and self.halt.gave_up()))

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
                    with self.halt.guard():
                        self._hear()

    def _patience(self) -> float:
        """Sooner where a file is settling, or where a dead daemon's render process may still be ending."""
        poll = min(self.settings.poll, self.reporter.every or self.settings.poll)
        if self.intake.waiting:
            return min(poll, max(self.settings.settle / 2, 0.05))
        return min(poll, 0.2) if self.once else poll

    def _hear(self) -> None:
        """Messages from the render process, or its death."""
        child = self.child
        if child is None:
            return
        messages = child.wire.receive()
        if messages is None:
            self._bury(child)
            return
        child.heard()
        for message in messages:
            if message["event"] == "outcome":
                self._settle(child, message)
            else:
                child.said(message)
                if message["event"] in ("committed", "reused"):
                    self.halt.committed()
                self.screen.show({"attempt": child.attempt, **message} if child.job else message)
                self._note(child, message)

    def _note(self, child: Child, message: dict[str, Any]) -> None:
        due = message["event"] in ("segment", "committed") or time.monotonic() - self._noted > PROGRESS_EVERY
        due = due and not self.halt.broken
        if child.job is not None and message["event"] in ("segment", "step", "committed", "joining") and due:
            self._noted = time.monotonic()
            try:
                with self.halt.guard():  # what comes after it in the same breath may be the outcome
                    queue.note_progress(self.store, child.job, child.attempt, message)
            except queue.Fenced:
                child.stop(now=True)

    def _settle(self, child: Child, message: dict[str, Any]) -> None:
        """A job has ended, one way or another."""
        job, child.job = child.job, None
        starved = message["outcome"] == "out of memory"
        if starved:
            message = self.ladder.met(child.doing, message)
        if job is not None:
            self._owed.append((job, child.attempt, message))
        if message["outcome"] == "storage":
            self.halt.met(Problem(**message["problem"]))
        if starved:
            if self.child is not None:
                child.end()  # a fresh process has all of its memory again
            self.child = None
        if not self.halt.broken:
            self._pay()

    def _pay(self) -> None:
        """Write down how jobs have ended. What can't be written now is owed, and written when the disk lets it."""
        while self._owed:
            job, attempt, message = self._owed[0]
            try:
                self._write_down(job, attempt, message)
            except queue.Fenced:
                self.screen.show({"event": "lost", "job": job, "attempt": attempt})
            del self._owed[0]

    def _write_down(self, job: str, attempt: int, message: dict[str, Any]) -> None:
        if message["outcome"] == "lost":
            self.screen.show({"event": "lost", "job": job, "attempt": attempt})
        elif message["outcome"] == "failed":
            queue.fail(self.store, job, attempt, message["errors"])
        elif message["outcome"] == "stopped" and job in self.orders.cancelled():
            queue.cancel(self.store, job, attempt=attempt)
            self.orders.obeyed("cancel", job)
        elif message["outcome"] == "stopped":
            queue.release(self.store, job, attempt, "stopped")
            self.screen.show({"event": "stopped", "job": job})
        elif message["outcome"] == "storage":
            queue.release(self.store, job, attempt, "storage", str(Problem(**message["problem"])))
        elif message["outcome"] == "out of memory":
            again = message["next"] is not None
            told = (message["memory"], message["detail"], message["size"])
            queue.out_of_memory(self.store, job, attempt, *told, again=again)
            self.screen.show({**message, "event": "out-of-memory", "job": job})
        elif message["outcome"] == "crashed":
            limit, reached = self.settings.max_attempts, message["reached"]
            again = queue.crashed(self.store, job, attempt, message["detail"], limit, reached)
            self.screen.show({"event": "crashed", "job": job, "detail": message["detail"], "again": again})

    def _bury(self, child: Child) -> None:
        how = child.bury()
        self.child = None
        if self.stopping > 2:
            self._settle(child, {"outcome": "stopped"})
            return
        trouble = self.halt.trouble() if child.job is not None else None
        if trouble is not None:  # a library that can't write may well abort
            self._settle(child, {"outcome": "storage", "problem": trouble.as_dict()})
        elif child.starved:
            self._settle(child, {"outcome": "out of memory", "detail": how})
        else:
            ask = child.doing.get("ask")
            reached = (ask, self.snapshots.step(ask)) if ask is not None else None
            self._settle(child, {"outcome": "crashed", "detail": how, "reached": reached})
