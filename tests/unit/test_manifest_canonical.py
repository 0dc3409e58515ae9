"""Canonical JSON: one text per value, and nothing that has none."""

from __future__ import annotations

import hashlib
import json
import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.canonical import MAX_DEPTH, canonical, digest
from svid.errors import SvidError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def test_keys_are_sorted_nothing_is_spaced_and_characters_stay() -> None:
    assert canonical({"b": [1, 1.0, True, None], "a": "häfen\n"}) == '{"a":"häfen\\n","b":[1,1.0,true,null]}'


def test_the_digest_is_that_of_the_text_in_utf8() -> None:
    assert digest({"a": "ä"}) == hashlib.sha256('{"a":"ä"}'.encode()).hexdigest()


def test_order_and_tuples_make_no_difference() -> None:
    assert canonical({"a": (1, 2), "b": 1}) == canonical({"b": 1, "a": [1, 2]})


def test_whole_numbers_and_floats_are_different_values() -> None:
    assert canonical(1) != canonical(1.0)
    assert canonical(True) != canonical(1)


@given(DATA)
def test_it_reads_back_and_stays_the_same(value: object) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [0, math.nan]}, "a[1]"),
        ({"a": {"b": math.inf}}, "a.b"),
        ({"a": {1: "x"}}, "a"),
        ({None: 1}, ""),
        ({"a": object()}, "a"),
        ({"a": b"x"}, "a"),
        ({"a": {1, 2}}, "a"),
        ({"a": "\ud800"}, "a"),
        ({"\ud800": 1}, ""),
        (MappingProxyType({"a": 1}), ""),
    ],
)
def test_what_has_no_text_of_its_own_is_refused_with_its_place(value: object, where: str) -> None:
    with pytest.raises(SvidError) as caught:
        canonical(value)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_every_misfit_is_told_at_once() -> None:
    with pytest.raises(SvidError) as caught:
        canonical({"a": math.nan, "b": object(), "c": 1})
    assert [problem.where for problem in caught.value.problems] == ["a", "b"]


def test_a_value_that_contains_itself_ends() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(SvidError, match=f"at most {MAX_DEPTH} levels"):
        canonical(value)
