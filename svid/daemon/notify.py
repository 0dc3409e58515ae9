"""Telling systemd that the daemon is up, what it does, and that its loop turns: sd_notify(3) without libsystemd."""

from __future__ import annotations

import contextlib
import os
import socket


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET; without one it does nothing."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._said = ""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.every: float | None = int(microseconds) / 3e6 if microseconds.isdigit() and own else None
        """Seconds between two signs of life, a third of what systemd waits for; None where it does not watch."""

    def ready(self) -> None:
        """The daemon takes work."""
        self._send("READY=1")

    def alive(self, status: str) -> None:
        """The loop has turned once more. Only the loop says so: a daemon that hangs elsewhere is to be restarted."""
        lines = ["WATCHDOG=1"] if self.every is not None else []
        if status != self._said:
            lines.append(f"STATUS={status}")
            self._said = status
        if lines:
            self._send("\n".join(lines))

    def stopping(self) -> None:
        """The daemon ends, which may take as long as a segment."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in Linux's abstract namespace, whose names begin with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), address)
