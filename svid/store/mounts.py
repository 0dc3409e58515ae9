"""What kind of file system a folder lies on."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|ceph|lustre|gpfs|beegfs|glusterfs|ocfs2|gfs2?|fuse\.(sshfs|glusterfs|ceph|rclone|s3fs)"
)
"""Kinds whose files other machines may write too, as Linux names them. Of shared folders of virtual machines (9p,
virtiofs) and of most that run in user space it can't be told."""

MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that `folder` is on; None where it is local, or where that can't be told."""
    kind = file_system(folder, mounts)
    return kind if kind is not None and NETWORK.fullmatch(kind) else None


def file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of file system that a folder is on, as proc(5) tells it; None where it tells nothing."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    folder, found = folder.resolve(), (-1, "")
    for line in lines:
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        # A later line covers an earlier one at the same point.
        if folder.is_relative_to(point) and len(point.parts) >= found[0]:
            found = (len(point.parts), after.split(" ")[0])
    return found[1] or None
