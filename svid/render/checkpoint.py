"""When a segment in flight is written down, and whether it is gone on with. Nothing here can fail a segment that is
still ours."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

from svid.api import Checkpoint, Snapshot, Taken
from svid.crash import crashpoint
from svid.errors import StoreError
from svid.store.queue import Fenced
from svid.store.snapshots import Lease, Snapshots

log = logging.getLogger("svid.checkpoint")

REST = 50
"""After a write that took w seconds none begins for REST * w: writing never takes more than 1/51 of the time."""

Resumed = Callable[[Snapshot], None]
"""Hears that a segment goes on after the step of a snapshot."""


class Pace:
    """When to write. One for all segments of a process, so that the bound on the time holds across them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` lie between two writes, and between a segment's first step and its first write; inf: never."""
        self._seconds, self._clock = seconds, clock
        self._since = self._begun = clock()
        self._rested = -math.inf

    def begin(self) -> None:
        """A segment begins."""
        self._since = self._begun = self._clock()

    def due(self, *, stopping: bool, last: bool = False) -> bool:
        """Whether to write now; where the work is about to stop, at once, if ever. After the `last` step, unless the
        whole segment took less than what lies between two writes: decoding follows, which may take long too."""
        now = self._clock()
        if stopping:
            return math.isfinite(self._seconds)
        return now >= (self._begun if last else self._since) + self._seconds and now >= self._rested

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measures a write, also one that fails."""
        began = self._clock()
        try:
            yield
        finally:
            self._since = self._clock()
            self._rested = self._since + REST * (self._since - began)


class Keeper(Checkpoint, Protocol):
    """A checkpoint as the chain sees it, which knows how far the sampler is."""

    def passed(self, step: int, steps: int) -> None:
        """A step is done, counted from 1, and what there was to offer was offered."""


class SegmentCheckpoint:
    """The `Checkpoint` of one segment."""

    def __init__(
        self,
        snapshots: Snapshots,
        pace: Pace,
        key: str,
        env: Mapping[str, Any],
        resumed: Resumed,
        stopping: Callable[[], bool] = lambda: False,
        lease: Lease = nullcontext,
    ) -> None:
        """`key` is the segment's ask, `env` what of the machine decides bits, `stopping` says that the next Progress
        will raise Cancelled, and files are touched within `lease`."""
        self._snapshots, self._pace, self._key, self._env = snapshots, pace, key, env
        self._resumed, self._stopping, self._lease = resumed, stopping, lease
        self._last = False
        pace.begin()

    def resume(self, take: Callable[[Snapshot], Taken]) -> Taken | None:
        """See `Checkpoint`."""
        try:
            stored = self._snapshots.read(self._key)
        except StoreError as error:
            self._set_aside(str(error))
            return None
        if stored is None:
            return None
        if changed := differences(stored.env, self._env):
            # It is no worse for that, and whoever goes back to how it was may still use it, until it is replaced.
            log.warning("the snapshot of ask %.12s is not used, step 1 begins: %s", self._key, "; ".join(changed))
            return None
        try:
            taken = take(stored.snapshot)
        except Exception as error:  # a sampler may stumble over a snapshot in any way, and is to begin anew then
            self._set_aside(f"{type(error).__name__}: {error}")
            return None
        if taken is not None:
            log.info("ask %.12s goes on after step %d of %d", self._key, stored.snapshot.step, stored.snapshot.steps)
            self._resumed(stored.snapshot)
            self.passed(stored.snapshot.step, stored.snapshot.steps)
        return taken

    def passed(self, step: int, steps: int) -> None:
        """See `Keeper`."""
        self._last = step == steps - 1

    def offer(self, make: Callable[[], Snapshot]) -> None:
        """See `Checkpoint`."""
        if not self._pace.due(stopping=self._stopping(), last=self._last):
            return
        try:
            with self._pace.writing():
                self._snapshots.write(self._key, make(), self._env, self._lease)
        except Fenced:  # there is no sense in going on
            raise
        except Exception as error:  # no snapshot is better than no segment
            log.warning("no snapshot of ask %.12s: %s: %s", self._key, type(error).__name__, error)
            return
        crashpoint("snapshot-written")

    def _set_aside(self, why: str) -> None:
        log.warning("the snapshot of ask %.12s is set aside, step 1 begins: %s", self._key, why)
        try:
            with self._lease():
                self._snapshots.set_aside(self._key)
        except OSError as error:
            log.warning("it can't be moved: %s", error)


class NoCheckpoint:
    """A `Checkpoint` that keeps nothing."""

    def resume(self, take: Callable[[Snapshot], Taken]) -> Taken | None:
        """None."""

    def passed(self, step: int, steps: int) -> None:
        """Nothing."""

    def offer(self, make: Callable[[], Snapshot]) -> None:
        """Nothing."""


def no_checkpoint(resumed: Resumed) -> Keeper:
    """For renders that nobody goes on with."""
    return NoCheckpoint()


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two circumstances, each as `name was there, is here`; tables by their entries."""
    old, new = dict(_flat(there)), dict(_flat(here))
    return [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
