"""Applied LoRAs, kept from one segment to the next as long as they are the same ones.

Merging moves the weights of two experts; between segments with the same LoRAs that would be work for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

Report = Mapping[str, Any]


class HeldLoras:
    """The one context that svid_apply_loras gave last, as long as it is open."""

    def __init__(self) -> None:
        self._key = ""
        self._context: AbstractContextManager[Report] | None = None
        self._report: Report = {}

    def apply(self, key: str, make: Callable[[], AbstractContextManager[Report]]) -> Report:
        """Have the LoRAs that `key` stands for applied, and return what they changed."""
        if self._context is None or self._key != key:
            self.release()
            context = make()
            self._report = context.__enter__()
            self._key, self._context = key, context
        return self._report

    def release(self) -> None:
        """Restore the weights."""
        if self._context is not None:
            context, self._context, self._report = self._context, None, {}
            context.__exit__(None, None, None)
