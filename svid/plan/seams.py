"""Whether the segments of a plan have the frames that their seams take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from svid.errors import Problem
from svid.layout import seams

if TYPE_CHECKING:
    from svid.plan.build import Planned


def too_short(segments: Sequence[Planned], room: int | None, file: str) -> Iterator[Problem]:
    """Seams that take all the frames of the segment before, which would leave nothing of it to be seen. `room` is what
    the segment before the first one has; None where there is none, or nothing was rendered to know it by."""
    for one in segments:
        seam = seams(one.settings.layout, first=one.index == 0, cut=one.cut is not None)
        if room is not None and one.clip is None and seam.parent_trim >= room:
            message = f"expected fewer frames than the {room} that segment {one.index} shows, found {seam.parent_trim}"
            hint = f"segment {one.index + 1} shows them in its place, as seam = {one.settings.layout.seam!r} has it"
            yield Problem(file, "conditioning.seam", message, hint)
        room = one.clip.frames if one.clip is not None else one.settings.frames - seam.overlap - seam.blend
