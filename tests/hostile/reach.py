"""Which lines of svid an input reaches, and the inputs that reached one first: what guides the fuzzer.

Python's own trace function notes the lines of functions (not of modules and classes, which run when they are imported)
below svid/ and plugins/. A function all of whose lines have been reached is not traced any more. (sys.monitoring would
cost less, but comes with Python 3.12, and svid runs on 3.11.)
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
WITHIN = tuple(f"{ROOT / name}/" for name in ("svid", "plugins"))
LARGEST = 64_000
"""Bytes of an input that others are made from."""


class Reach:
    """The lines that were reached, as `path:number`."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._fresh: set[str] = set()
        # By id, since a code object hashes all its constants; it is kept beside, so that its id stays its own.
        self._unreached: dict[int, tuple[CodeType, str, set[int]]] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[set[str]]:
        """Trace what runs inside; what is yielded holds at the end the lines that were reached for the first time."""
        self._fresh, before = set(), sys.gettrace()
        sys.settrace(self._call)
        try:
            yield self._fresh
        finally:
            sys.settrace(before)
            self.lines |= self._fresh

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        known = self._unreached.get(id(code)) or self._enter(code)
        return self._line if known[2] else None

    def _enter(self, code: CodeType) -> tuple[CodeType, str, set[int]]:
        within = code.co_filename.startswith(WITHIN) and code.co_flags & inspect.CO_OPTIMIZED
        name = code.co_filename.removeprefix(f"{ROOT}/")
        numbers = {line for *_, line in code.co_lines() if line and line != code.co_firstlineno} if within else set()
        numbers = {number for number in numbers if f"{name}:{number}" not in self.lines}
        self._unreached[id(code)] = (code, name, numbers)
        return self._unreached[id(code)]

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            _, name, numbers = self._unreached[id(frame.f_code)]
            if frame.f_lineno in numbers:
                numbers.discard(frame.f_lineno)
                self._fresh |= {f"{name}:{frame.f_lineno}"} - self.lines  # a lambda's line is its function's too
        return self._line


class Corpus:
    """The inputs that reached a line first, and the lines. Each stands in a journal, so that a process that dies of
    another input leaves them to the next one."""

    def __init__(self, journal: Path | None = None) -> None:
        self.inputs: list[bytes] = []
        self.accepted: list[bytes] = []
        self.reach = Reach()
        self._journal = journal
        for text in journal.read_text().splitlines() if journal is not None and journal.exists() else ():
            entry = json.loads(text)
            self._note(base64.b64decode(entry["input"]), set(entry["lines"]), entry["accepted"])

    def choose(self, dice: random.Random) -> bytes:
        """One of the inputs, rather one that was accepted: it lies deeper than one that was refused at once."""
        return dice.choice(self.accepted if self.accepted and dice.random() < 0.7 else self.inputs)

    def keep(self, number: int, data: bytes, lines: set[str], accepted: bool) -> None:
        """Note what input `number` reached, if anything."""
        if not lines:
            return
        self._note(data, lines, accepted)
        if self._journal is not None:
            entry = {"number": number, "accepted": accepted, "lines": sorted(lines)}
            entry["input"] = base64.b64encode(data).decode()
            with self._journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def _note(self, data: bytes, lines: set[str], accepted: bool) -> None:
        self.reach.lines |= lines
        if 0 < len(data) <= LARGEST:
            self.inputs.append(data)
            if accepted:
                self.accepted.append(data)
