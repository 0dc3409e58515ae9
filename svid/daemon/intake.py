"""Files of the inbox become jobs, or get an answer that says why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, select

from svid.daemon.halt import Halt
from svid.daemon.later import Later
from svid.daemon.lock import DaemonLock
from svid.errors import Problem, StorageError, SvidError, UnknownVideo
from svid.home import Home
from svid.inbox.accept import Desk, accept
from svid.inbox.answer import refuse
from svid.inbox.arrivals import Arrivals, Arriving
from svid.inbox.claim import Claimed, adopt, claim, claimed_names
from svid.inbox.scan import EMPTY_PATIENCE, Scanner
from svid.store.models import Job

log = logging.getLogger("svid.daemon")

PATIENCE = 30.0
"""Seconds that an extension waits for the manifest of its video, where others are on their way."""


class Intake:
    """What one daemon takes out of the inbox, and out of the hands of daemons that are gone."""

    def __init__(
        self, home: Home, desk: Desk, lock: DaemonLock, halt: Halt, later: Later, show: Callable[[dict[str, Any]], None]
    ) -> None:
        self.home, self.store, self.desk = home, desk.store, desk
        self.refused = 0
        """How many files got an answer that says why not."""
        self.arrivals = Arrivals(home.config.daemon.settle)
        self._lock, self._halt, self._later, self._show = lock, halt, later, show
        self._scanner = Scanner(home.inbox, home.config.daemon.settle)
        self._arriving: dict[str, float] = {}
        """The claimed files that wait for others, and since when."""
        self._before = self._arriving
        self._told: set[str] = set()
        self._unknown: dict[str, float] = {}

    @property
    def waiting(self) -> bool:
        """Whether a manifest in the inbox, or what one names, is still being written."""
        return bool(self._scanner.waiting or self._arriving)

    @property
    def undecided(self) -> bool:
        """Whether there are claimed files that are no jobs yet."""
        return not all(self._has_job(name) for name in claimed_names(self.home.claimed))

    def take(self) -> None:
        """One look. Each part is safe to repeat."""
        for file in self._scanner.look():
            if self._later.due(file.name):
                with self._later.trying(file.name):
                    claim(file, self.home.claimed, self._lock.id)
        refused = []
        self._before, self._arriving = self._arriving, {}
        self.arrivals.begin()
        for claimed in adopt(self.home.claimed, self._lock.id, self._lock.alive, self._has_job, self.store.write):
            problems = self._accept(claimed)
            if problems:
                refused.append((claimed, problems))
        self._told &= self._arriving.keys()
        if refused:
            self._halt.check()  # where nothing can be read, no manifest is to blame
        for claimed, problems in refused:
            self._refuse(claimed, problems)

    def _accept(self, claimed: Claimed) -> Sequence[Problem]:
        """Make a job of a file, or say what is wrong with it; nothing where it is to be looked at again."""
        try:
            job = accept(self.desk, claimed, self.arrivals)
        except Arriving as arriving:
            self._wait_for(claimed, arriving)
            return ()
        except StorageError:  # not the file's fault; it stays where it is and is looked at again
            raise
        except SvidError as error:
            return () if isinstance(error, UnknownVideo) and self._more_to_come(claimed) else error.problems
        except OSError as error:
            return [Problem(claimed.name, "", f"can't be read: {error.strerror}")]
        except Exception as error:  # whatever a file makes svid do, it is not to end the daemon
            log.exception("%s could not be understood", claimed.name)
            message = f"svid failed on it: {type(error).__name__}: {error}"
            return [Problem(claimed.name, "", message, "please report this")]
        if job is not None:
            self._show({"event": "accepted", "file": claimed.name, "job": job.id, "video": job.video_id})
        return ()

    def _wait_for(self, claimed: Claimed, arriving: Arriving) -> None:
        """Look at a file again when what it names has come. What keeps it is said once, where that is not over soon."""
        file, now = claimed.path.name, time.monotonic()
        since = self._arriving[file] = self._before.get(file, now)
        slow = now - since > self.home.config.daemon.settle * EMPTY_PATIENCE
        if arriving.names and (slow or arriving.lacking) and file not in self._told:
            self._told.add(file)
            self._show({"event": "waits", "file": claimed.name, "for": arriving.names, "lacking": arriving.lacking})

    def _more_to_come(self, claimed: Claimed) -> bool:
        """Whether the video that a manifest goes on from may be asked for by one that was dropped with it: one that is
        still settling, or one that was taken and is not accepted yet. Not for ever: that one may wait for ours."""
        now = time.monotonic()
        if ({*self._arriving, *self._before}) - {claimed.path.name}:  # for as long as that takes
            self._unknown.pop(claimed.path.name, None)
        if now - self._unknown.setdefault(claimed.path.name, now) > PATIENCE:
            return False
        others = (name for name in claimed_names(self.home.claimed) if name not in self._unknown)
        return self.waiting or not all(self._has_job(name) for name in others)

    def _refuse(self, claimed: Claimed, problems: Sequence[Problem]) -> None:
        folder = refuse(self.home, self.store, claimed, problems)
        if folder is None:
            return
        self.refused += 1
        errors = [problem.as_dict() for problem in problems]
        self._show({"event": "refused", "file": claimed.name, "errors": errors, "folder": folder.name})

    def _has_job(self, name: str) -> bool:
        own = (Job.home == self.home.id, Job.claimed == name)
        with self.store.read() as session:
            return bool(session.scalar(select(func.count(Job.seq)).where(*own)))
