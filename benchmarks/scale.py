"""A million segments in one database: what people wait for must not notice.

    python benchmarks/scale.py [--json] [--segments 1000000] [--length 100]

The rows are made up (one blob stands for all of them); the code that is timed is that of the commands, in this process,
without the interpreter's own start. Each figure is the median of several goes in milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from svid.cli import main as svid
from svid.cli.open import desk_of
from svid.home import Home, make_home
from svid.plan.settings import Settings
from svid.store.ids import ask_key, segment_id
from svid.workbench import Workbench

GOES = 5
BATCH = 20_000


def main() -> int:
    """Make the database, time the commands, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=100, help="segments of a video")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svid-scale-") as folder:
        found = scale(Path(folder) / "home", given.segments, given.length)
    if given.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:20} {value}")
    return 0


def scale(root: Path, segments: int, length: int) -> dict[str, float]:
    """The figures of a home with so many segments, in videos of `length`."""
    home = make_home(root)
    shutil.copyfile(root / "watch/examples/harbour.png", home.inbox / "harbour.png")
    small = {"frames": 9, "width": 32, "height": 32, "sample": {"steps": 1}}
    shown = Workbench(home, desk_of(home)).run({"name": "one", "image": "harbour.png", "prompts": ["one"], **small})
    began = time.monotonic()
    videos = fill(home, shown, segments, length)
    filled = time.monotonic() - began
    video, run = videos[len(videos) // 2], CliRunner()

    def command(*words: str) -> Callable[[], Any]:
        def go() -> None:
            done = run.invoke(svid, ["--home", str(root), *words])
            if done.exit_code:
                raise RuntimeError(f"{words}: {done.stderr[-500:]}")

        return go

    return {
        "segments": segments,
        "videos": len(videos),
        "database_mb": round(home.database.stat().st_size / 1e6),
        "fill_s": round(filled, 1),
        "start_ms": timed(lambda: desk_of(home)),
        "extend_ms": timed(command("extend", video)),
        "tree_ms": timed(command("tree", video)),
        "show_ms": timed(command("show", video)),
        "status_ms": timed(command("status")),
        "verify_quick_ms": timed(command("verify", "--quick")),
    }


def timed(work: Callable[[], Any]) -> float:
    """Median milliseconds of several goes, after one that nobody counts."""
    work()
    taken = []
    for _ in range(GOES):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(taken), 1)


def fill(home: Home, shown: dict[str, Any], segments: int, length: int) -> list[str]:
    """Make videos of `length` segments after the picture of the one that was rendered; returns the videos' ids."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.row_factory = sqlite3.Row
        rows = {
            "segment": dict(connection.execute("SELECT * FROM segment").fetchone()),
            "job_segment": dict(connection.execute("SELECT * FROM job_segment").fetchone()),
            "job": dict(connection.execute("SELECT * FROM job").fetchone()),
            "video": dict(connection.execute("SELECT * FROM video").fetchone()),
        }
        Settings.model_validate_json(rows["job_segment"]["settings"])
        videos = [f"v{hashlib.sha256(str(number).encode()).hexdigest()[:12]}" for number in range(segments // length)]
        made: dict[str, list[tuple[Any, ...]]] = {name: [] for name in rows}
        for number, video in enumerate(videos):
            for name, row in _video(rows, video, number, length):
                made[name].append(tuple(row.values()))
            if len(made["segment"]) >= BATCH:
                _write(connection, rows, made)
        _write(connection, rows, made)
        connection.execute("ANALYZE")
        connection.commit()
    return videos


def _video(
    rows: dict[str, dict[str, Any]], video: str, number: int, length: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one video and of the job that made it, each under the name of its table."""
    job, base, parts = f"j{video[1:]}", json.loads(rows["segment"]["ask"]), list[dict[str, Any]]()
    for index in range(length):
        parent = parts[-1]["id"] if parts else None
        ask = base | {"parent": parent, "prompt": video}
        key = ask_key(ask)
        id_ = segment_id(key, rows["segment"]["latents"], rows["segment"]["tail"])
        own = {"id": id_, "parent_id": parent, "index": index, "ask_key": key, "ask": json.dumps(ask)}
        parts.append(rows["segment"] | own)
    ids = [part["id"] for part in parts]
    facts = {"id": job, "digest": ids[0], "video_id": video, "seq": number + 10, "claimed": f"{job}.json"}
    yield "job", rows["job"] | facts
    yield "video", rows["video"] | {"id": video, "name": f"video {number}", "tip_id": ids[-1]}
    for index, id_ in enumerate(ids):
        yield "segment", parts[index]
        yield "job_segment", rows["job_segment"] | {"job_id": job, "index": index, "segment_id": id_}


def _write(
    connection: sqlite3.Connection, rows: dict[str, dict[str, Any]], made: dict[str, list[tuple[Any, ...]]]
) -> None:
    for name in ("segment", "video", "job", "job_segment"):
        marks = ", ".join("?" * len(rows[name]))
        columns = ", ".join(f'"{column}"' for column in rows[name])
        connection.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", made[name])
        made[name].clear()
    connection.commit()


if __name__ == "__main__":
    raise SystemExit(main())
