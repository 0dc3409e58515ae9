"""stdout is for svid's own answers (`svid show --json`). What plugins print belongs to the talk on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_aside() -> Iterator[None]:
    """Send to stderr whatever is written to stdout meanwhile: by print, by C code, by programs that are started."""
    with contextlib.redirect_stdout(sys.stderr), _file_aside():
        yield


@contextlib.contextmanager
def _file_aside() -> Iterator[None]:
    try:
        ours = os.dup(1)
    except OSError:  # there is none: a daemon without standard files
        yield
        return
    try:
        with contextlib.suppress(OSError, ValueError):
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()  # what a plugin wrote to it by name
        os.dup2(ours, 1)
        os.close(ours)
