"""What the segment loop tells the outside, and how it is told to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from svid.api import Progress
from svid.crash import crashpoint
from svid.errors import Cancelled

Tell = Callable[[Mapping[str, Any]], None]


class Watch:
    """Passes events on, and stops the work: between two segments when asked politely, at the next step when not."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.stop_after_segment = False
        self.stop_now = False

    def begin(self) -> None:
        """Forget what the job before was told."""
        self.stop_after_segment = self.stop_now = False

    @property
    def told(self) -> bool:
        """Whether the work was told to stop, one way or the other."""
        return self.stop_after_segment or self.stop_now

    def between_segments(self) -> None:
        """Raises Cancelled where the work is to stop after a finished segment."""
        if self.told:
            raise Cancelled

    def stepper(self, facts: Mapping[str, Any]) -> Progress:
        """A Progress for a segment; `facts` go into every event."""

        def progress(step: int, steps: int) -> None:
            self.tell({"event": "step", "step": step, "steps": steps, **facts})
            if step < steps:  # and not at the first only: a segment that goes on may not have one
                crashpoint("mid-sampling")
            if self.stop_now:
                raise Cancelled

        return progress
