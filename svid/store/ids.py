"""The two hashes of a segment: of what was asked, and of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svid.canonical import digest


def ask_key(ask: Mapping[str, Any]) -> str:
    """The hash of an ask."""
    return digest(ask)


def segment_id(key: str, latents: str, tail: str) -> str:
    """The id of a segment: the hash of its ask and of the blobs that came out. The same bytes give the same id, so that
    a second rendering proves the first; other bytes become a sibling."""
    return digest({"ask": key, "latents": latents, "tail": tail})
