"""Files that a daemon could not move or answer although the storage is well: each is tried again, and nothing waits for
it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from svid.daemon.halt import LONGEST, Halt
from svid.store import disk


class Later:
    """What is put off, by name, each with a pause that doubles."""

    def __init__(self, halt: Halt, poll: float, show: Callable[[dict[str, Any]], None]) -> None:
        self._halt, self._poll, self._show = halt, poll, show
        self._waits: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def due(self, name: str) -> bool:
        """Whether it is to be tried now."""
        return time.monotonic() >= self._waits.get(name, (0.0, 0))[0]

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """An error of the disk in here is about this one file, and puts it off, where the storage is well. Raises
        StorageError where it is not."""
        try:
            yield
        except Exception as error:
            problem = disk.storage_problem(error)
            if problem is None or not disk.is_about_reading(error):
                raise
            self._halt.check()
            tries = self._waits.get(name, (0.0, 0))[1]
            pause = min(self._poll * 2 ** min(tries, 20), LONGEST)
            self._waits[name] = (time.monotonic() + pause, tries + 1)
            if not tries:
                self._show({"event": "put-off", "what": name, "reason": str(problem)})
        else:
            self._waits.pop(name, None)
