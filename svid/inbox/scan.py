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
from pathlib import Path

from svid.inbox.still import Stillness

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

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""They lie beside the manifests that name them, so nothing is said of them."""


def is_temporary(name: str) -> bool:
    """Whether a file of this name is passed over."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in TEMPORARY)


class Scanner:
    """Remembers between looks what each file was like."""

    def __init__(self, inbox: Path, settle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.inbox = inbox
        self.settle = settle
        self.strangers: list[str] = []
        """Files that are no manifests, by name."""
        self.waiting: list[str] = []
        """Manifests that are still being written, by name."""
        self._still = Stillness(clock)

    def look(self) -> list[Path]:
        """One look: the files that can be taken, oldest first."""
        strangers, waiting, ready = [], [], []
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
                if suffix not in PICTURES:
                    strangers.append(entry.name)
                continue
            verdict = self._judge(entry)
            if verdict is None:
                waiting.append(entry.name)
            else:
                ready.append(verdict)
        self._still.forget()
        self.strangers, self.waiting = sorted(strangers), sorted(waiting)
        return [file for _, file in sorted(ready, key=lambda pair: pair[0])]

    def _judge(self, entry: os.DirEntry[str]) -> tuple[tuple[int, str], Path] | None:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            return None  # gone, or busy on a network share: the next look decides
        ready = ((info.st_mtime_ns, entry.name), Path(entry.path))
        if not stat.S_ISREG(info.st_mode):
            return ready  # a link or a device: it is answered, not followed
        if info.st_size == 0:
            return ready if self._settled(entry.name, info, self.settle * EMPTY_PATIENCE) else None
        # A JSON text that was cut off never parses; a TOML text that was cut off often does, so it has to settle.
        whole = ready[1].suffix.lower() == ".json" and info.st_size <= LARGEST and _parses(ready[1])
        return ready if whole or self._settled(entry.name, info, self.settle) else None

    def _settled(self, name: str, info: os.stat_result, patience: float) -> bool:
        signature = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        still = self._still.seconds(name, signature)
        return still is not None and still >= patience


def _parses(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return False
    return True
