"""A text file for Prometheus' node exporter (textfile collector): written whole, so that a reader never sees half."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import func, select

from svid.home import Home
from svid.store.engine import Store
from svid.store.models import Job, Segment

Figure = tuple[str, str, float | Mapping[str, float]]
"""Its type, what it means, and its value or one value per label."""
STATES = ("queued", "running", "done", "failed")


def write_metrics(target: Path, store: Store, home: Home, *, paused: bool) -> None:
    """Write the figures of a home to `target`: its own jobs, and the segments of its database. Raises OSError where the
    file can't be written."""
    jobs = select(Job.state, func.count()).where(Job.home == home.id).group_by(Job.state)
    with store.read() as session:
        found = dict(session.execute(jobs).all())
        segments, seconds, frames = session.execute(
            select(func.count(), func.sum(Segment.seconds), func.sum(Segment.frames))
        ).one()
    figures: dict[str, Figure] = {
        'svid_jobs{state="%s"}': ("gauge", "jobs by state", {state: found.get(state, 0) for state in STATES}),
        "svid_segments_total": ("counter", "segments that were rendered", segments),
        "svid_segment_seconds_total": ("counter", "seconds that rendering them took", round(seconds or 0, 3)),
        "svid_segment_frames_total": ("counter", "frames that they have", frames or 0),
        "svid_free_bytes": ("gauge", "free space of the home's disk", shutil.disk_usage(home.root).free),
        "svid_paused": ("gauge", "1 where no job is started", int(paused)),
        "svid_last_pass_timestamp_seconds": ("gauge", "when the daemon looked last", round(time.time(), 3)),
    }
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.write_text("".join(_lines(figures)), encoding="utf-8")
    part.replace(target)


def _lines(figures: Mapping[str, Figure]) -> list[str]:
    lines = []
    for name, (kind, meaning, value) in figures.items():
        plain = name.partition("{")[0]
        lines.append(f"# HELP {plain} {meaning}\n# TYPE {plain} {kind}\n")
        rows = value.items() if isinstance(value, Mapping) else [("", value)]
        lines += [f"{name % label if label else name} {number}\n" for label, number in rows]
    return lines
