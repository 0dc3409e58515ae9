"""What the tests share: a home for each test, and the svid command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from svid.home import Home, bundled_dir, make_home
from svid.store.engine import Store, open_store

# Two test processes with two threads each would spend their time waiting for one another on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A package of its own, with tests of its own: tests/thirdparty/test_tint.py installs it and runs them.
collect_ignore_glob = ["thirdparty/svid-tint/*"]

QUICK = """\
[daemon]
poll = 0.2
settle = 0.2
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home that settles fast, with a picture in its inbox."""
    return quick_home(tmp_path / "home")


def quick_home(root: Path) -> Home:
    made = make_home(root)
    text = (root / "svid.toml").read_text()
    start, end = text.index("[daemon]"), text.index("[defaults]")
    (root / "svid.toml").write_text(text[:start] + QUICK + text[end:])
    shutil.copyfile(root / "watch/examples/harbour.png", made.inbox / "harbour.png")
    return Home(root)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is no home."""
    monkeypatch.chdir(tmp_path)
    for name in ("SVID_PLUGINS", "SVID_TRACE", "SVID_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(home: Home) -> Store:
    return open_store(home.database, bundled_dir() / "db" / "migrations")


def svid(home: Home | None, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the svid command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "svid", *(["--home", str(home.root)] if home else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=300)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
