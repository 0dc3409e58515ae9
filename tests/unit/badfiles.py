"""Files that can't be read, and the errors that they give."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Files of which reading or writing fails, by a part of their path."""

    def __init__(self) -> None:
        self.bad: set[str] = set()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found, whole = Disk(), Path.open

    def opened(self: Path, *given: Any, **more: Any) -> Any:
        if any(part in str(self) for part in found.bad):
            raise OSError(errno.EIO, "Input/output error", str(self))
        return whole(self, *given, **more)

    monkeypatch.setattr(Path, "open", opened)
    return found


def gone(number: int, name: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)
