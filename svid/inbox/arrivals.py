"""Pictures and clips that are still on their way when their manifest is there: whoever copies a folder copies one file
after another, and a manifest is the smallest of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from svid.inbox.scan import EMPTY_PATIENCE, is_temporary
from svid.inbox.still import Stillness


class Arriving(Exception):
    """Files that a manifest names are being written, or may be: `names`. `lacking`: they are missing or damaged."""

    def __init__(self, names: list[str], *, lacking: bool) -> None:
        self.names, self.lacking = names, lacking
        super().__init__(", ".join(names))


class Arrivals:
    """Remembers between looks what the files that manifests name were like."""

    def __init__(
        self,
        settle: float,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._settle, self._calendar = settle, calendar
        self._still = Stillness(clock)

    def is_written(self, path: Path) -> bool:
        """Whether somebody seems to write to a file: it has become another one since the last look, or it is younger
        than `settle` and we have not seen it unchanged for so long. Nobody writes to what is not there."""
        signature = _signature(path)
        still = self._still.seconds(str(path), signature)
        if signature[0] is None or still == 0:
            return signature[0] is not None
        young = self._calendar() - signature[2] / 1e9 < self._settle
        return young and (still is None or still < self._settle)

    def may_come(self, path: Path) -> bool:
        """Whether what is missing or damaged may be whole soon: for EMPTY_PATIENCE times `settle` after it has last
        changed, or after a temporary file beside it has."""
        still = self._still.seconds(str(path), _signature(path))
        return still is None or still < self._settle * EMPTY_PATIENCE

    def forget(self) -> None:
        """Forget the files that no manifest names any more."""
        self._still.forget()


def _signature(path: Path) -> tuple[Any, ...]:
    try:
        info = path.stat()
    except (OSError, ValueError):  # not there, not to be reached, no name for a file
        return (None, *_drafts(path.parent))
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _drafts(folder: Path) -> list[tuple[str, int, int]]:
    """What copiers make of files that get their names when they are whole."""
    try:
        with os.scandir(folder) as entries:
            drafts = [(entry.name, entry.stat()) for entry in entries if is_temporary(entry.name)]
    except (OSError, ValueError):
        return []
    return sorted((name, info.st_size, info.st_mtime_ns) for name, info in drafts)
