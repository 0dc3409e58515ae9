"""Canonical JSON: one text for one value, so that its hash can stand for it. Every key and id rests on it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from svid.errors import Problem, SvidError

MAX_DEPTH = 32
"""How deep a value may nest; also what stops a value that contains itself."""


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and characters as they are. Tuples count as lists; 1 and 1.0 are two values.

    Raises SvidError where the value is not plain JSON data (another type, a key that is no text, NaN, infinity, half a
    surrogate pair), because it would have no text of its own or share it with another value.
    """
    problems = [Problem("", where, message) for where, message in _misfits(value, "", 0)]
    if problems:
        raise SvidError(problems)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The SHA-256 of the canonical JSON of a value, in hex. Raises SvidError as `canonical` does."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _misfits(value: Any, where: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        yield where, f"expected at most {MAX_DEPTH} levels of nesting"
    elif isinstance(value, Mapping | list | tuple):
        yield from _misfits_inside(value, where, depth)
    elif isinstance(value, str):
        if not _is_unicode(value):
            yield where, "expected Unicode text, found half a surrogate pair"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield where, f"expected a finite number, found {value}"
    elif value is not None and not isinstance(value, bool | int):
        yield where, f"expected plain JSON data, found {type(value).__name__}"


def _misfits_inside(value: Any, where: str, depth: int) -> Iterator[tuple[str, str]]:
    # json.dumps takes no Mapping but dict, and makes text of keys like 1 and None, where they meet "1" and "null"
    if isinstance(value, Mapping):
        if not isinstance(value, dict):
            yield where, f"expected plain JSON data, found {type(value).__name__}"
            return
        for key, item in value.items():
            if not isinstance(key, str) or not _is_unicode(key):
                yield where, f"expected keys of Unicode text, found {key!r}"
            else:
                yield from _misfits(item, f"{where}.{key}" if where else key, depth + 1)
    else:
        for index, item in enumerate(value):
            yield from _misfits(item, f"{where}[{index}]", depth + 1)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
