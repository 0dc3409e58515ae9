"""How mistakes in a manifest are put into words: places, values, suggestions, pydantic's errors."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from svid.errors import ManifestError, Problem

MAX_PROBLEMS = 100
"""How many mistakes are told at once."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_MAX_SHOWN = 60

_EXPECTED = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "finite_number": "expected a finite number",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "multiple_of": "expected a multiple of {multiple_of:g}",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "too_short": "expected at least {min_length} entries",
    "too_long": "expected at most {max_length} entries",
}


def refuse(problems: Iterable[Problem]) -> None:
    """Raise ManifestError with every problem, if there is one. Beyond MAX_PROBLEMS the rest is not even looked for,
    since a quarter of a megabyte holds a hundred thousand of them."""
    each = iter(dict.fromkeys(islice(problems, MAX_PROBLEMS + 1)))
    first = list(islice(each, MAX_PROBLEMS))
    if next(each, None) is not None:
        first.append(Problem(first[0].file, "", f"and more; these are the first {MAX_PROBLEMS}"))
    if first:
        raise ManifestError(first)


def place(loc: Iterable[str | int]) -> str:
    """`("loras", 0, "name")` as `loras[0].name`; lists count from 0, odd keys stand in quotes."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else json.dumps(_cut(part))
            text += f".{key}" if text else key
    return text


def shorten(value: Any) -> str:
    """A value as a manifest would write it, cut to a few words."""
    if isinstance(value, str):
        return json.dumps(_cut(value), ensure_ascii=not value.isprintable())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table" if value else "an empty table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return _cut(str(value))


def near(name: str, known: Collection[str]) -> str:
    """A hint: the known name that is closest to a wrong one, else what is known."""
    if not known:
        return "there is none"
    # get_close_matches takes time in the product of the lengths
    match = difflib.get_close_matches(name[:200], sorted(known), n=1)
    if not match:
        lower = {candidate.lower(): candidate for candidate in known}
        match = [lower[key] for key in difflib.get_close_matches(name[:200].lower(), sorted(lower), n=1)]
    return f"did you mean {match[0]}?" if match else _cut(f"known: {', '.join(sorted(known))}", 200)


def expected(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as "expected ..., found ..."."""
    kind, message = error["type"], error["msg"]
    if kind == "missing":
        return "expected a value, found none"
    if kind in _EXPECTED:
        said = _EXPECTED[kind].format(**error.get("ctx", {}))
        said = said.replace("at least 1 characters", "some text").replace("at least 1 entries", "at least one entry")
    else:
        # a validator's own words, or a kind of error that only a plugin's options can make
        said = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
        said = re.sub(r"^(Input|Value|String|Tuple|List) should ", "expected it to ", said)
    if kind in {"string_too_long", "too_long", "too_short"}:
        return f"{said}, found {len(error['input'])}"
    return said if ", found" in said else f"{said}, found {shorten(error['input'])}"


def at(data: Any, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], Any]:
    """As much of a place as is there in the data, and what is there. Where a shorthand stands for a table (one number
    for both experts), pydantic's place points into what it stands for."""
    reached: list[str | int] = []
    for part in loc:
        inside = isinstance(data, Mapping) if isinstance(part, str) else isinstance(data, list | tuple)
        if not inside:
            break
        reached.append(part)
        try:
            data = data[part]
        except LookupError:
            break
    return tuple(reached), data


def _cut(text: str, length: int = _MAX_SHOWN) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
