"""What the kernel counts of its out-of-memory killer. A process that it has killed looks like one that anybody has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes of this process's control group, and of those below it, the kernel has killed because memory
    ran out; None where there is no group of version 2 that says so. `root` is where /proc and /sys are."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):  # of version 2; the others have a number and controllers
                events = root / "sys/fs/cgroup" / line.removeprefix("0::/") / "memory.events"
                counts = dict(one.split() for one in events.read_text(encoding="ascii").splitlines())
                return int(counts["oom_kill"]) if "oom_kill" in counts else None
    return None
