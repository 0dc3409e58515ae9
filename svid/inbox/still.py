"""How long things have stayed as they are, by our own clock: a file's times may lie in the future, or come from another
machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class _Seen:
    signature: tuple[Any, ...]
    since: float


class Stillness:
    """What each thing was like when it was looked at last, and since when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._asked: set[str] = set()

    def seconds(self, name: str, signature: tuple[Any, ...]) -> float | None:
        """For how long `name` has been like `signature`, 0 where it was something else before; None where it is seen
        for the first time."""
        self._asked.add(name)
        seen, now = self._seen.get(name), self._clock()
        if seen is None or seen.signature != signature:
            self._seen[name] = _Seen(signature, now)
            return None if seen is None else 0.0
        return now - seen.since

    def forget(self) -> None:
        """Forget what nobody has asked for since the last time."""
        self._seen = {name: self._seen[name] for name in self._asked}
        self._asked.clear()
