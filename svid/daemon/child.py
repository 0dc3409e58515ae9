"""The daemon's side of the render process: start it, talk to it, notice its death."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

from svid.daemon.wire import Wire
from svid.home import Home

STDERR = 2

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Weights are files that the user has put there; no library is to look for others."""


SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for one another sleep. By default they spin, and on two cores that one other process uses as well a
segment then took twenty times as long."""


class Child:
    """A render process. It is started when there is work and stays for the next job."""

    def __init__(self, home: Home, lock: int) -> None:
        ours, theirs = socket.socketpair()
        self.wire = Wire(ours)
        command = [sys.executable, "-m", "svid.daemon.worker", str(home.root), str(theirs.fileno()), str(os.getpid())]
        # stdout is for data; what a library prints belongs to the talk on stderr.
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), lock),
            stdin=subprocess.DEVNULL,
            stdout=STDERR,
            # Libraries leave files in the folder for temporary ones; nothing is to be written outside the home.
            env={**SLEEPING, **os.environ, **OFFLINE, "TMPDIR": str(home.tmp)},
        )
        theirs.close()
        self.job: str | None = None
        self.attempt = 0

    def render(self, job: str, attempt: int) -> None:
        """Have it do a job."""
        self.job, self.attempt = job, attempt
        self._send({"do": "render", "job": job, "attempt": attempt})

    def stop(self, *, now: bool) -> None:
        """Have it stop its job: at the next step, or after the segment in flight."""
        self._send({"do": "cancel" if now else "stop"})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.wire.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead; the daemon sees that on the wire's other half

    def end(self, patience: float = 10.0) -> int:
        """Have it end, by force where it does not listen, and return its exit status."""
        self._send({"do": "quit"})
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.wire.close()
        return self.process.wait()

    def bury(self) -> str:
        """How it died, in words, after the wire broke."""
        self.wire.close()
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status < 0:
            name = signal.Signals(-status).name
            reason = ", which the kernel sends when memory runs out" if name == "SIGKILL" else ""
            return f"it was ended by signal {-status} ({name}{reason})"
        return f"it exited with status {status}"
