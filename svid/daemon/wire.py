"""Messages between the daemon and its render process: one JSON object a line, over a socket pair.

Not over stdin and stdout, which plugins and libraries write to as they like.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 1 << 26
"""Bytes of one message."""


class Wire:
    """One end of the line."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._rest = b""
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message. Raises BrokenPipeError where the other end is gone."""
        with self._lock:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived, waiting for the first bytes; None where the other end is gone, or talks
        rubbish (a plugin may write to any of its process's files), after which nothing that it says can be trusted."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            found = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        named = all(isinstance(message, dict) and ("event" in message or "do" in message) for message in found)
        return found if named and len(self._rest) <= LONGEST else None

    def messages(self) -> Iterator[dict[str, Any]]:
        """Every message until the other end is gone."""
        while (batch := self.receive()) is not None:
            yield from batch

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.socket.close()
