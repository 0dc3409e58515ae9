"""Why two segments are not the same: their asks, key by key, and the circumstances that they were rendered under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Session

from svid.errors import Ambiguous, NotFound, Problem
from svid.store.lineage import resolve, segment_at, segment_begun
from svid.store.models import Segment

PASSING = ("stages", "resumed")
"""What of the circumstances is another each time, and decides nothing: seconds, and where a kill was."""


def find_segment(session: Session, written: str) -> Segment:
    """The segment that is named: as `VIDEO@k` or as the last one of a video, else by its id or a unique beginning of
    it, which may be a video's name by chance. Raises NotFound."""
    try:
        base = resolve(session, written)
    except Ambiguous:
        raise
    except NotFound:
        found = segment_begun(session, written)
        if found is None:
            raise
        return found
    if base.video.tip_id is None:
        raise NotFound(Problem(written, "", "the video has no segment yet"))
    if base.length is None:
        return session.get_one(Segment, base.video.tip_id)
    return segment_at(session, base.video, base.length)


def explain(a: Segment, b: Segment) -> dict[str, Any]:
    """Every key (`sampling.steps`, `loras[0].high.strength`) in which the asks of two segments differ, with each
    one's value, None where it has no such key; and likewise the circumstances."""
    one, other = ({key: value for key, value in row.env.items() if key not in PASSING} for row in (a, b))
    return {
        "a": a.id,
        "b": b.id,
        "same_ask": a.ask_key == b.ask_key,
        "same_answer": (a.latents, a.tail) == (b.latents, b.tail),
        "ask": list(differences(a.ask, b.ask)),
        "env": list(differences(one, other)),
    }


def differences(a: Any, b: Any, where: str = "") -> Iterator[dict[str, Any]]:
    """The places in which two values of plain JSON differ, deepest first found, in the order of their keys."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from differences(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif isinstance(a, list) and isinstance(b, list):
        for place in range(max(len(a), len(b))):
            one, other = (given[place] if place < len(given) else None for given in (a, b))
            yield from differences(one, other, f"{where}[{place}]")
    elif a != b or type(a) is not type(b):
        yield {"key": where, "a": a, "b": b}
