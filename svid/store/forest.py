"""The lineage as a forest: every segment under the one that it follows. Two queries, however many there are."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from svid.store.lineage import ancestor, resolve
from svid.store.models import Segment, Video

_ASK = Segment.ask
_SHOWN = (
    Segment.id,
    Segment.parent_id,
    Segment.index.label("place"),
    Segment.seed,
    Segment.frames,
    Segment.overlap,
    Segment.parent_trim,
    _ASK["prompt"].as_string().label("prompt"),
    _ASK["cut"].as_string().label("cut"),
    _ASK["clip"].as_string().label("clip"),
)


def forest(session: Session, video: str | None = None) -> list[dict[str, Any]]:
    """The trees of a home, or the one that a video stands in: number, seed, prompt, the frames that a segment shows
    (with the first of those that follow it), the videos that end there, and `children`. Raises NotFound."""
    found, tips = select(*_SHOWN), select(Video.tip_id, Video.id, Video.name).where(Video.tip_id.is_not(None))
    if video is not None:
        below = _below(_root(session, video))
        found, tips = found.where(Segment.id.in_(below)), tips.where(Video.tip_id.in_(below))
    ends = defaultdict(list)
    for tip, id_, name in session.execute(tips.order_by(Video.created)):
        ends[tip].append({"id": id_, "name": name})
    nodes: dict[str, dict[str, Any]] = {}
    roots = []
    for row in session.execute(found.order_by(Segment.index, Segment.created)):
        node = nodes[row.id] = {
            "id": row.id,
            "number": row.place + 1,
            "seed": int(row.seed),
            "prompt": row.prompt if row.clip is None else "(from a clip)",
            "cut": row.cut is not None,
            "videos": ends[row.id],
            "children": [],
            "frames": row.frames - row.overlap,
        }
        if row.parent_id is None:
            roots.append(node)
            continue
        parent = nodes[row.parent_id]
        if not parent["children"]:
            parent["frames"] -= row.parent_trim
        parent["children"].append(node)
    return roots


def _root(session: Session, video: str) -> str | None:
    tip = resolve(session, video).video.tip_id
    first = ancestor(session, tip, 0) if tip else None
    return first.id if first else None


def _below(root: str | None) -> Select[tuple[str]]:
    """The ids of a segment and of all that follow it."""
    walk = select(Segment.id).where(Segment.id == root).cte("below", recursive=True)
    child = aliased(Segment)
    walk = walk.union_all(select(child.id).join(walk, child.parent_id == walk.c.id))
    return select(walk.c.id)
