"""What is left of a manifest of which the first segments are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEPT = ("priority", "reuse")
"""What is the job's and not the video's, so that no segment hands it on."""


def rest(written: Mapping[str, Any], done: int, wanted: int, repeat: int) -> dict[str, Any] | None:
    """What a manifest, as plain data without nulls, asks for after the first `done` of its `wanted` segments, by a
    recipe that uses each prompt `repeat` times. It says nothing of what it stands on, nor of what holds for all
    segments: those that are there hand that on, and after a cut or with `anchors` it is no more what the manifest says.

    None where it would have to begin in the middle of a prompt that others follow.
    """
    prompts, anchors = written.get("prompts", ()), written.get("anchors", ())
    used, inside = divmod(done, repeat)
    if inside and used + 1 < len(prompts):
        return None
    # The last prompt and the last anchor hold on by themselves.
    found = {
        "prompts": [] if inside else list(prompts[used:]),
        "anchors": list(anchors[done:]),
        "cuts": [one | {"segment": one["segment"] - done} for one in written.get("cuts", ()) if one["segment"] > done],
        "ends": _ends(written, done),
        "loras": _loras(written, done),
    }
    kept = {key: written[key] for key in KEPT if key in written}
    return {"segments": wanted - done} | {key: value for key, value in found.items() if value} | kept


def _ends(written: Mapping[str, Any], done: int) -> list[dict[str, Any]]:
    found = []
    for end in written.get("ends", ()):
        if "segment" not in end:  # the last one, whatever its number
            found.append(end)
        elif end["segment"] > done:
            found.append(end | {"segment": end["segment"] - done})
    return found


def _loras(written: Mapping[str, Any], done: int) -> list[dict[str, Any]]:
    """Those for single segments: the others are handed on."""
    found = []
    for lora in written.get("loras", ()):
        left = [number - done for number in lora.get("segments", ()) if number > done]
        found += [lora | {"segments": left}] if left else []
    return found
