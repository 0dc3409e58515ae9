"""Writing files so that a name never points at half of one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make what was renamed into `folder` survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and make that survive a power failure; the folder above it must be there."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def publish(part: Path, target: Path) -> None:
    """Give the finished file `part` its name: flush it, rename it, flush the folder. Same file system only."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
    sync_folder(target.parent)


def write_whole(target: Path, data: bytes, tmp: Path) -> None:
    """Write a small file so that readers see the old one or the new one. It grows in `tmp`, where a kill leaves it."""
    part = tmp / f"{os.getpid()}-{target.name}.part"
    part.write_bytes(data)
    publish(part, target)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
