"""When a daemon takes no work, and when it goes on: no space, a read-only folder, a database that can't be used."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy import text

from svid.daemon.lock import DaemonLock, notes
from svid.errors import Problem, StorageError, SvidError
from svid.home import Home
from svid.store import disk
from svid.store.engine import Store
from svid.store.homes import GONE

log = logging.getLogger("svid.daemon")

LONGEST = 600.0
"""Seconds between two tries, once they have grown."""

ROOM = 4 * disk.MIB
"""Bytes of new free space that are reason enough to try at once."""

ONCE = 5
"""Tries after which `svid up --once` gives up."""


class Halt:
    """Whether work may begin. Errors of the disk stop the daemon; it looks again after a pause that doubles each time,
    and at once where space was freed. A segment that gets committed ends the doubling."""

    def __init__(self, home: Home, store: Store, lock: DaemonLock, show: Callable[[dict[str, Any]], None]) -> None:
        self.home, self.store, self.lock, self.show = home, store, lock, show
        self.reason: Problem | None = None
        self.broken = False
        """Writing failed, so not even answers are written; else only the reserve is used up."""
        self.tries = 0
        self._until = 0.0
        self._free = 0
        self._file = self._identity()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """What the disk does wrong in here stops the daemon from taking work, instead of ending it."""
        try:
            yield
        except Exception as error:
            problem = disk.storage_problem(error)
            if problem is None:
                raise
            log.debug("stopped", exc_info=error)
            self.met(problem)

    def met(self, problem: Problem) -> None:
        """Take no more work because of `problem`; the pause is doubled."""
        pause = min(self.home.config.daemon.poll * 2 ** min(self.tries, 20), LONGEST)
        self.tries += 1
        self._until = time.monotonic() + pause
        with contextlib.suppress(OSError):
            self._free = disk.free_bytes(self.home.db)
        self.store.close()
        self._stop(problem, broken=True, pause=pause)

    def committed(self) -> None:
        """Something was written, so what comes next is new trouble."""
        self.tries = 0

    def look(self) -> None:
        """Whether work may begin. Costs microseconds, but for a probe when a pause is over."""
        self._follow_file()
        if not self.broken:
            seen = _at_a_glance(self.home, self.home.config.daemon.disk_reserve)
            if seen is not None and seen != self.reason:
                self._stop(seen, broken=False)
            elif seen is None and self.reason is not None:
                self._go_on()
            return
        with contextlib.suppress(OSError):
            if time.monotonic() < self._until and disk.free_bytes(self.home.db) < self._free + ROOM:
                return
        found = self.trouble()
        if found is not None:
            self.met(found)
        else:
            self._go_on()

    def trouble(self) -> Problem | None:
        """What is wrong now, the reserve being used up included."""
        return trouble(self.home, self.store, self.home.config.daemon.disk_reserve)

    def check(self) -> None:
        """Raise StorageError where the storage can't be used, whatever the reserve."""
        found = trouble(self.home, self.store)
        if found is not None:
            raise StorageError(found)

    def gave_up(self) -> bool:
        """For --once: whether it is time to end and leave the rest to a later run."""
        return self.reason is not None and (not self.broken or self.tries >= ONCE)

    def _identity(self) -> tuple[int, int] | None:
        try:
            info = os.stat(self.home.database)  # noqa: PTH116 - twice a pass, and without a Path
        except OSError:
            return None
        return info.st_dev, info.st_ino

    def _follow_file(self) -> None:
        """Another file in the database's place is opened, instead of the old one being written on for ever."""
        found = self._identity()
        if found is not None and found != self._file:
            self._file = found
            self.store.close()

    def _stop(self, problem: Problem, *, broken: bool, pause: float = 0.0) -> None:
        told = self.reason is not None and self.reason.message == problem.message
        self.reason, self.broken = problem, broken
        self.lock.note(str(problem))
        if not told:
            log.warning("taking no work: %s", problem)
            self.show({"event": "halted", "reason": str(problem), "pause": pause})

    def _go_on(self) -> None:
        self.reason, self.broken = None, False
        self.lock.note("")
        log.warning("taking work again")
        self.show({"event": "recovered-disk"})


Made = TypeVar("Made")


def trouble(home: Home, store: Store, reserve: int = 0) -> Problem | None:
    """What is wrong with the storage of a home, found out by writing into every folder and by locking the database.
    `reserve` is in MiB."""
    glance = _at_a_glance(home, reserve)
    if glance is not None:
        return glance
    for folder in (home.tmp, home.blobs, home.inbox, home.claimed, home.done, home.failed):
        found = disk.probe(folder)
        if found is not None:
            return found
    store.close()  # connections that saw an error may go on seeing it
    try:
        with store.write() as session:
            session.execute(text("SELECT count(*) FROM alembic_version"))
    except SvidError as error:
        return error.problems[0]
    except Exception as error:  # whatever a damaged database makes SQLite or SQLAlchemy say
        return disk.storage_problem(error) or Problem("db/svid.db", "", f"{type(error).__name__}: {error}")
    return None


def _at_a_glance(home: Home, reserve: int) -> Problem | None:
    if not home.database.is_file():
        return GONE
    return disk.trouble_at_a_glance(home.db, reserve)


def patiently(make: Callable[[], Made], pause: float, show: Callable[[dict[str, Any]], None]) -> Made:
    """What `make` makes, tried again with growing pauses as long as the disk does not let it. `pause` is in seconds."""
    while True:
        try:
            return make()
        except Exception as error:
            problem = disk.storage_problem(error)
            if problem is None or (isinstance(error, SvidError) and not isinstance(error, StorageError)):
                raise
        show({"event": "halted", "reason": str(problem), "pause": pause})
        time.sleep(pause)
        pause = min(pause * 2, LONGEST)


def why_stopped(home: Home) -> str | None:
    """Why no work is taken in a home: what its daemons say, else what can be seen from here."""
    said = notes(home.daemons, home.id)
    if said:
        return said[0]
    found = disk.trouble_at_a_glance(home.db, home.config.daemon.disk_reserve)
    return str(found) if found is not None else None
