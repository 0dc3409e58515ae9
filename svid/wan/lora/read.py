"""A LoRA file as exact changes of the model's parameters. Every key is used, or the file is refused by its name."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from svid.api import Expert
from svid.errors import LoraError, Problem
from svid.wan.headers import read_header
from svid.wan.lora.deltas import Decomposed, Delta, Factor, Full, Hadamard, Kronecker, LowRank, Total
from svid.wan.lora.keys import Part, Place
from svid.wan.lora.sort import FORMATS, Parts, sort_keys

PAIR: tuple[Part, ...] = ("down", "up")
LOKR: tuple[Part, ...] = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
LOHA: tuple[Part, ...] = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


@dataclass(frozen=True)
class LoraFile:
    """A read LoRA: its deltas by the parameter's diffusers name, those of Wan 2.1's image branch among them.

    `deltas` is for whichever expert the file is used on, unless the file has keys that name the low-noise expert
    (`transformer_2.`): these are in `low`, and then `deltas` is the high-noise expert's alone.
    """

    name: str
    deltas: Mapping[str, Delta]
    low: Mapping[str, Delta] = field(default_factory=dict)

    def on(self, expert: Expert) -> Mapping[str, Delta]:
        """What it changes in `expert`; nothing where it is made for the other one."""
        return self.low if self.low and expert == "low" else self.deltas


def read_lora(path: Path) -> LoraFile:
    """Read `path`, judged by its content.

    Raises:
        LoraError: not a safetensors file (a pickle is not opened); any key that no format knows, half a pair, an alpha
            or a magnitude without what it scales, two keys for one thing, a shape or dtype that can't be; metadata with
            scales that can't be applied; or a file that changes nothing.
    """
    modules = sort_keys(read_header(path, path.name, LoraError), path.name)
    tensors, metadata = _contents(path, [key for parts in modules.values() for key in parts.values()])
    found: dict[Expert | None, dict[str, Delta]] = {None: {}, "low": {}}
    problems: list[Problem] = []
    for (expert, module), parts in modules.items():
        try:
            alpha = _configured_alpha(path.name, metadata, expert)
            found[expert].update(_Module(path.name, module, parts, tensors, alpha).deltas())
        except LoraError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    problems = problems or check_changes(path.name, [*found[None].values(), *found["low"].values()])
    if problems:
        raise LoraError(problems)
    return LoraFile(path.name, found[None], found["low"])


def check_changes(name: str, deltas: Sequence[Delta]) -> list[Problem]:
    """What is wrong with a file of `deltas` that would change nothing."""
    if not deltas:
        return [Problem(name, "", "expected LoRA tensors, found none", FORMATS)]
    if not all(delta.is_zero for delta in deltas):
        return []
    message = f"expected changes, found only zeros in {len(deltas)} parameters"
    return [Problem(name, "", message, "it was never trained, or its values were lost when it was converted")]


def _contents(path: Path, keys: list[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of `keys`, as stored, and the adapter configuration that diffusers writes into a file's metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in keys}
            written = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    except (SafetensorError, OSError) as error:
        raise LoraError(Problem(path.name, "", f"the safetensors reader refuses it: {error}")) from error
    try:
        metadata = json.loads(written)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        message = "expected a JSON object, found something else"
        raise LoraError(Problem(path.name, "metadata: lora_adapter_metadata", message))
    return tensors, metadata


def _configured_alpha(name: str, metadata: Mapping[str, Any], expert: Expert | None) -> float | None:
    """The alpha of every pair that has no tensor for it, or None where the file doesn't say.

    diffusers writes PEFT's configuration there and no alpha tensors (diffusers.loaders.lora_base).
    """
    component = "transformer_2" if expert == "low" else "transformer"
    values = {key.removeprefix(f"{component}."): value for key, value in metadata.items()}
    where = "metadata: lora_adapter_metadata"
    for option in ("alpha_pattern", "use_rslora"):
        if values.get(option):
            message = f"expected one alpha for all modules and alpha / rank as scale, found {option}"
            raise LoraError(Problem(name, where, message, "convert the file to one with .alpha tensors"))
    alpha = values.get("lora_alpha")
    if alpha is None or (isinstance(alpha, int | float) and not isinstance(alpha, bool)):
        return alpha
    raise LoraError(Problem(name, where, f"expected a number as lora_alpha, found {alpha!r}"))


@dataclass(frozen=True)
class _Module:
    """The keys of one module, and what they make of its parameters."""

    file: str
    name: str
    parts: Parts
    tensors: Mapping[str, torch.Tensor]
    alpha: float | None

    def deltas(self) -> dict[str, Delta]:
        """The module's deltas by parameter. Raises LoraError with the first thing that is wrong."""
        for key in self.parts.values():
            if not bool(self.tensors[key].isfinite().all()):
                raise self._error(key, "expected finite numbers, found infinite ones or NaN")
        made: dict[str, list[Delta]] = defaultdict(list)
        made[self._parameter("diff")] += self._weight()
        if "up_bias" in self.parts:
            made[self._parameter("up_bias")].append(self._bias_of_pair())
        for part in ("diff_b", "diff_m"):
            if part in self.parts:
                made[self._parameter(part)].append(Full((self.parts[part],), self._tensor(part)))
        return {name: parts[0] if len(parts) == 1 else Total(tuple(parts)) for name, parts in made.items() if parts}

    def _weight(self) -> list[Delta]:
        main = self._main()
        if main is None:
            for part, what in (("alpha", "that this alpha scales"), ("magnitude", "whose magnitude this is")):
                if part in self.parts:
                    raise self._error(self.parts[part], f"expected a pair {what}, found none")
        deltas: list[Delta] = [] if main is None else [main]
        if "diff" in self.parts:
            deltas.append(Full((self.parts["diff"],), self._tensor("diff")))
        if "magnitude" not in self.parts or main is None:
            return deltas
        key = self.parts["magnitude"]
        if "diff" in self.parts:
            message = f"expected one change of {self._parameter('diff')}, found {self.parts['diff']} beside a DoRA"
            raise self._error(key, message)
        return [Decomposed((*main.keys, key), main, self._tensor("magnitude"))]

    def _main(self) -> LowRank | Kronecker | Hadamard | None:
        kinds = [kind for kind in (PAIR, LOKR, LOHA) if any(part in self.parts for part in kind)]
        if not kinds:
            return None
        keys = [self.parts[part] for kind in kinds for part in kind if part in self.parts]
        if len(kinds) > 1:
            raise self._error(", ".join(keys), "expected one kind of LoRA for a module, found several")
        if "alpha" in self.parts:
            keys.append(self.parts["alpha"])
        if kinds[0] is PAIR:
            factor = self._product("up", "down")
            return LowRank(tuple(keys), factor, self._scale(factor))
        if kinds[0] is LOHA:
            first, second = self._product("hada_w1_a", "hada_w1_b"), self._product("hada_w2_a", "hada_w2_b")
            return Hadamard(tuple(keys), first, second, self._scale(first, second))
        first = self._whole_or_product("lokr_w1", "lokr_w1_a", "lokr_w1_b")
        second = self._whole_or_product("lokr_w2", "lokr_w2_a", "lokr_w2_b")
        return Kronecker(tuple(keys), first, second, self._scale(first, second))

    def _whole_or_product(self, part: Part, left: Part, right: Part) -> Factor:
        """LoKr's `part`, which may be stored as a matrix or as the product of `left` and `right`."""
        halves = [self.parts[half] for half in (left, right) if half in self.parts]
        if part not in self.parts:
            if not halves:
                keys = ", ".join(self.parts[other] for other in LOKR if other in self.parts)
                raise self._error(keys, f"expected {part}, or {left} and {right}, found none")
            return self._product(left, right)
        if halves:
            raise self._error(halves[0], f"expected a factor once, found {self.parts[part]} too")
        whole = self._tensor(part)
        if whole.ndim < 2 or (part == "lokr_w1" and whole.ndim > 2):
            raise self._error(self.parts[part], f"expected a matrix, found the shape {list(whole.shape)}")
        return Factor(whole)

    def _product(self, left: Part, right: Part) -> Factor:
        """`left` [m, r] times `right` [r, n, ...]."""
        halves = [self.parts[half] for half in (left, right) if half in self.parts]
        if len(halves) != 2:
            keys = halves or [key for part, key in self.parts.items() if part in LOHA]
            message = "found only this half" if halves else "found none"
            raise self._error(", ".join(keys), f"expected a pair of {right} and {left}, {message}")
        a, b = self._tensor(left), self._tensor(right)
        if a.ndim < 2 or b.ndim < 2 or 0 in b.shape or a.shape[1] != b.shape[0] or a.numel() != a.shape[0] * a.shape[1]:
            found = f"expected [out, rank] and [rank, in], found {list(a.shape)} and {list(b.shape)}"
            raise self._error(f"{self.parts[left]}, {self.parts[right]}", found)
        return Factor(a, b)

    def _scale(self, *factors: Factor) -> float:
        """alpha / rank, or 1 without an alpha.

        A LoKr of two whole matrices has no rank and the scale 1 whatever its alpha says (LyCORIS sets alpha to the rank
        there; ComfyUI ignores it). In a LoKr or LoHa of two products both have the same rank.
        """
        alpha = self._alpha()
        ranks = {factor.rank for factor in factors} - {None}
        if len(ranks) > 1:
            keys = ", ".join(key for part, key in self.parts.items() if part in (*LOKR, *LOHA))
            raise self._error(keys, f"expected one rank, found {sorted(rank for rank in ranks if rank)}")
        rank = ranks.pop() if ranks else None
        return 1.0 if alpha is None or rank is None else alpha / rank

    def _alpha(self) -> float | None:
        if "alpha" not in self.parts:
            return self.alpha
        alpha = self._tensor("alpha")
        if alpha.numel() != 1:
            raise self._error(self.parts["alpha"], f"expected one number, found the shape {list(alpha.shape)}")
        return float(alpha)

    def _bias_of_pair(self) -> Full:
        """`lora_B.bias`: the layer's own bias changes by it, times the pair's scale (PEFT's lora_bias)."""
        key = self.parts["up_bias"]
        if "up" not in self.parts or "down" not in self.parts:
            raise self._error(key, "expected a pair that this bias belongs to, found none")
        if "magnitude" in self.parts:
            raise self._error(key, f"expected no bias beside a DoRA, found {self.parts['magnitude']} too")
        return Full((key,), self._tensor("up_bias"), self._scale(self._product("up", "down")))

    def _parameter(self, part: Part) -> str:
        return Place(self.name, part).parameter

    def _tensor(self, part: Part) -> torch.Tensor:
        return self.tensors[self.parts[part]]

    def _error(self, key: str, message: str) -> LoraError:
        return LoraError(Problem(self.file, key, message))
