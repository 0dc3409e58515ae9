"""From bytes to data: what a parser would let pass, or choke on, is refused in time and with its place."""

from __future__ import annotations

import json
import time
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.errors import ManifestError, Problem
from svid.manifest.read import MAX_BYTES, parse
from svid.manifest.syntax import MAX_DEPTH, MAX_KEY_PARTS

HUGE = MAX_BYTES - 100


def refused(data: bytes | str, suffix: str) -> list[Problem]:
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    with pytest.raises(ManifestError) as caught:
        parse(data, suffix, "m" + suffix)
    assert all(problem.file == "m" + suffix for problem in caught.value.problems)
    return list(caught.value.problems)


def outcome(data: bytes, suffix: str) -> dict[str, Any] | ManifestError:
    try:
        return parse(data, suffix, "m")
    except ManifestError as error:
        return error


def test_both_formats_say_the_same() -> None:
    toml = 'name = "häfen"\nprompts = ["a", "b"]\nseed = 1\nfps = 15.5\nreuse = true\n[sample]\nsteps = 6\n'
    data = parse(toml.encode(), ".toml", "m")
    assert data == parse(json.dumps(data).encode(), ".json", "m")


def test_a_byte_order_mark_is_tolerated() -> None:
    assert parse(b'\xef\xbb\xbfname = "a"', ".toml", "m") == {"name": "a"}
    assert parse(b'\xef\xbb\xbf{"name": "a"}', ".json", "m") == {"name": "a"}


def test_a_json_file_may_name_its_schema() -> None:
    assert parse(b'{"$schema": "schema.json", "name": "a"}', ".json", "m") == {"name": "a"}


def test_text_of_many_lines_is_fine() -> None:
    assert parse(b'a = """one\n\ttwo"""', ".toml", "m") == {"a": "one\n\ttwo"}


@pytest.mark.parametrize("suffix", [".toml", ".json"])
class TestEitherFormat:
    def test_too_large(self, suffix: str) -> None:
        assert "at most 256 KiB, found 257 KiB" in refused(b" " * (MAX_BYTES + 1), suffix)[0].message

    def test_not_utf8_names_the_line(self, suffix: str) -> None:
        (problem,) = refused(b"\n\n caf\xe9", suffix)
        assert (problem.where, problem.message) == ("line 3", "expected UTF-8 text, found the byte 0xe9")

    def test_utf16(self, suffix: str) -> None:
        assert "UTF-8" in refused('{"a": 1}'.encode("utf-16"), suffix)[0].message

    def test_nonsense_names_line_and_column(self, suffix: str) -> None:
        assert refused(b"\n{{{", suffix)[0].where.startswith("line 2, column ")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ('{"a": 1, "a": 2}', "a", "each key once"),
        ('{"loras": [{"name": "x"}, {"high": 1, "high": 2}]}', "loras[1].high", "each key once"),
        ('{"a": NaN}', "a", "finite"),
        ('{"a": [1, -Infinity]}', "a[1]", "finite"),
        ('{"a": 1e400}', "a", "finite"),
        ('{"a": "\\ud800"}', "a", "surrogate"),
        ('{"a": {"\\udc00": 1}}', "a", "surrogate"),
        ('{"a": "x\\u0000y"}', "a", "U+0000"),
        ('{"a": "\\u001b[31m"}', "a", "U+001B"),
        ('{"a": "\\u0085"}', "a", "U+0085"),
        ('{"a\\u0007": 1}', "", "U+0007"),
        ('{"a": null}', "a", "null"),
        ('{"a": 9223372036854775808}', "a", "63 bits"),
        (f'{{"a": {"9" * 4000}}}', "a", "63 bits"),
        (f'{{"a": {"9" * 5000}}}', "line 1", "found one of thousands of digits"),
        ("[1]", "", "expected an object"),
        ("", "line 1, column 1", "not valid JSON"),
        ('{"a": 1,}', "line 1, column", "not valid JSON"),
        ('{"a": ' * 20 + "1" + "}" * 20, ".".join("a" * (MAX_DEPTH + 1)), "levels of nesting"),
        ("[" * 100_000, "", "nested too deeply"),
        ('{"a":' * 40_000, "", "nested too deeply"),
    ],
)
def test_json_that_is_refused(text: str, where: str, message: str) -> None:
    (problem,) = refused(text, ".json")
    assert problem.where.startswith(where)
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a = 1\na = 2\n\n", "line 2", "Cannot overwrite"),
        ("a = nan", "a", "finite"),
        ("a = [1.0, -inf]", "a[1]", "finite"),
        ("a = 1e400", "a", "finite"),
        ('a = "x\\u0000y"', "a", "U+0000"),
        ('"a\\u001b" = 1', "", "U+001B"),
        ("a = 9223372036854775808", "a", "63 bits"),
        (f"a = 0x{'f' * 50_000}", "a", "63 bits"),
        (f"a = {'9' * 5000}", "line 1", "found one of thousands of digits"),
        ("a = 2026-01-01", "a", "found a date"),
        ("a = 07:30:00", "a", "found a time"),
        ("a = 2026-02-30", "line 1", "not valid TOML"),
        ("a = boats", "line 1, column 5", "Invalid value"),
        ("a = '''", "", "not valid TOML"),
        ("a" + ".a" * MAX_KEY_PARTS + " = 1", "line 1", "parts in a dotted key"),
        ("\n\n[a" + " . 'b.c'" * MAX_KEY_PARTS + "]", "line 3", "parts in a dotted key"),
        ("x = '''\n\n'''\na = " + "[" * (MAX_DEPTH + 1), "line 4", "levels of brackets"),
        ("a = " + "{a=" * (MAX_DEPTH + 1), "line 1", "levels of brackets"),
    ],
)
def test_toml_that_is_refused(text: str, where: str, message: str) -> None:
    (problem,) = refused(text, ".toml")
    assert problem.where.startswith(where)
    assert message in problem.message


def test_another_suffix_is_refused() -> None:
    assert "found '.yaml'" in refused(b"a: 1", ".yaml")[0].message


@pytest.mark.parametrize(
    "text",
    [
        "a = '" + "." * 1000 + "'",
        'a = "' + ".[{" * 1000 + '"',
        'a = "\\"' + "." * 100 + '"',
        'a = """\n"' + "[.\n" * 100 + '\\""""',
        "a = '''" + "'[.\n" * 100 + "''''",
        "# " + ".[" * 1000 + "\na = 1",
        "a = [" + "0.5, " * 1000 + "]",
        "a.b.c.d.e.f.g.h = 1",
    ],
)
def test_dots_and_brackets_count_only_in_structure(text: str) -> None:
    assert parse(text.encode(), ".toml", "m") == tomllib.loads(text)


HOSTILE_TOML = {
    "dotted key": "a." * (HUGE // 2) + "a = 1",
    "quoted dotted key": '"a".' * (HUGE // 4),
    "dotted header": "[" + "a." * (HUGE // 2),
    "deep array": "a = " + "[" * HUGE,
    "open strings": '"""' + '"' * HUGE,
    "open literal": "'''" + "'" * HUGE,
    "backslashes": '"' + '\\"' * (HUGE // 2),
    "one word": "a" * HUGE,
    "spaces": "a" + " " * HUGE,
    "keys of eight parts": "".join(f"a{i}.b.c.d.e.f.g.h=1\n" for i in range(HUGE // 24)),
    "array tables": "[[a]]\n" * (HUGE // 6),
    "headers": "[a.b.c]\n[a.b]\n" * (HUGE // 14),
    "empty tables": "a = [" + "{}," * (HUGE // 3) + "]",
    "hex digits": "a = 0x" + "f" * HUGE,
    "digits": "a = " + "9" * HUGE,
    "escapes": 'a = """' + "\\n" * (HUGE // 2) + '"""',
    "comments": "#\n" * (HUGE // 2),
}
HOSTILE_JSON = {
    "one key twice": "{" + ",".join(f'"k{i}":1' for i in range(20_000)) + ',"k1":1}',
    "every key twice": "{" + ",".join(f'"k{i % 9000}":1' for i in range(22_000)) + "}",
    "deep": "[" * HUGE,
    "misfits": "[" + "NaN," * (HUGE // 5) + "1]",
    "nulls": '{"a":[' + "null," * (HUGE // 6) + "1]}",
}


@pytest.mark.parametrize(
    ("text", "suffix"),
    [pytest.param(text, ".toml", id=f"toml {name}") for name, text in HOSTILE_TOML.items()]
    + [pytest.param(text, ".json", id=f"json {name}") for name, text in HOSTILE_JSON.items()],
)
def test_no_file_takes_long(text: str, suffix: str) -> None:
    assert len(text) <= MAX_BYTES
    began = time.process_time()
    found = outcome(text.encode(), suffix)
    assert time.process_time() - began < 2.5  # a few tenths; without the caps, minutes
    assert isinstance(found, dict) or len(found.problems) <= 101


@given(st.binary(max_size=200), st.sampled_from([".toml", ".json"]))
def test_any_bytes_are_read_or_refused(data: bytes, suffix: str) -> None:
    found = outcome(data, suffix)
    assert isinstance(found, dict) or str(found)


@given(st.text(alphabet="ab.=[]{}\"'#\\\n, 01", max_size=60))
def test_what_tomllib_reads_and_no_rule_forbids_is_read_alike(text: str) -> None:
    try:
        expected = tomllib.loads(text)
    except ValueError:
        return
    found = outcome(text.encode(), ".toml")
    assert found == expected or "parts in a dotted key" in str(found) or "levels" in str(found)
