"""Which memory plan the models of a daemon are placed by, and the next smaller one when memory runs out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svid.memory import ANY, AUTO, first_plan, smaller


class Ladder:
    """What was learned of the memory that models need, for the life of a daemon."""

    def __init__(self, written: str) -> None:
        """`written` is `[render] memory`."""
        self._written = written
        self.plans: dict[str, str] = {}
        """The plan of each model, by name, that the first one was too large for. ANY stands for models that have none
        here: memory ran out before a process could say which it was about to load."""

    def met(self, doing: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
        """What an attempt that ran out of memory means: its outcome, with the plan that was too large, the `next` one
        (None: there is none, and the job has failed) and the size of the segment. `doing` is what its process said of
        the job."""
        model = doing.get("model", ANY)
        plan = doing.get("memory") or self.plans.get(ANY, first_plan(self._written))
        following = smaller(plan) if self._written == AUTO else None
        if following is not None:
            self.plans[model] = following
        size = doing.get("size", "its beginning")
        return {**outcome, "model": model, "memory": plan, "next": following, "size": size}
