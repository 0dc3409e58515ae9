"""From bytes to plain data. A manifest may come from anyone who can write to the inbox, so size, nesting and the length
of dotted keys are bounded before a parser sees them, and what TOML and JSON disagree about is refused."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from svid.errors import ManifestError, Problem
from svid.manifest.across import is_control
from svid.manifest.words import place, refuse, shorten

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_KEY_PARTS = 8
"""Parts of a dotted key. tomllib takes time in the square of them: 20 000 parts in 40 KB keep it busy for 12 s."""
MAX_INT = 2**63 - 1

# Strings and comments are matched whole, so that only structure is counted; whatever is left open reaches to the end of
# its line or of the file, as for tomllib, which stops there. Possessive, so that no input makes the match go back.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{0,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{0,5}"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+"
    r"|[][{}.,=\n]",
    re.DOTALL,
)

DIGITS = "integer string conversion"
"""What Python says of a number of more than 4,300 digits (CPython issue 95778)."""


def parse(data: bytes, suffix: str, shown: str) -> dict[str, Any]:
    """The data of a manifest: `suffix` is ".toml" or ".json", `shown` the file's name in errors.

    Raises ManifestError with the place (line and column, or the key) of what can't be read or must not be there.
    """
    try:
        text = _text(data)
        found = _toml(text) if suffix == ".toml" else _json(text, suffix)
    except _SyntaxFault as fault:
        raise ManifestError(Problem(shown, fault.where, fault.message, fault.hint)) from fault.__cause__
    refuse(Problem(shown, where, message, hint) for where, message, hint in _misfits(found, (), 0))
    return found


class _SyntaxFault(Exception):
    """The text can't be read."""

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        super().__init__(where, message, hint)
        self.where, self.message, self.hint = where, message, hint


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _SyntaxFault("", f"expected at most {MAX_BYTES // 1024} KiB, found {-(-len(data) // 1024)} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"found the byte 0x{data[error.start]:02x}"
        raise _SyntaxFault(f"line {line}", f"expected UTF-8 text, {found}", "save the file as UTF-8") from error


def _toml(text: str) -> dict[str, Any]:
    _check_toml_shape(text)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _SyntaxFault("", "is nested too deeply") from error
    except ValueError as error:
        # TOMLDecodeError, and the plain ValueError of an int with thousands of digits or of 30 February
        if DIGITS in str(error):
            raise _endless_number(text) from error
        message, _, where = str(error).partition(" (at ")
        hint = "text needs quotes; true and false don't" if message == "Invalid value" else ""
        raise _SyntaxFault(where.removesuffix(")"), f"is not valid TOML: {message}", hint) from error


def _check_toml_shape(text: str) -> None:
    depth = dots = 0
    line = 1
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark == ".":
            dots += 1
            if dots >= MAX_KEY_PARTS:
                raise _SyntaxFault(f"line {line}", f"expected at most {MAX_KEY_PARTS} parts in a dotted key")
        elif mark in "[]{},=\n":
            dots = 0
            depth += (mark in "[{") - (mark in "]}")
            if depth > MAX_DEPTH:
                raise _SyntaxFault(f"line {line}", f"expected at most {MAX_DEPTH} levels of brackets")
        line += mark.count("\n")


def _json(text: str, suffix: str) -> dict[str, Any]:
    if suffix != ".json":
        raise _SyntaxFault("", f"expected a .toml or .json file, found {suffix!r}")
    try:
        found = json.loads(text, object_pairs_hook=_Object)
    except RecursionError as error:
        raise _SyntaxFault("", "is nested too deeply") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _SyntaxFault(where, f"is not valid JSON: {error.msg}") from error
    except ValueError as error:
        raise (
            _endless_number(text) if DIGITS in str(error) else _SyntaxFault("", f"is not valid JSON: {error}")
        ) from error
    if not isinstance(found, dict):
        raise _SyntaxFault("", f"expected an object, found {shorten(found)}", "{ ... } around it all")
    # editors find the schema of a JSON file by this key
    found.pop("$schema", None)
    return found


def _endless_number(text: str) -> _SyntaxFault:
    """What is wrong with a text that has a number of more digits than Python reads."""
    found = re.search(r"[0-9_]{4301,}", text)
    where = f"line {text.count(chr(10), 0, found.start()) + 1}" if found else ""
    return _SyntaxFault(where, "expected a number of at most 63 bits, found one of thousands of digits")


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys came twice; a plain dict keeps the last one and says nothing."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        times = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.twice = [key for key, count in times.items() if count > 1]


def _misfits(value: Any, loc: tuple[str | int, ...], depth: int) -> Iterator[tuple[str, str, str]]:
    """What a parser let pass and no manifest may hold: place, message, hint."""
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        yield place(loc), f"expected at most {MAX_DEPTH} levels of nesting", ""
    elif isinstance(value, dict):
        for key in getattr(value, "twice", ()):
            yield place((*loc, key)), "expected each key once, found it twice", ""
        for key, item in value.items():
            fault = _misfit_text(key)
            if fault:
                yield place(loc), f"{fault} in the key {shorten(key)}", ""
            yield from _misfits(item, (*loc, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misfits(item, (*loc, index), depth + 1)
    else:
        fault, hint = _misfit_leaf(value)
        if fault:
            yield place(loc), fault, hint


def _misfit_leaf(value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        return _misfit_text(value), ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, found {value}", ""
    if value is None:
        return "expected a value, found null", "leave the key out"
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        return f"expected a number of at most 63 bits, found one of {value.bit_length()}", ""
    if not isinstance(value, str | int | float):
        return f"expected text, a number, true or false, found a {type(value).__name__}", "put quotes around it"
    return "", ""


def _misfit_text(text: str) -> str:
    for character in text:
        if is_control(character) and character not in "\t\n\r":
            return f"expected text without control characters, found U+{ord(character):04X}"
        if "\ud800" <= character <= "\udfff":
            return f"expected Unicode text, found half a surrogate pair, U+{ord(character):04X}"
    return ""
