"""The fuzzer's short form, and what it once found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.fuzz import Way, feed, make, run
from tests.hostile.reach import Corpus

FINDS = Path(__file__).parent / "finds"
SHORT = {"manifest": 150, "header": 150, "lora": 80, "picture": 40, "clip": 24, "render": 10}


@pytest.mark.parametrize("kind", SHORT)
def test_mutated_inputs_are_refused_or_come_out_right(kind: str, tmp_path: Path) -> None:
    counts = run(kind, 7, 0, SHORT[kind], tmp_path)
    assert counts["unclean"] == 0, sorted(path.name for path in tmp_path.iterdir())
    assert counts["refused"] > SHORT[kind] / 10, "mutations that do no harm find nothing"
    assert counts["accepted"], "nothing was checked that was accepted"


@pytest.mark.parametrize("find", sorted(FINDS.iterdir()), ids=lambda path: path.name)
def test_finds_stay_mended(find: Path, tmp_path: Path) -> None:
    """A find is called KIND-WHAT.bin."""
    outcome, said = feed(find.name.partition("-")[0], find.read_bytes(), tmp_path)
    assert outcome != "unclean", said


def test_a_run_that_was_interrupted_goes_on_as_one_that_was_not(tmp_path: Path) -> None:
    """The corpus decides what later inputs are made from, so it has to be the same one as well."""
    run("clip", 3, 0, 40, tmp_path)  # so that what a process does once is done
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    run("clip", 3, 0, 40, whole)
    for first, last in ((0, 10), (10, 25), (25, 40)):
        run("clip", 3, first, last, parts)
    journal = Way("clip", whole).journal.read_text()
    assert journal.count("\n") > 3
    assert Way("clip", parts).journal.read_text() == journal


def test_an_input_that_reaches_something_new_has_others_made_from_it(tmp_path: Path) -> None:
    run("clip", 3, 0, 30, tmp_path)
    corpus = Corpus(Way("clip", tmp_path).journal)
    fresh = [make("clip", 3, number, Corpus()) for number in range(30, 60)]
    guided = [make("clip", 3, number, corpus) for number in range(30, 60)]
    assert 5 < sum(one != other for one, other in zip(fresh, guided, strict=True)) < 25
    assert guided == [make("clip", 3, number, corpus) for number in range(30, 60)]
