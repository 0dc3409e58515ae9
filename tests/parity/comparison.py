"""Comparing with what was recorded: every tensor once by name, the largest difference, all mistakes at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tests.parity.cases import Case

EXACT = 0.0
MEAN = 1e-6
"""Allowed for the mean of CLIP's picture, for which the README names no number: it is exact but for summation."""


class Mismatch(AssertionError):
    """svid made something else than was recorded, or left something out."""


@dataclass
class Row:
    """A line of the table: the largest difference over all tensors of one kind, and what is allowed."""

    error: float
    allowed: float
    share: float | None = None
    """Of uint8 frames: how many values differ."""


class Comparison:
    """What svid made of a case, beside what was recorded."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rows: dict[str, Row] = {}
        self.aside: dict[str, str] = {}
        self._problems: list[str] = []

    def close(self, label: str, actual: torch.Tensor, name: str, allowed: float) -> None:
        """`actual` is the recorded tensor `name`, but for `allowed`."""
        self.compare(label, actual, self.case.expected[name], allowed, name)

    def compare(
        self, label: str, actual: torch.Tensor, expected: torch.Tensor, allowed: float = EXACT, name: str = ""
    ) -> None:
        """`actual` is `expected`, but for `allowed`."""
        name = f"{label}: {name}" if name else label
        if actual.shape != expected.shape:
            self.fail(f"{name}: expected the shape {list(expected.shape)}, found {list(actual.shape)}")
            return
        error = float((actual.double() - expected.double()).abs().max()) if expected.numel() else 0.0
        self._row(label, error, allowed)
        if not error <= allowed:  # NaN too
            self.fail(f"{name}: expected a difference of at most {allowed:g}, found {error:g}")

    def levels(self, label: str, actual: torch.Tensor, name: str, most: float, share: float) -> None:
        """`actual` are the recorded frames `name`: no value off by more than `most`, and at most a `share` of them."""
        self.compare_levels(label, actual, self.case.expected[name], most, share, name)

    def compare_levels(
        self, label: str, actual: torch.Tensor, expected: torch.Tensor, most: float, share: float = 1.0, name: str = ""
    ) -> None:
        """uint8 frames, as in `levels`."""
        shown = f"{label}: {name}" if name else label
        if (actual.dtype, expected.dtype) != (torch.uint8, torch.uint8):
            self.fail(f"{shown}: expected uint8 frames, found {actual.dtype} beside {expected.dtype}")
            return
        self.compare(label, actual, expected, most, name)
        if actual.shape == expected.shape:
            found = float((actual != expected).double().mean())
            row = self.rows[label]
            row.share = max(row.share or 0.0, found)
            if not found <= share:
                self.fail(f"{shown}: expected at most {share:g} of the values to differ, found {found:g}")

    def same(self, label: str, actual: Any, expected: Any) -> None:
        """Two values that are no tensors are equal."""
        self._row(label, 0.0 if actual == expected else float("inf"), EXACT)
        if actual != expected:
            self.fail(f"{label}: expected {expected!r}, found {actual!r}")

    def set_aside(self, name: str, reason: str) -> None:
        """A recorded tensor that informs and is not compared, by the README or because svid does not offer it."""
        self.aside[name] = reason
        if name in self.case.expected:
            self.case.expected[name]

    def fail(self, message: str) -> None:
        """Note a mistake; the comparison goes on."""
        self._problems.append(message)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Let a mistake that is raised be noted, with what is left of the case."""
        try:
            yield
        except AssertionError as error:
            self.fail(str(error))

    def done(self) -> None:
        """Raise Mismatch with every mistake, and with whatever of the case was not read or not compared."""
        if not self.rows:
            self.fail("nothing was compared")
        left = self.case.left()
        if left:
            self.fail(f"not understood, or not compared: {', '.join(left)}")
        if self._problems:
            raise Mismatch("\n".join([self.case.name, *self._problems]))

    def _row(self, label: str, error: float, allowed: float) -> None:
        row = self.rows.setdefault(label, Row(error, allowed))
        # max() would lose a NaN that comes second
        row.error = error if error != error else max(row.error, error)
        row.allowed = min(row.allowed, allowed)
