"""Ids that follow from what was asked and from what came out."""

from __future__ import annotations

import hashlib
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


def job_ids(asked: str, occurrence: int) -> tuple[str, str]:
    """The id of a job, by the digest of what it asks for and how often that was asked before in this database, and that
    of the video that it makes, if it makes one. So two databases that are asked the same things give the same names,
    and files with the names inside the same bytes."""
    fingerprint = hashlib.sha256(f"{asked} {occurrence}".encode()).hexdigest()
    return f"j{fingerprint[:12]}", f"v{fingerprint[12:24]}"
