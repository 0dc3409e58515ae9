"""A small file system to fill, where one can be mounted; elsewhere a limit on the size of files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PAGE = 4096


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _mountable() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        if not _run("mount", "-t", "tmpfs", "-o", "size=1m", "svid-test", folder):
            return False
        return _run("umount", folder)


MOUNTABLE = _mountable()
WAYS = ["tmpfs", "limit"] if MOUNTABLE else ["limit"]


@contextlib.contextmanager
def small_disk(folder: Path, mib: int = 32) -> Iterator[Path]:
    """`folder` as a file system of its own."""
    folder.mkdir()
    assert _run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "svid-test", str(folder))
    try:
        yield folder
    finally:
        assert _run("umount", "-l", str(folder))


def remount(folder: Path, how: str) -> None:
    """`ro` or `rw`. With `ro`, nothing may be open for writing there."""
    assert _run("mount", "-o", f"remount,{how}", str(folder))


def fill(folder: Path, pages: int = 0) -> Path:
    """Use the file system of `folder` up but for so many pages, or again what was freed since; returns the file that
    takes the space."""
    ballast = folder / "ballast"
    with ballast.open("ab") as file:
        while True:
            info = os.statvfs(folder)
            size = (info.f_bavail - pages) * info.f_frsize
            try:
                if size > 0:
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                return ballast
            except OSError as error:  # somebody else took some of it meanwhile
                if error.errno != errno.ENOSPC:
                    raise


@contextlib.contextmanager
def limited(size: int, process: int = 0) -> Iterator[None]:
    """A process (0: this one) that can't write beyond `size` bytes of any file."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)
