"""The rules that tie fields of a manifest together. They read plain data and pass over whatever is not of its type, so
that they can run before, and beside, the checks of single fields."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

START = ("image", "clip", "extend", "branch", "redo", "reproduce")
NEW = ("image", "clip")
"""The ways to begin that make a new video, which says what it shows."""
REDO = ("segments", "anchors", "cuts", "width", "height", "max_width", "fps", "encode")
"""What holds for more than the one segment that is rendered again."""
BESIDE = ("reproduce", "name", "priority", "reuse", "drop_options")
"""All that a manifest may say that asks for the same again."""


class Fault(NamedTuple):
    """A broken rule: the place in the manifest, what was expected and found, a suggestion."""

    where: str
    message: str
    hint: str = ""


def across(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Every broken rule of a manifest."""
    yield from _start(data)
    yield from _prompts(data)
    yield from _cuts(data)
    yield from _sample(data)
    yield from _loras(data)
    yield from _anchors(data)
    yield from _ends(data)
    yield from _size(data)
    yield from _again(data)
    yield from _dropped(data)


def segment_count(data: Mapping[str, Any]) -> int:
    """How many segments a manifest asks for: as it says, else one per prompt, else one; for a branch alone, none. What
    follows a segment that is rendered again does not count: the manifest has nothing to say about it."""
    if data.get("redo") is not None:
        return 1
    segments = data.get("segments")
    if _is_int(segments):
        return segments
    return len(_list(data, "prompts")) or (0 if data.get("branch") is not None else 1)


def most_segments(data: Mapping[str, Any]) -> int:
    """How many segments there may be at the most: where only the prompts tell, a recipe may use each for several, and
    the plan knows how many. A number that there can't be tells nothing: it is refused, and what is for the segments
    that were meant is not to blame."""
    segments = data.get("segments")
    if data.get("redo") is None and _is_int(segments) and segments < (0 if data.get("branch") is not None else 1):
        return sys.maxsize
    told = data.get("redo") is not None or _is_int(segments) or not _list(data, "prompts")
    return segment_count(data) if told else sys.maxsize


def is_control(character: str) -> bool:
    """Whether a character is one of the control characters of ASCII or Latin-1."""
    return character < " " or "\x7f" <= character <= "\x9f"


def _start(data: Mapping[str, Any]) -> Iterator[Fault]:
    given = [key for key in START if data.get(key) is not None]
    if not given:
        hint = "`image` or `clip` begins a new video, `extend` goes on with one, `branch` gives one another ending"
        yield Fault("image", f"expected one of {', '.join(START[:-1])} and {START[-1]}, found none", hint)
    elif len(given) > 1:
        yield Fault(given[1], f"expected one of {', '.join(START[:-1])} and {START[-1]}, found {' and '.join(given)}")


def _prompts(data: Mapping[str, Any]) -> Iterator[Fault]:
    prompts, count = _list(data, "prompts"), segment_count(data)
    if any(data.get(key) is not None for key in NEW) and data.get("prompts") is None:
        yield Fault("prompts", "expected at least one prompt for a new video, found none")
    if _is_zero(data.get("segments")) and data.get("branch") is None:
        yield Fault("segments", "expected at least 1, found 0", "only a branch can do without new segments")
    elif len(prompts) > count >= 0:
        left = f"the last {len(prompts) - count} would never be used"
        yield Fault("prompts", f"expected at most {count}, one per segment, found {len(prompts)}: {left}")


def _cuts(data: Mapping[str, Any]) -> Iterator[Fault]:
    count, seen = most_segments(data), dict[int, int]()
    for index, cut in enumerate(_list(data, "cuts")):
        where = f"cuts[{index}]"
        segment = cut.get("segment") if isinstance(cut, Mapping) else None
        if isinstance(cut, Mapping) and _is_zero(cut.get("strength")):
            yield Fault(f"{where}.strength", "expected a strength other than 0, which would change nothing")
        if not _is_int(segment) or segment < 1:
            continue
        if segment > count:
            yield Fault(f"{where}.segment", f"expected at most {count}, the segments of this manifest, found {segment}")
        if segment in seen:
            yield Fault(
                f"{where}.segment", f"expected one cut per segment, found {segment} in cuts[{seen[segment]}] too"
            )
        seen.setdefault(segment, index)


def _sample(data: Mapping[str, Any]) -> Iterator[Fault]:
    sample = data.get("sample")
    if not isinstance(sample, Mapping) or "sigmas" not in sample:
        return
    if "shift" in sample:
        yield Fault("sample.shift", "expected either shift or sigmas, found both", "sigmas are shifted already")
    if "steps" in sample:
        yield Fault("sample.steps", "expected either steps or sigmas, found both", "sigmas are one step each")
    sigmas = _list(sample, "sigmas")
    for index, (one, two) in enumerate(pairwise(sigmas), 1):
        if _is_number(one) and _is_number(two) and not two < one:
            yield Fault(f"sample.sigmas[{index}]", f"expected less than the sigma before it ({one}), found {two}")


def _loras(data: Mapping[str, Any]) -> Iterator[Fault]:
    count, seen = most_segments(data), dict[str, list[tuple[int, Mapping[str, Any]]]]()
    for index, lora in enumerate(_list(data, "loras")):
        if not isinstance(lora, Mapping):
            continue
        where, name, segments, steps = (
            f"loras[{index}]",
            lora.get("name"),
            _list(lora, "segments"),
            _list(lora, "steps"),
        )
        partial = segments or steps
        if _is_zero(lora.get("high")) and _is_zero(lora.get("low")) and not partial:
            yield Fault(
                where, "expected a strength other than 0 on one expert, found 0 on both, which would change nothing"
            )
        for place, segment in enumerate(segments):
            if _is_int(segment) and segment > count:
                expected = f"expected at most {count}, the segments of this manifest, found {segment}"
                yield Fault(f"{where}.segments[{place}]", expected)
        if len(steps) == 2 and _is_int(steps[0]) and _is_int(steps[1]) and steps[0] > steps[1]:
            yield Fault(f"{where}.steps", f"expected the first step and then the last, found {steps[0]} and {steps[1]}")
        if isinstance(name, str):
            for earlier, other in seen.get(name, ()):
                if _meet(lora, other, "segments", set) and _meet(lora, other, "steps", _span):
                    message = (
                        f"expected each LoRA once for a segment and a step, found {name!r} in loras[{earlier}] too"
                    )
                    yield Fault(f"{where}.name", message)
            seen.setdefault(name, []).append((index, lora))


def _meet(one: Mapping[str, Any], other: Mapping[str, Any], key: str, covered: Callable[[Any], set[int]]) -> bool:
    """Whether two entries hold at once. Where one names segments and the other none, the first takes the place of the
    other there; where both name steps, or none, they must not share one."""
    here, there = _list(one, key), _list(other, key)
    if not here or not there:
        return key == "steps" or (not here and not there)
    try:
        return bool(covered(here) & covered(there))
    except (TypeError, ValueError):
        return False


def _span(steps: list[int]) -> set[int]:
    return set(range(steps[0], min(steps[1], 10_000) + 1)) if len(steps) == 2 else set()


def _anchors(data: Mapping[str, Any]) -> Iterator[Fault]:
    anchors, count = _list(data, "anchors"), most_segments(data)
    if anchors and data.get("anchor") is not None:
        yield Fault("anchors", "expected either anchor or anchors, found both", "anchors are one per segment")
    if len(anchors) > count >= 0:
        left = f"the last {len(anchors) - count} would never be used"
        yield Fault("anchors", f"expected at most {count}, one per segment, found {len(anchors)}: {left}")


def _ends(data: Mapping[str, Any]) -> Iterator[Fault]:
    count, seen = segment_count(data), dict[int, str]()
    for index, cut in enumerate(_list(data, "cuts")):
        if isinstance(cut, Mapping) and cut.get("end_image") is not None and _is_int(cut.get("segment")):
            seen.setdefault(cut["segment"], f"cuts[{index}].end_image")
    for index, end in enumerate(_list(data, "ends")):
        segment = end.get("segment", count) if isinstance(end, Mapping) else None
        if not _is_int(segment):
            continue
        if segment > most_segments(data):
            message = f"expected at most {count}, the segments of this manifest, found {segment}"
            yield Fault(f"ends[{index}].segment", message)
        if segment in seen:
            message = f"expected one end picture per segment, found {segment} in {seen[segment]} too"
            yield Fault(f"ends[{index}].segment", message)
        seen.setdefault(segment, f"ends[{index}]")


def _size(data: Mapping[str, Any]) -> Iterator[Fault]:
    for key in ("width", "height"):
        if data.get("max_width") is not None and data.get(key) is not None:
            yield Fault("max_width", f"expected either max_width or width and height, found {key} too")
    if data.get("max_width") is not None and data.get("image") is None and data.get("clip") is None:
        yield Fault("max_width", "expected an image or a clip that the size is taken from, found none")


def _again(data: Mapping[str, Any]) -> Iterator[Fault]:
    if data.get("ripple") and data.get("redo") is None:
        yield Fault("ripple", "expected redo beside it, found none", "it renders again what follows a redone segment")
    for key in REDO if data.get("redo") is not None else ():
        if data.get(key):
            message = f"would hold for more than the segment that is rendered again, found {key} beside redo"
            yield Fault(key, message, "leave it out; `branch` goes another way from the segment before it")
    for key in data if data.get("reproduce") is not None else ():
        said = data[key] is not None and data[key] is not False and data[key] not in ({}, [], ())
        if said and key not in (*BESIDE, *START):
            yield Fault(key, "expected the same as before, with nothing changed, found it beside reproduce")


def _dropped(data: Mapping[str, Any]) -> Iterator[Fault]:
    if data.get("drop_options") and all(data.get(key) is None for key in ("extend", "branch", "redo", "reproduce")):
        yield Fault("drop_options", "would change nothing: a new video is handed no options on", "leave it out")


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return list(value) if isinstance(value, list | tuple) else []


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    return _is_number(value) and value == 0
