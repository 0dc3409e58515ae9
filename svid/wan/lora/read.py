"""A LoRA file as exact changes of the model's parameters. Every key is used, set aside by name, or refused by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from svid.errors import LoraError, Problem
from svid.wan.headers import TensorInfo, read_header
from svid.wan.lora.keys import Part, Place, is_image_branch, place

FORMATS = "supported: lora_A/lora_B or lora_down/lora_up pairs with .alpha, .diff, .diff_b, .diff_m"
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Delta:
    """What one parameter is changed by, before the strength: (alpha / rank) * up @ down, plus `diff`.

    `down` is [r, in, ...], `up` [out, r, ...], `diff` has the parameter's shape; all as stored, on the CPU.
    """

    keys: tuple[str, ...]
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    scale: float = 1.0
    diff: torch.Tensor | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this can be added to a parameter of `shape`."""
        if self.diff is not None and tuple(self.diff.shape) != shape:
            return False
        if self.down is None or self.up is None:
            return True
        return len(shape) > 1 and self.up.shape[0] == shape[0] and tuple(self.down.shape[1:]) == shape[1:]

    def value(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """The change, fp32 of `shape` on `device`. The product is computed in fp32."""
        total = torch.zeros(shape, device=device)
        if self.down is not None and self.up is not None:
            up = self.up.to(device, torch.float32).flatten(1)
            down = self.down.to(device, torch.float32).flatten(1)
            total += self.scale * (up @ down).view(shape)
        if self.diff is not None:
            total += self.diff.to(device, torch.float32).view(shape)
        return total

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing: no diff, and a factor that is all zeros (as in a LoRA that was never trained)."""
        pair = self.down is not None and self.up is not None and bool(self.down.any()) and bool(self.up.any())
        return not (pair and self.scale) and (self.diff is None or not bool(self.diff.any()))


@dataclass(frozen=True)
class LoraFile:
    """A read LoRA: its deltas by the parameter's diffusers name, and the keys set aside because they are Wan 2.1's."""

    name: str
    deltas: Mapping[str, Delta]
    set_aside: tuple[str, ...]


def read_lora(path: Path) -> LoraFile:
    """Read `path`, judged by its content.

    Raises:
        LoraError: not a safetensors file (a pickle is not opened); any key that no format knows, half a pair, an alpha
            without a pair, two keys for one thing, a shape or dtype that can't be; or a file that changes nothing.
    """
    places, set_aside = _sort_keys(read_header(path, path.name, LoraError), path.name)
    tensors = _values(path, [key for parts in places.values() for key in parts.values()])
    problems: list[Problem] = []
    deltas = {}
    for parameter, parts in places.items():
        delta = _delta(path.name, parts, tensors, problems)
        if delta is not None:
            deltas[parameter] = delta
    if problems:
        raise LoraError(problems)
    _refuse_empty(path.name, deltas, set_aside)
    return LoraFile(path.name, deltas, tuple(set_aside))


def _values(path: Path, keys: list[str]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise LoraError(Problem(path.name, "", f"the safetensors reader refuses it: {error}")) from error


Parts = dict[Part, str]
_PARTS: tuple[Part, ...] = ("down", "up", "alpha", "diff")


def _sort_keys(header: Mapping[str, TensorInfo], name: str) -> tuple[dict[str, Parts], list[str]]:
    """Keys by parameter and part, and those of Wan 2.1's image branch."""
    places: dict[str, Parts] = defaultdict(dict)
    problems, set_aside = [], []
    for key, info in header.items():
        where = place(key)
        if where is None:
            problems.append(Problem(name, key, "expected a LoRA key, found one that no supported format has", FORMATS))
        elif info.dtype not in FLOATS:
            problems.append(Problem(name, key, f"expected one of {', '.join(FLOATS)}, found {info.dtype}"))
        elif is_image_branch(where.module):
            set_aside.append(key)
        else:
            problems += _enter(places, where, key, name)
    if problems:
        raise LoraError(problems)
    return places, sorted(set_aside)


def _enter(places: dict[str, Parts], where: Place, key: str, name: str) -> list[Problem]:
    # A diff of the bias or the modulation is one of another parameter, and there an ordinary diff.
    part: Part = "diff" if where.part in ("diff_b", "diff_m") else where.part
    parts = places[where.parameter]
    if part in parts:
        return [Problem(name, key, f"expected one tensor for {where.parameter}, found {parts[part]} too")]
    parts[part] = key
    return []


def _delta(name: str, parts: Parts, tensors: Mapping[str, torch.Tensor], problems: list[Problem]) -> Delta | None:
    for key in parts.values():
        if not bool(tensors[key].isfinite().all()):
            problems.append(Problem(name, key, "expected finite numbers, found infinite ones or NaN"))
            return None
    down, up, alpha, diff = (tensors.get(parts.get(part, "")) for part in _PARTS)
    if (down is None) != (up is None):
        (half,) = (parts[part] for part in ("down", "up") if part in parts)
        problems.append(Problem(name, half, "expected a pair of down and up, found only this half"))
        return None
    if down is None or up is None:
        if alpha is not None:
            problems.append(Problem(name, parts["alpha"], "expected a pair that this alpha scales, found none"))
            return None
        return Delta(tuple(parts.values()), diff=diff)
    if down.ndim < 2 or up.ndim < 2 or up.shape[1] != down.shape[0] or up.flatten(1).shape[1] != up.shape[1]:
        found = f"expected [rank, in] and [out, rank], found {list(down.shape)} and {list(up.shape)}"
        problems.append(Problem(name, f"{parts['down']}, {parts['up']}", found))
        return None
    if alpha is not None and alpha.numel() != 1:
        problems.append(Problem(name, parts["alpha"], f"expected one number, found the shape {list(alpha.shape)}"))
        return None
    scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
    return Delta(tuple(parts.values()), down, up, scale, diff)


def _refuse_empty(name: str, deltas: Mapping[str, Delta], set_aside: list[str]) -> None:
    if deltas and not all(delta.is_zero for delta in deltas.values()):
        return
    if deltas:
        message = f"expected changes, found only zeros in {len(deltas)} parameters"
        hint = "it was never trained, or its values were lost when it was converted"
    else:
        message = "expected LoRA tensors, found none"
        hint = f"it has only the {len(set_aside)} tensors of Wan 2.1's image branch" if set_aside else FORMATS
    raise LoraError(Problem(name, "", message, hint))
