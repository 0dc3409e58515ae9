"""Looking at the inbox. The scan is the truth; file system events only make it happen sooner.

Measured on Linux: of 40,000 files dropped fast, events of 24,000 were lost while the observer stayed alive; a plain
scan of all of them took 70 ms. A file counts as written when it has not changed between two looks `settle` seconds
apart.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("svid.inbox")

SUFFIXES = (".toml", ".json")
LARGEST = 256 * 1024
EMPTY_PATIENCE = 5
"""An empty file may be a name that its writer has just made; it is given this many times `settle`."""

TEMPORARY = (
    *(".*", "*~", "~$*", "#*#", "*.tmp", "*.part", "*.partial", "*.crdownload", "*.filepart", "*.swp"),
    *("Thumbs.db", "desktop.ini", "*.sync-conflict*"),
)
"""Names of editors, browsers, copiers and file managers for what is not there yet, or not for us."""

INPUTS = (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".mov", ".mkv", ".webm")
"""Pictures and clips. They lie beside the manifests that name them, so nothing is said of them."""


def is_temporary(name: str) -> bool:
    """Whether a file of this name is passed over."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in TEMPORARY)


_Turn = tuple[int, str]
"""The time of a file and its name: the order in which files are taken."""


@dataclass
class _Seen:
    signature: tuple[int, ...]
    since: float


class Scanner:
    """Remembers between looks what each file was like."""

    def __init__(self, inbox: Path, settle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.inbox = inbox
        self.settle = settle
        self.clock = clock
        self.strangers: list[str] = []
        """Files that are no manifests, by name."""
        self.waiting: list[str] = []
        """Manifests that are still being written, by name."""
        self._seen: dict[str, _Seen] = {}

    def look(self) -> list[Path]:
        """One look: the files that can be taken, oldest first."""
        strangers, waiting = list[str](), list[str]()
        ready, settling = list[tuple[_Turn, Path]](), list[tuple[_Turn, Path]]()
        present = set()
        try:
            with os.scandir(self.inbox) as entries:
                found = list(entries)
        except OSError as error:  # a share that is away, a folder that was removed: the next look sees
            log.warning("can't look into %s: %s", self.inbox, error.strerror)
            return []
        for entry in found:
            if is_temporary(entry.name):
                continue
            suffix = Path(entry.name).suffix.lower()
            if suffix not in SUFFIXES or entry.is_dir(follow_symlinks=False):
                if suffix not in INPUTS:
                    strangers.append(entry.name)
                continue
            present.add(entry.name)
            verdict = self._judge(entry)
            if verdict is None:
                waiting.append(entry.name)
                continue
            turn, settled = verdict
            (ready if settled else settling).append((turn, Path(entry.path)))
        self._seen = {name: seen for name, seen in self._seen.items() if name in present}
        # What was dropped later has its turn later, also where it is JSON and needs no time to settle.
        first = min(settling)[0] if settling else None
        held = [file for turn, file in ready if first is not None and turn > first]
        waiting += [file.name for file in (*held, *(file for _, file in settling))]
        self.strangers, self.waiting = sorted(strangers), sorted(waiting)
        return [file for turn, file in sorted(ready) if first is None or turn < first]

    def _judge(self, entry: os.DirEntry[str]) -> tuple[_Turn, bool] | None:
        """When it was dropped, and whether it can be taken."""
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            return None  # gone, or busy on a network share: the next look decides
        turn, path = (info.st_mtime_ns, entry.name), Path(entry.path)
        if not stat.S_ISREG(info.st_mode):
            return turn, True  # a link or a device: it is answered, not followed
        if info.st_size == 0:
            return turn, self._settled(entry.name, info, self.settle * EMPTY_PATIENCE)
        # A JSON text that was cut off never parses; a TOML text that was cut off often does, so it has to settle.
        whole = path.suffix.lower() == ".json" and info.st_size <= LARGEST and _parses(path)
        return turn, whole or self._settled(entry.name, info, self.settle)

    def _settled(self, name: str, info: os.stat_result, patience: float) -> bool:
        signature = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        seen = self._seen.get(name)
        if seen is None or seen.signature != signature:
            # Our own clock: a file's times may lie in the future, or come from another machine.
            self._seen[name] = _Seen(signature, self.clock())
            return patience == 0 and seen is not None
        return self.clock() - seen.since >= patience


def _parses(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return False
    return True
