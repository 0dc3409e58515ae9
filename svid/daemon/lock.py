"""Which daemons are alive. Each holds a lock on a file of its own; the kernel lets go of it however the daemon ends.

The render process inherits the lock: as long as it is there, nobody takes over what it may still be writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path


class DaemonLock:
    """This daemon's own lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = secrets.token_hex(4)
        self.file = folder / self.id
        self.handle = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.handle, fcntl.LOCK_EX)
        os.write(self.handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Say that this daemon has ended."""
        self.file.unlink(missing_ok=True)
        os.close(self.handle)

    def alive(self, worker: str) -> bool:
        """Whether the daemon with this id still runs."""
        return worker == self.id or is_alive(self.folder, worker)


def is_alive(folder: Path, worker: str) -> bool:
    """Whether a daemon runs; the lock file of one that does not is removed."""
    file = folder / worker
    try:
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        file.unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)


def running(folder: Path) -> list[str]:
    """The ids of the daemons that run in this home."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(file.name for file in folder.iterdir() if is_alive(folder, file.name))
    return []
