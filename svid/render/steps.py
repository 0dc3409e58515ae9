"""The steps of one segment, as its sampler tells them, and the LoRAs that change between them."""

from __future__ import annotations

from typing import Any

from svid.api import Applied, Snapshot
from svid.plugin.witness import By


class Steps:
    """How far a sampler is. Where LoRAs change from step to step it has to tell of every one: what ends a step begins
    the next."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self._done, self._steps = 0, 0
        self.begin(1)

    def begin(self, step: int) -> None:
        """Have the LoRAs of a step, counted from 1."""
        if self._applied.begin_step is not None:
            self._applied.begin_step(step)

    def resume(self, snapshot: Snapshot) -> None:
        """The segment goes on after the step of a snapshot."""
        self._done, self._steps = snapshot.step, snapshot.steps
        if snapshot.step < snapshot.steps:
            self.begin(snapshot.step + 1)

    def told(self, step: Any, steps: Any) -> None:
        """A sampler says that `step` of `steps` is done. Raises ValueError, into its code, where that can't be."""
        found = f"found {step!r} of {steps!r}"
        if not (isinstance(step, int) and isinstance(steps, int) and 1 <= step <= steps):
            raise ValueError(f"progress: expected whole numbers from 1 on, {found}")
        if self._applied.begin_step is not None and (step != self._done + 1 or steps != (self._steps or steps)):
            raise ValueError(f"progress: expected step {self._done + 1} of {self._steps or steps}, {found}")
        self._done, self._steps = step, steps

    def finish(self, by: By) -> None:
        """The sampler has answered. Raises StageError where it has left out steps that LoRAs need."""
        if self._applied.begin_step is not None and (not self._done or self._done != self._steps):
            found = f"found {self._done} of {self._steps} steps told" if self._done else "found none"
            hint = "a sampler calls progress(step, steps) after every step"
            raise by.wrong(f"expected it to tell of every step, because LoRAs change between them, {found}", hint)
