"""The daemon's side of the render process: start it, talk to it, notice its death."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from svid.daemon.oom import oom_kills
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
        self.outdated = False
        """svid.toml or a plugin has changed since it began: the next job is another one's."""
        self.attempt = 0
        self._silent = 0.0
        """Seconds, as far as this process lived through them, since it last said something or was given a job."""
        self._looked = time.monotonic()
        self.doing: dict[str, Any] = {}
        """What it said of its job: `model`, the `memory` plan, `size` and `ask` of the segment in flight."""
        self.at = ""
        """Where it is in its job, for people: `segment 2/3: sample, step 3 of 8`."""
        self._reason = ""
        self._kills = oom_kills()
        self.starved = False
        """It was buried, and the kernel's counters prove that it was ended because memory ran out."""

    def render(self, job: str, attempt: int, plans: Mapping[str, str]) -> None:
        """Have it do a job, models that `plans` names placed by the memory plan that it gives them."""
        self.job, self.attempt, self.doing, self._kills = job, attempt, {}, oom_kills()
        self.at = "its beginning"
        self.heard()
        self._send({"do": "render", "job": job, "attempt": attempt, "plans": dict(plans)})

    def said(self, event: Mapping[str, Any]) -> None:
        """Keep what an event of its says of the job."""
        self.doing |= {key: event[key] for key in ("model", "memory", "size", "ask") if key in event}
        kind, segment = event["event"], f"segment {event.get('segment')}/{event.get('segments')}"
        if kind == "stage":
            self.at = f"{segment}: {event['stage']}"
        elif kind == "step":
            self.at = f"{segment}: sample, step {event['step']} of {event['steps']} done"
        elif kind == "encoding":
            self.at = f"the clip of segment {event['index'] + 1} of the video"
        elif kind == "joining":
            self.at = "join"

    def heard(self) -> None:
        """It has said something."""
        self._silent, self._looked = 0.0, time.monotonic()

    def stop(self, *, now: bool) -> None:
        """Have it stop its job: at the next step, or after the segment in flight."""
        self._send({"do": "cancel" if now else "stop"})

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.wire.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead; the daemon sees that on the wire's other half

    def lost(self, patience: float, turn: float) -> bool:
        """Whether it is to be buried, although the wire has not broken: it has ended and what it left behind (a process
        that a plugin forked) keeps its end open; or it has a job and has said nothing for `patience` seconds, if that
        is not 0, and is killed for it.

        Of the time since the last call at most `turn` seconds count: in what is beyond, this process was stopped, and
        may have been so together with the other.
        """
        spoke = bool(select.select([self.wire], [], [], 0)[0])  # its last words come first
        if self.process.poll() is not None:
            return not spoke
        now = time.monotonic()
        self._silent, self._looked = self._silent + min(now - self._looked, turn), now
        if self.job is None or not patience or self._silent < patience or spoke:
            return False
        self._reason = f"it said nothing for {patience:g} seconds ([daemon] hang_seconds) and was ended"
        self.process.kill()
        return True

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
        if self._reason:
            return self._reason
        if status < 0:
            name = signal.Signals(-status).name
            reason = self._why_killed() if name == "SIGKILL" else ""
            return f"it was ended by signal {-status} ({name}{reason})"
        return f"it exited with status {status}"

    def _why_killed(self) -> str:
        """What is known of why it was killed, by the counters of the kernel since it was given its job."""
        kills = oom_kills()
        if kills is None or self._kills is None:
            return ", which the kernel sends when memory runs out"
        self.starved = kills > self._kills
        return ", by the kernel because memory ran out" if self.starved else ""
