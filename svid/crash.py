"""Named points at which the process can be killed, so that tests can show that a kill there is harmless.

`SVID_CRASH=name[,name...]` arms points, `SVID_CRASH_ONCE=DIR` lets each fire once (a marker in DIR remembers it).
Unarmed, a point costs one look at a dictionary.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POINTS = {
    "manifest-claimed": "the manifest has left the inbox, the database does not know of it",
    "job-accepted": "the job's row is committed",
    "job-taken": "the job is running under this daemon, the render process has not been told",
    "job-started": "the render process has fixed what the job builds on",
    "snapshot-written": "a snapshot of the segment in flight has its name, its step has not been told",
    "mid-sampling": "between two denoising steps",
    "segment-drafted": "what the segment left is whole under db/tmp, nothing of it has its name",
    "latents-published": "the latents have their name, no row that points at them is committed",
    "tail-published": "so has the tail",
    "clip-published": "so has the encoded clip",
    "segment-committed": "the segment's row is committed and the tip has moved",
    "video-written": "the joined file is whole, under its .part name",
    "video-published": "the joined file has its name, the job is not done yet",
    "sheet-published": "so has its contact sheet",
    "job-done": "the job is done, nobody has been told",
    "answer-written": "result.json is there, the manifest has not moved",
    "manifest-moved": "the manifest has moved, the job's row does not say so",
}
"""Every point, in the order in which a job passes them, and what is true there."""


def crashpoint(name: str) -> None:
    """Kill this process here, if the point is armed."""
    armed = os.environ.get("SVID_CRASH")
    if not armed or name not in armed.split(","):
        return
    once = os.environ.get("SVID_CRASH_ONCE")
    if once:
        try:
            (Path(once) / name).touch(exist_ok=False)
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
