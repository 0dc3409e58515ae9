"""Mutations: of bytes, of text with a dictionary, of plain data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\x7f")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", " ", "\ud800", "\x00", "x" * 300),
    *([], {}, [[]], {"a": {}}, ["a"] * 50, "../../../etc/passwd", "/dev/zero", "asset:" + "0" * 64),
)


def mutated(data: bytes, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to six places changed: bits, bytes, whole numbers, pieces cut, doubled, or taken from another."""
    made = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        if not made:
            break
        # Headers stand first, and a small file's interesting bytes are there.
        place = dice.randrange(min(len(made), 64) if dice.random() < 0.3 else len(made))
        way = dice.randrange(8)
        if way == 0:
            made[place] ^= 1 << dice.randrange(8)
        elif way == 1:
            made[place] = dice.randrange(256)
        elif way in (2, 3):
            made[place : place + 4] = dice.choice(NUMBERS)
        elif way == 4:
            del made[place : place + dice.randint(1, 64)]
        elif way == 5:
            made[place:place] = made[place : place + dice.randint(1, 64)]
        elif way == 6 and dice.random() < 0.3:
            del made[place:]
        elif others:
            other = dice.choice(others)
            start = dice.randrange(len(other))
            made[place : place + 32] = other[start : start + dice.randint(1, 64)]
    return bytes(made)


def mutated_text(text: str, words: Sequence[str], dice: random.Random) -> str:
    """`text` with words of a dictionary put in, lines doubled or dropped, characters changed."""
    for _ in range(dice.randint(1, 4)):
        place = dice.randint(0, len(text))
        way = dice.randrange(5)
        if way <= 1:
            text = text[:place] + dice.choice(words) + text[place + dice.choice((0, 0, 1, 5)) :]
        elif way == 2:
            lines = text.split("\n")
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
            text = "\n".join(lines)
        elif way == 3:
            lines = text.split("\n")
            del lines[dice.randrange(len(lines))]
            text = "\n".join(lines)
        else:
            text = (
                text[:place] + chr(dice.choice((dice.randrange(32, 127), dice.randrange(0xD7FF)))) + text[place + 1 :]
            )
    return text


def scrambled(data: Any, dice: random.Random) -> Any:
    """Plain data with one value replaced by a hostile one, somewhere."""
    if isinstance(data, dict) and data and dice.random() < 0.9:
        key = dice.choice(list(data))
        if dice.random() < 0.1:
            return {**data, dice.choice(("\x1b", "x.y", "__proto__", "a" * 300, "\ud800")): data[key]}
        return {**data, key: scrambled(data[key], dice)}
    if isinstance(data, list) and data and dice.random() < 0.8:
        place = dice.randrange(len(data))
        return [*data[:place], scrambled(data[place], dice), *data[place + 1 :]]
    return dice.choice(VALUES)


def crossed(one: Any, other: Any, dice: random.Random) -> Any:
    """Plain data with something of another's: a key of it, or, where both have a table under a key, of that table."""
    if not (isinstance(one, dict) and isinstance(other, dict) and other):
        return one
    key = dice.choice(list(other))
    if isinstance(one.get(key), dict) and dice.random() < 0.7:
        return {**one, key: crossed(one[key], other[key], dice)}
    return {**one, key: other[key]}
