from __future__ import annotations

from pathlib import Path

import pytest

from svid.store.files import file_stem


@pytest.mark.parametrize(
    ("name", "stem"),
    [("harbour at dawn", "harbour-at-dawn"), ("../../x", "x"), ("…", "video"), ("-_a_-", "a"), ("夜の港", "夜の港")],
)
def test_a_name_becomes_a_file_name(name: str, stem: str) -> None:
    assert file_stem(name) == stem


@pytest.mark.parametrize("letter", ["a", "é", "港", "𠮷"])
def test_no_name_is_too_long_for_a_file_system(letter: str, tmp_path: Path) -> None:
    stem = file_stem(letter * 200)
    assert set(stem) == {letter}
    assert len(stem) == min(80, 160 // len(letter.encode()))
    (tmp_path / f"{stem}.mp4").touch()
