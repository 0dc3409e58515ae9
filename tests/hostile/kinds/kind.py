"""What a kind of input is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """`make` gives an input; `feed` raises Refused, or AssertionError where what was accepted is wrong. `again` gives
    another input out of one that reached something new, with the rest of those beside it. `ready` does once what
    takes long and is no input's doing."""

    make: Callable[[random.Random], bytes]
    feed: Callable[[bytes, Path], None]
    again: Callable[[bytes, random.Random, Sequence[bytes]], bytes] | None = None
    ready: Callable[[], object] = lambda: None
