"""What the end-to-end tests share: small manifests, a warm workbench, drops, and looks into the database."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner, Result

from svid.cli import main
from svid.cli.open import desk_of
from svid.home import Home
from svid.media.clips import read_frames
from svid.workbench import Workbench
from tests.conftest import quick_home

SMALL: dict[str, Any] = {"frames": 9, "width": 32, "height": 32, "sample": {"steps": 2}}
"""Segments of 9 and then of 4 shown frames, each rendered in about a tenth of a second."""

PATIENCE = 180.0
"""Seconds to wait for what must come, on a machine that is busy with other things."""


def new(name: str, *prompts: str, **more: Any) -> dict[str, Any]:
    """The manifest of a small new video."""
    return {"name": name, "image": "harbour.png", "prompts": list(prompts), "seed": 5, **SMALL, **more}


def bench_in(root: Path, **plugins: str) -> Workbench:
    """A workbench in a fresh home, which has these plugins: the text of each by its name."""
    home = quick_home(root)
    for name, text in plugins.items():
        (home.plugins / f"{name}.py").write_text(text)
    return Workbench(home, desk_of(home))


def drop(home: Home, name: str, manifest: dict[str, Any]) -> bytes:
    """Put a manifest into the inbox, whole at once; returns its bytes."""
    data = json.dumps(manifest).encode()
    part = home.inbox / f".{name}.part"
    part.write_bytes(data)
    part.rename(home.inbox / name)
    return data


def frames_of(path: str | Path) -> torch.Tensor:
    """Every frame of a video file, uint8 [n, H, W, 3]."""
    return torch.stack(list(read_frames(Path(path))))


def rows(home: Home, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with contextlib.closing(sqlite3.connect(home.database, timeout=30)) as connection:
        return connection.execute(sql, values).fetchall()


def value(home: Home, sql: str, *values: Any) -> Any:
    """The only value that a query gives."""
    ((found,),) = rows(home, sql, *values)
    return found


def run(home: Home | None, *arguments: str, code: int = 0, stdin: str | bytes | None = None) -> Result:
    """Run the svid command in this process; `code` is the exit code that is expected."""
    given = ["--home", str(home.root)] if home else []
    result = CliRunner().invoke(main, [*given, *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def data(home: Home, *arguments: str) -> Any:
    """The JSON that a command prints, and nothing but that."""
    result = run(home, *arguments, "--json")
    assert result.stderr == ""
    return json.loads(result.stdout)


def start(home: Home, *arguments: str) -> subprocess.Popen[str]:
    """Start the svid command, and don't wait for it."""
    command = [sys.executable, "-m", "svid", "--home", str(home.root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Look until `what` gives something true, and return that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}: {process.communicate()[1]}")
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE:.0f} s in vain")


def ends(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process to end by itself; returns its exit code and what it said."""
    said = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, said


@contextlib.contextmanager
def killed_at_last(*processes: subprocess.Popen[str]) -> Iterator[tuple[subprocess.Popen[str], ...]]:
    """No daemon outlives its test, however that goes."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def shown(bench: Workbench, manifest: dict[str, Any]) -> dict[str, Any]:
    """A video as a manifest has it rendered, nothing of it taken from before."""
    return bench.run({**manifest, "reuse": False})


def picture(video: dict[str, Any]) -> torch.Tensor:
    """The frames of a video's newest file."""
    return frames_of(video["artifacts"][-1]["path"])


def latents_of(bench: Workbench, video: dict[str, Any], number: int) -> torch.Tensor:
    """The latents of a segment, counted from 1."""
    return bench.studio.blobs.get_tensors(video["segments"][number - 1]["latents"])["latents"]


def asks(bench: Workbench, video: dict[str, Any]) -> list[dict[str, Any]]:
    """What every segment of a video was asked for with."""
    return [bench.show(segment["id"])["ask"] for segment in video["segments"]]


LOSSLESS = {"encode": {"codec": "ffv1"}}
BY_CLIP: dict[str, Any] = {"decode": {"stream": False}}
