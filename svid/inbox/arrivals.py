"""Pictures and clips that are still on their way when their manifest is there: whoever copies a folder copies one file
after another, and a manifest is the smallest of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svid.inbox.scan import EMPTY_PATIENCE, SUFFIXES

LONGEST = 600
"""A file that never stops changing is waited for this many times `settle`; then it is taken as it is."""


class Arriving(Exception):
    """Files that a manifest names are being written, or may be: `names`; none where it waits for an earlier manifest.
    `lacking`: they are missing or damaged."""

    def __init__(self, names: list[str], *, lacking: bool) -> None:
        self.names, self.lacking = names, lacking
        super().__init__(", ".join(names))


@dataclass
class _File:
    """What a file was like when it was looked at last, since when, and since when it is looked at at all."""

    signature: tuple[Any, ...]
    changed: float
    began: float
    damaged: bool = False
    replaced: bool = False
    """Whether it has been another file under the same name, which was whole when it got it."""


class Arrivals:
    """Remembers between looks what the files that manifests name were like, and within a look whose videos wait."""

    def __init__(
        self,
        settle: float,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._settle, self._clock, self._calendar = settle, clock, calendar
        self._files: dict[Path, _File] = {}
        self._asked: set[Path] = set()
        self._waiting: set[str] = set()

    def begin(self) -> None:
        """A new look at all manifests, in the order in which they came."""
        self._files = {path: self._files[path] for path in self._asked}
        self._asked.clear()
        self._waiting.clear()

    def check(self, files: Mapping[str, Path], videos: Collection[str]) -> None:
        """Raises Arriving where one of `files`, by what the manifest calls them, is on its way, or where an earlier
        manifest waits that has to do with one of `videos`: jobs of one video run in the order in which they came."""
        now = self._clock()
        seen = {name: self._look(path, now) for name, path in files.items()}
        lacking = [name for name, file in seen.items() if self._is_lacking(file, now)]
        written = [name for name, file in seen.items() if self._is_written(file, now)]
        if lacking or written or not self._waiting.isdisjoint(videos):
            self._waiting.update(videos)
            raise Arriving(lacking or written, lacking=bool(lacking))

    def found_damaged(self, files: Mapping[str, Path], videos: Collection[str]) -> None:
        """Say of `files` that they can't be used as they are. Raises Arriving where that may change."""
        for path in files.values():
            self._look(path, self._clock()).damaged = True
        self.check(files, videos)

    def _is_written(self, file: _File, now: float) -> bool:
        """Whether somebody seems to write to a file: it has changed since the last look, or it is younger than `settle`
        and we have not seen it unchanged for so long. Nobody writes to what is not there."""
        if file.signature[0] is None or self._in_vain(file, now):
            return False
        if file.changed == now > file.began:
            return True
        young = self._calendar() - file.signature[2] / 1e9 < self._settle
        return young and (file.began == now or now - file.changed < self._settle)

    def _is_lacking(self, file: _File, now: float) -> bool:
        """Whether a file is missing or damaged, and may be whole soon: for EMPTY_PATIENCE times `settle` after the last
        change of it or, where it is missing, of anything else in its folder, as that may be copied before it."""
        lacks = file.damaged or file.signature[0] is None
        return lacks and now - file.changed < self._settle * EMPTY_PATIENCE and not self._in_vain(file, now)

    def _in_vain(self, file: _File, now: float) -> bool:
        """Whether a file has been waited for long enough. One that is replaced time and again is whole each time."""
        times = EMPTY_PATIENCE if file.replaced else LONGEST
        return now - file.began > self._settle * times

    def _look(self, path: Path, now: float) -> _File:
        self._asked.add(path)
        signature = _signature(path)
        file = self._files.setdefault(path, _File(signature, now, now))
        if signature != file.signature:
            was, is_now = file.signature[0], signature[0]
            file.replaced |= None not in (was, is_now) and was != is_now
            file.signature, file.changed, file.damaged = signature, now, False
        return file


def _signature(path: Path) -> tuple[Any, ...]:
    try:
        info = path.stat()
    except (OSError, ValueError):  # not there, not to be reached, no name for a file
        return (None, *_others(path.parent))
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _others(folder: Path) -> list[tuple[str, int, int]]:
    """The files in a folder, but for manifests, which come all the time."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if Path(entry.name).suffix.lower() not in SUFFIXES]
    except (OSError, ValueError):
        return []
    return sorted((name, info.st_size, info.st_mtime_ns) for name, info in found)
