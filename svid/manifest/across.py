"""The rules that tie fields of a manifest together. They read plain data and pass over whatever is not of its type, so
that they can run before, and beside, the checks of single fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

START = ("image", "extend", "branch")


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


def segment_count(data: Mapping[str, Any]) -> int:
    """How many segments a manifest asks for: as it says, else one per prompt, else one; for a branch alone, none."""
    segments = data.get("segments")
    if _is_int(segments):
        return segments
    return len(_list(data, "prompts")) or (0 if data.get("branch") is not None else 1)


def is_control(character: str) -> bool:
    """Whether a character is one of the control characters of ASCII or Latin-1."""
    return character < " " or "\x7f" <= character <= "\x9f"


def _start(data: Mapping[str, Any]) -> Iterator[Fault]:
    given = [key for key in START if data.get(key) is not None]
    if not given:
        hint = "`image` begins a new video, `extend` goes on with one, `branch` gives one another ending"
        yield Fault("image", "expected one of image, extend and branch, found none", hint)
    elif len(given) > 1:
        yield Fault(given[1], f"expected one of image, extend and branch, found {' and '.join(given)}")


def _prompts(data: Mapping[str, Any]) -> Iterator[Fault]:
    prompts, count = _list(data, "prompts"), segment_count(data)
    if data.get("image") is not None and data.get("prompts") is None:
        yield Fault("prompts", "expected at least one prompt for a new video, found none")
    if _is_zero(data.get("segments")) and data.get("branch") is None:
        yield Fault("segments", "expected at least 1, found 0", "only a branch can do without new segments")
    elif len(prompts) > count >= 0:
        left = f"the last {len(prompts) - count} would never be used"
        yield Fault("prompts", f"expected at most {count}, one per segment, found {len(prompts)}: {left}")


def _cuts(data: Mapping[str, Any]) -> Iterator[Fault]:
    count, seen = segment_count(data), dict[int, int]()
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
    if "steps" in sample:
        yield Fault("sample.steps", "expected either steps or sigmas, found both", "sigmas are one step each")
    sigmas = _list(sample, "sigmas")
    for index, (one, two) in enumerate(pairwise(sigmas), 1):
        if _is_number(one) and _is_number(two) and not two < one:
            yield Fault(f"sample.sigmas[{index}]", f"expected less than the sigma before it ({one}), found {two}")


def _loras(data: Mapping[str, Any]) -> Iterator[Fault]:
    seen = dict[str, int]()
    for index, lora in enumerate(_list(data, "loras")):
        if not isinstance(lora, Mapping):
            continue
        where, name = f"loras[{index}]", lora.get("name")
        if _is_zero(lora.get("high")) and _is_zero(lora.get("low")):
            yield Fault(
                where, "expected a strength other than 0 on one expert, found 0 on both, which would change nothing"
            )
        if isinstance(name, str) and name in seen:
            yield Fault(f"{where}.name", f"expected each LoRA once, found {name!r} in loras[{seen[name]}] too")
        if isinstance(name, str):
            seen.setdefault(name, index)


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return list(value) if isinstance(value, list | tuple) else []


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_zero(value: Any) -> bool:
    return _is_number(value) and value == 0
