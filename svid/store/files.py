"""Writing files so that a name never points at half of one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svid.store.scratch import own_folder

CHUNK = 1 << 20
STEM_BYTES = 160


def sync_folder(folder: Path) -> None:
    """Make what was renamed into `folder` survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(file: Path) -> None:
    """Make the bytes of `file` survive a power failure, whoever has written them. Before `publish`, it leaves that with
    little to do while others wait."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and make that survive a power failure; the folder above it must be there."""
    folder.mkdir(exist_ok=True)
    # Also where it is there: whoever made it may have died before this, or may not have come so far yet.
    sync_folder(folder.parent)


def publish(part: Path, target: Path) -> None:
    """Give the finished file `part` its name: flush it, rename it, flush the folder. Same file system only."""
    sync_file(part)
    part.replace(target)
    sync_folder(target.parent)


def write_whole(target: Path, data: bytes, tmp: Path | None) -> None:
    """Write a small file so that readers see the old one or the new one. It grows in the home's `tmp`, where a kill
    leaves it; outside of a home (None) beside the target."""
    part = target.with_name(f".{target.name}.part") if tmp is None else own_folder(tmp) / f"{target.name}.part"
    with removed_on_error(part):
        part.write_bytes(data)
        publish(part, target)


@contextmanager
def removed_on_error(part: Path) -> Iterator[None]:
    """Whatever goes wrong in here, `part` does not stay: on a full disk it would take the space that is missing."""
    try:
        yield
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def file_stem(name: str) -> str:
    """A video's name as a file name: letters, digits and dashes of any script, at most 80 of them and 160 bytes."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-_")[:80]
    # File systems count bytes, most of them up to 255, and a letter may have four.
    return stem.encode()[:STEM_BYTES].decode(errors="ignore").strip("-_") or "video"


def sheet_beside(video: Path) -> Path:
    """Where the contact sheet of a video's file lies: `harbour-sheet.png` beside `harbour.mp4`."""
    return video.with_name(f"{video.stem}-sheet.png")


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
