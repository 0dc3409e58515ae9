"""Ten thousand manifests at once: how fast a daemon takes them in, whether each becomes one job, whether memory stays.

    python benchmarks/storm.py [--json] [--manifests 10000] [--writers 4]

Writers drop files in four ways at the same time: written and renamed in, written in place a piece at a time, written
and written again, and renamed in under names in odd encodings. The home is paused, so that nothing is rendered: what is
measured is the intake. At the end every file is accounted for by the job's row, and the inbox is empty.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Process
from pathlib import Path

from svid.daemon.orders import Orders
from svid.home import Home, make_home

PATIENCE = 3600.0


def main() -> int:
    """Run it once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--manifests", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svid-storm-") as folder:
        found = storm(Path(folder) / "home", given.manifests, given.writers)
    if given.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:20} {value}")
    return 0 if found["lost"] == found["twice"] == found["left"] == 0 else 1


def storm(root: Path, manifests: int, writers: int) -> dict[str, float]:
    """Drop `manifests` by `writers` processes into a fresh home with a daemon, and count what became of them."""
    home = make_home(root)
    shutil.copyfile(root / "watch/examples/harbour.png", home.inbox / "harbour.png")
    Orders(home.orders, home.id).pause()
    with daemon_of(home) as daemon:
        wait(lambda: jobs(home) is not None)
        began, first = time.monotonic(), memory(daemon.pid)
        parts = [range(number, manifests, writers) for number in range(writers)]
        processes = [Process(target=write, args=(home.inbox, part)) for part in parts]
        for process in processes:
            process.start()
        quarter: dict[int, float] = {}
        while (names := jobs(home) or []) is not None and len(names) < manifests:
            quarter.setdefault(4 * len(names) // manifests, memory(daemon.pid))
            if time.monotonic() - began > PATIENCE or daemon.poll() is not None:
                break
            time.sleep(0.5)
        seconds, last = time.monotonic() - began, memory(daemon.pid)
        for process in processes:
            process.join()
        seen = Counter(jobs(home) or [])
        left = [path.name for path in home.inbox.iterdir() if path.name not in (".gitkeep", "harbour.png")]
    expected = {f"storm {number}" for number in range(manifests)}
    return {
        "manifests": manifests,
        "writers": writers,
        "seconds": round(seconds, 1),
        "per_second": round(manifests / seconds, 1),
        "lost": len(expected - seen.keys()),
        "twice": sum(count - 1 for count in seen.values()),
        "left": len(left),
        "rss_mb_start": first,
        "rss_mb_quarter": quarter.get(1, first),
        "rss_mb_end": last,
    }


def write(inbox: Path, numbers: range) -> None:
    """Drop the manifests with these numbers, each fourth in another way."""
    for number in numbers:
        text = json.dumps({"name": f"storm {number}", "image": "harbour.png", "prompts": ["one"], "seed": number})
        way, data = number // numbers.step % 4, text.encode()
        target = inbox / f"{number}.json"
        if way == 0:
            _rename(inbox, data, target)
        elif way == 1:
            with target.open("wb") as file:
                for start in range(0, len(data), 20):
                    file.write(data[start : start + 20])
                    file.flush()
        elif way == 2:
            target = target.with_suffix(".toml")  # an editor that writes, and writes again
            toml = f'name = "storm {number}"\nimage = "harbour.png"\nprompts = ["one"]\nseed = {number}\n'
            target.write_text(toml[: len(toml) // 2])
            target.write_text(toml)
        else:
            name = f"{number}-ünï-☃ ".encode() + bytes([0xE9, 0xFF]) + b".json"  # no UTF-8
            _rename(inbox, data, inbox / os.fsdecode(name))


def _rename(inbox: Path, data: bytes, target: Path) -> None:
    part = inbox / f".{os.getpid()}.part"
    part.write_bytes(data)
    part.rename(target)


@contextlib.contextmanager
def daemon_of(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon on the home, ended at the end."""
    command = [sys.executable, "-m", "svid", "--home", str(home.root), "up"]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait()


def jobs(home: Home) -> list[str] | None:
    """The names that the jobs' manifests have, one a job; None while there is no table."""
    base = contextlib.closing(sqlite3.connect(home.database))
    with contextlib.suppress(sqlite3.OperationalError), base as connection:
        return [json.loads(row[0])["name"] for row in connection.execute("SELECT manifest FROM job")]
    return None


def memory(process: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def wait(ready: object) -> None:
    """Look until it is so."""
    while not ready():  # type: ignore[operator]
        time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
