"""What the loop tells others on every turn: systemd that it is alive, Prometheus how things stand."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from svid.daemon.metrics import write_metrics
from svid.daemon.notify import Notifier
from svid.errors import StoreError
from svid.home import Home
from svid.store.engine import Store

log = logging.getLogger("svid.daemon")

EVERY = 10.0
"""Seconds between two writes of the figures."""


class Reporter:
    """Tells of a daemon."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._notifier = Notifier()
        self._written = float("-inf")

    @property
    def every(self) -> float | None:
        """The longest time between two turns, in seconds, that systemd's watchdog bears; None where there is none."""
        return self._notifier.every

    def ready(self) -> None:
        """The daemon takes work."""
        self._notifier.ready()

    def turn(self, job: str | None, *, paused: bool, stopped: bool) -> None:
        """The loop has turned once more, while `job` is rendered, or none is."""
        waits = "taking no work" if stopped else "paused" if paused else "waiting"
        self._notifier.alive(f"rendering {job}" if job else waits)
        target = self._home.config.daemon.metrics
        if target and time.monotonic() - self._written > EVERY:
            self._written = time.monotonic()
            try:
                write_metrics(self._home.root / target, self._store, self._home, paused=paused)
            except (OSError, SQLAlchemyError, StoreError) as error:  # a courtesy; work goes on without it
                log.warning("%s can't be written: %s", target, error)

    def stopping(self) -> None:
        """The daemon ends."""
        self._notifier.stopping()
