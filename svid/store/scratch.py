"""Scratch files. Every process has a folder of its own under db/tmp, locked as long as the process lives, so that
whoever sweeps knows from the kernel what is still being written. A process number would not do: it is used again, and a
container that shares the folder has another one's process under it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class _Own:
    process: int
    folder: Path
    handle: int


_own: dict[Path, _Own] = {}


def own_folder(tmp: Path) -> Path:
    """This process's own folder under `tmp`, made when it is first asked for."""
    known = _own.get(tmp)
    if known is not None and known.process == os.getpid():  # else this process was forked from the one that made it
        if known.folder.is_dir():
            return known.folder
        os.close(known.handle)
    made = _own[tmp] = _make(tmp)
    return made.folder


def _make(tmp: Path) -> _Own:
    tmp.mkdir(parents=True, exist_ok=True)
    while True:
        folder = tmp / secrets.token_hex(6)
        folder.mkdir()
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.is_dir():
            return _Own(os.getpid(), folder, handle)
        os.close(handle)  # a sweep came between, and held it to be a dead one's


def sweep_own(tmp: Path) -> None:
    """Remove what this process has under `tmp`."""
    known = _own.get(tmp)
    if known is not None and known.process == os.getpid():
        shutil.rmtree(known.folder, ignore_errors=True)
        os.close(_own.pop(tmp).handle)


def sweep_dead(tmp: Path) -> None:
    """Remove what processes that are gone have left under `tmp`, whichever home they were of."""
    for folder in tmp.iterdir():
        if not NAME.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):  # another daemon sweeps too
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


@atexit.register
def _leave() -> None:
    for tmp in list(_own):
        sweep_own(tmp)
