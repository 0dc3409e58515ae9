"""Applied LoRAs, kept from one segment to the next as long as they are the same ones.

Merging moves the weights of two experts; between segments with the same LoRAs that would be work for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from svid.api import Applied


class HeldLoras:
    """The one context that svid_apply_loras gave last, as long as it is open."""

    def __init__(self) -> None:
        self._key = ""
        self._context: AbstractContextManager[Applied] | None = None
        self._applied = Applied({})

    def apply(self, key: str, make: Callable[[], AbstractContextManager[Applied]]) -> Applied:
        """Have the LoRAs that `key` stands for applied, and return what they changed."""
        if self._context is None or self._key != key:
            self.release()
            context = make()
            self._applied = context.__enter__()
            self._key, self._context = key, context
        return self._applied

    def release(self) -> None:
        """Restore the weights."""
        if self._context is not None:
            context, self._context, self._applied = self._context, None, Applied({})
            context.__exit__(None, None, None)
