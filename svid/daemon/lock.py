"""Which daemons are alive. Each holds a lock on a file of its own; the kernel lets go of it however the daemon ends.

The render process inherits the lock: as long as it is there, nobody takes over what it may still be writing. A lock has
no time: a daemon that is stopped, a machine that was suspended and a clock that jumps end no lease. The files lie
beside the database, each named by the home of its daemon and a number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

NOTE = 4096
"""Bytes of a lock file: the process, and a line about what it does."""


class DaemonLock:
    """This daemon's own lock."""

    def __init__(self, folder: Path, home: str) -> None:
        self.folder = folder
        self.id = f"{home}-{secrets.token_hex(4)}"
        self.file = folder / self.id
        self.handle = self._take()

    def _take(self) -> int:
        while True:
            handle = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is(self.file, handle):
                break
            os.close(handle)  # somebody who looked had it first, held it to be a dead one's, and removed it
        # Room for a note is taken now: when the disk is full, it can still be written over.
        os.pwrite(handle, f"{os.getpid()}\n".encode().ljust(NOTE), 0)
        return handle

    def keep(self) -> bool:
        """Put the file back where it was removed, by which this daemon looks dead to others; True where it had to be.
        Jobs that were taken over meanwhile are known by their fences."""
        if _is(self.file, self.handle):
            return False
        lost, self.handle = self.handle, self._take()
        os.close(lost)
        return True

    def note(self, text: str) -> None:
        """Leave a line for `svid status`; an empty one says that all is well. Where it can't be written, nothing is."""
        line = " ".join(text.split()).encode()[: NOTE // 2]
        with contextlib.suppress(OSError):
            os.pwrite(self.handle, f"{os.getpid()}\n".encode() + line.ljust(NOTE - 32), 0)

    def release(self) -> None:
        """Say that this daemon has ended."""
        with contextlib.suppress(OSError):  # on a disk that has become read-only it stays; whoever looks removes it
            self.file.unlink(missing_ok=True)
        os.close(self.handle)

    def alive(self, worker: str) -> bool:
        """Whether the daemon with this id still runs."""
        return worker == self.id or is_alive(self.folder, worker)


def is_alive(folder: Path, worker: str) -> bool:
    """Whether a daemon runs; the lock file of one that does not is removed."""
    file = folder / worker
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)  # the file system may be read-only by now
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody's job is taken over because a disk can't be read
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(OSError):
            if _is(file, handle):  # whoever removes it holds its lock, so it is nobody else's now
                file.unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)


def _is(file: Path, handle: int) -> bool:
    """Whether `file` still is what was opened as `handle`."""
    try:
        found = os.stat(file)  # noqa: PTH116 - on every pass, and without a Path
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nothing can be said, so nothing is changed
    return os.path.samestat(found, os.fstat(handle))


def running(folder: Path, home: str = "") -> list[str]:
    """The ids of the daemons of a home that run, or of every home on this database."""
    begins = f"{home}-" if home else ""
    with contextlib.suppress(FileNotFoundError):
        names = [file.name for file in folder.iterdir() if file.name.startswith(begins)]
        return sorted(name for name in names if is_alive(folder, name))
    return []


def notes(folder: Path, home: str) -> list[str]:
    """What the daemons of a home that run have noted about themselves."""
    found = []
    for worker in running(folder, home):
        with contextlib.suppress(OSError):
            line = (folder / worker).read_bytes().decode(errors="replace").partition("\n")[2].strip()
            if line:
                found.append(line)
    return found
