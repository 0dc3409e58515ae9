"""docs/parity.md: what was compared, how far off svid was, and what it was compared with."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import diffusers
import torch

from tests.parity.cases import Case, case_folders, root
from tests.parity.comparison import Comparison, Row

Results = dict[str, Comparison | str]
"""By case: what was compared, or why no plugin serves it."""

HEAD = """\
# Parity

What svid makes of the recorded cases in `tests/parity/data`, beside what the reference implementations made of the same
weights and inputs: the largest absolute difference. The recordings have tiny random weights and are in fp32 on a CPU;
`tests/parity/data/README.md` describes them. Everything here came out of the plugins that render in production.

This page is written by the comparison itself:

    SVID_PARITY_TABLE=docs/parity.md python -m pytest tests/parity

Last written with torch {torch}, diffusers {diffusers}, {machine}. Another processor rounds otherwise, and the small
numbers change with it. "Allowed" are the tolerances that stand in each case; what is "exact" is equal, bit for bit.
"""

VIDEOS = """
## Videos

Every clip continues the recorded one before it; "free running" continues svid's own, so a value of an 8-bit frame that
was rounded otherwise comes back through the VAE. Of frames: levels of 255, and how many of the values differ.
"""

PARTS = """
## Conditioning, stitching and single parts

Where an overlap is blended, the recordings cut the mixed levels off and svid rounds them, because cutting off would
darken what is the same in both clips; hence a level of difference.
"""

ASIDE = """
## Recorded, but not compared
"""

LATER = """
## Not served yet

These cases are strict expected failures: no plugin brings a recipe for them.
"""

REFERENCES = """
## What was run for the recordings
"""


def write(path: Path, results: Results) -> None:
    """Write the page. Raises RuntimeError where a case has no result: a page without it would look complete."""
    folders = {folder.name: folder for folder in case_folders(root())}
    missing = [name for name in folders if name not in results]
    if missing:
        raise RuntimeError(f"the table was not written, as there is no result of {', '.join(missing)}")
    path.write_text(text({name: Case(folder) for name, folder in folders.items()}, results))


def text(cases: Mapping[str, Case], results: Results) -> str:
    """The page."""
    compared = {name: one for name, one in results.items() if isinstance(one, Comparison)}
    videos = {name: one for name, one in compared.items() if cases[name].kind == "video"}
    machine = f"{platform.system()} {platform.machine()}"
    parts = [HEAD.format(torch=torch.__version__.partition("+")[0], diffusers=diffusers.__version__, machine=machine)]
    if videos:
        parts += [VIDEOS, _table(["tensor", "allowed", *map(_code, videos)], _by_tensor(videos))]
    rows = [
        [_code(name), label, _number(row), _allowed([row])]
        for name, one in compared.items()
        if name not in videos
        for label, row in one.rows.items()
    ]
    parts += [PARTS, _table(["case", "tensor", "largest difference", "allowed"], rows)]
    aside = [[_code(name), what, why] for name, one in compared.items() for what, why in _grouped(one.aside)]
    if aside:
        parts += [ASIDE, _table(["case", "tensor", "why"], aside)]
    later = [[_code(name), f"variant `{cases[name].variant}`"] for name, one in results.items() if isinstance(one, str)]
    if later:
        parts += [LATER, _table(["case", "what"], later)]
    made = [[_code(name), cases[name].variant or cases[name].kind, _reference(cases[name])] for name in results]
    parts += [REFERENCES, _table(["case", "variant", "reference and commit"], made)]
    return "".join(parts)


def _by_tensor(videos: Mapping[str, Comparison]) -> list[list[str]]:
    longest_first = sorted(videos.values(), key=lambda one: len(one.rows), reverse=True)
    labels = dict.fromkeys(label for one in longest_first for label in one.rows)
    rows = {label: [one.rows.get(label) for one in videos.values()] for label in labels}
    return [
        [label, _allowed(row for row in found if row), *("" if row is None else _number(row) for row in found)]
        for label, found in rows.items()
    ]


def _number(row: Row) -> str:
    number = f"{row.error:.2g}"
    return f"{number} ({row.share:.2%})" if row.share else number


def _allowed(rows: Iterable[Row]) -> str:
    found = sorted({row.allowed for row in rows})
    return ", ".join("exact" if one == 0 else f"{one:g}" for one in found)


def _grouped(aside: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((re.sub(r"\.\d+$", ".*", name), reason) for name, reason in aside.items()))


def _reference(case: Case) -> str:
    reference = case.reference
    if "repo" in reference:
        return f"{reference['repo']} @ {reference['commit']}"
    return "; ".join(reference["repos"])


def _code(name: str) -> str:
    return f"`{name}`"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
