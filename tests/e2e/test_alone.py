"""Nothing of svid asks the network, unpickles anything, or writes outside the home.

Python tells of every such call by its audit events (PEP 578), in the daemon and in its render process alike. What is
not seen is what compiled libraries do without asking Python: SQLite, FFmpeg and safetensors open files of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svid.home import Home
from tests.conftest import quick_home, svid
from tests.e2e.tools import drop, new

pytestmark = pytest.mark.slow

LISTENER = """
import os, sys

HOME, LOG = os.environ["TOLD_HOME"], os.open(os.environ["TOLD_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}


def outside(path):
    return isinstance(path, (str, bytes)) and os.path.abspath(os.fsdecode(path)) != "/dev/null" and not (
        os.path.realpath(os.fsdecode(path)) + "/"
    ).startswith(HOME + "/")


def hear(event, arguments):
    if event in NETWORK and not (event != "socket.getaddrinfo" and isinstance(arguments[1], (str, bytes))):
        os.write(LOG, f"{event} {arguments[1:]}\\n".encode())
    elif event == "pickle.find_class":
        os.write(LOG, f"{event} {arguments}\\n".encode())
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and outside(arguments[0]):
        os.write(LOG, f"{event} {arguments[0]}\\n".encode())
    elif event in CHANGES:
        for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
            if outside(path):
                os.write(LOG, f"{event} {path}\\n".encode())


sys.addaudithook(hear)
"""

TALKATIVE = """
import socket
from pathlib import Path

from svid import hookimpl


@hookimpl
def svid_event(event):
    if event["event"] == "committed":
        Path(FILE).write_text("outside")
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except OSError:
            pass
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process whose audit events are listened to."""
    # torch puts its cache's folder into the environment of a process that has asked for it, as other tests do here.
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    folder = tmp_path / "listener"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LISTENER)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    home = os.path.realpath(tmp_path / "home")
    return {"PYTHONPATH": path, "TOLD_HOME": home, "TOLD_LOG": str(tmp_path / "log"), "PYTHONDONTWRITEBYTECODE": "1"}


def render(home: Home, told: dict[str, str]) -> list[str]:
    """What was heard while a video was made, extended and looked at."""
    drop(home, "a.json", new("a", "one", "two"))
    svid(home, "up", "--once", **told)
    drop(home, "b.json", {"extend": "a", "prompts": ["three"]})
    svid(home, "up", "--once", **told)
    for command in (("show", "a"), ("tree", "a"), ("verify",), ("status",), ("gc",)):
        svid(home, *command, **told)
    return Path(told["TOLD_LOG"]).read_text().splitlines()


def test_a_video_is_made_without_network_pickles_or_writes_elsewhere(tmp_path: Path, told: dict[str, str]) -> None:
    assert render(quick_home(tmp_path / "home"), told) == []


def test_a_plugin_that_does_otherwise_is_heard(tmp_path: Path, told: dict[str, str]) -> None:
    home = quick_home(tmp_path / "home")
    (home.plugins / "talkative.py").write_text(TALKATIVE.replace("FILE", repr(str(tmp_path / "elsewhere"))))
    heard = render(home, told)
    assert f"open {tmp_path / 'elsewhere'}" in heard
    assert any(line.startswith("socket.connect") for line in heard)
