"""A quarter of a megabyte of anything is understood or refused in a moment."""

from __future__ import annotations

import time

import pytest

from svid.errors import ManifestError
from svid.manifest.read import Known, parse, validate
from svid.manifest.syntax import MAX_BYTES

UNITS = (
    *("a.", "[", "{", "]", '"', "'", '"""', "'''", "\\", "#", "\n", "=", "1", "_", "1_", "-", "+", ".", "e", "\t", " "),
    *(
        "a=1\n",
        "[a]\n",
        "[[a]]\n",
        "[[a.b]]\n",
        "[a.b.c.d.e.f.g]\n",
        "a.b.c.d.e.f.g=1\n",
        "a=[",
        "a={b=",
        "a={},",
        "1,",
    ),
    *('"\\u0041', '"a".', "'a'.", '""\n', "1979-05-27T07:32:00Z", "é", "\ufeff", "\U0001f600", "\\ud800", "null,"),
    *(
        '{"a":',
        "[1,",
        '"a":1,',
        "[[[[[[[[1]]]]]]]],",
        "0x",
        "0b1",
        "inf",
        "nan",
        "true",
        "a = 1\r\n",
        "{a.b.c=1}",
        "\x7f",
    ),
)


SIZE = MAX_BYTES // 4
"""What takes a second here would take four, or sixteen, at the limit."""


def _refused(data: bytes, suffix: str) -> bool:
    try:
        parse(data, suffix, "m")
    except ManifestError:
        return True
    return False


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_nothing_repeated_takes_long(suffix: str) -> None:
    slow, refused = [], 0
    for unit in UNITS:
        for start, end in (("", ""), ("a = [", "]"), ('{"a": [', "]}")):
            size = (SIZE - len(start) - len(end)) // len(unit.encode())
            began = time.process_time()
            refused += _refused((start + unit * size + end).encode(), suffix)
            if time.process_time() - began > 1:
                slow.append((start, unit))
    assert slow == []
    assert refused > 50


def test_distinct_keys_and_tables_take_no_long_either() -> None:
    for pattern in ("a{} = 1\n", "[a{}]\n", "[[a.b{}]]\n", "a.b{} = 1\n", "[a.b.c{}]\nx=1\n", "a{}.b.c.d.e.f.g = 1\n"):
        data = "".join(pattern.format(number) for number in range(SIZE // (len(pattern) + 4)))
        began = time.process_time()
        with pytest.raises(ManifestError):
            validate(parse(data.encode(), ".toml", "m"), "m", {}, Known())
        assert time.process_time() - began < 1.5, pattern


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"seed": 1, "seed": 2}', "seed: expected each key once"),
        ('{"sample": {"steps": 1, "steps": 2}}', "sample.steps: expected each key once"),
        ('{"fps": NaN}', "fps: expected a finite number"),
        ('{"fps": 1e999}', "fps: expected a finite number"),
        ('{"name": "\\ud800"}', "half a surrogate pair"),
        ('{"\\udc00": 1}', "half a surrogate pair"),
        ('{"name": "a\\u0000b"}', "U\\+0000"),
        ('{"name": "a\\u001b[2J"}', "U\\+001B"),
        ('{"seed": ' + "9" * 5000 + "}", "one of thousands of digits"),
        ('{"seed": ' + "9" * 4000 + "}", "at most 63 bits"),
        ('{"a":' * 20_000, "nested too deeply"),
        ("[1]", "expected an object"),
    ],
)
def test_json(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        parse(text.encode(), ".json", "m")
    assert str(caught.value).startswith("m: ")
