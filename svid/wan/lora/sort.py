"""The keys of a LoRA file by what they are for, from its header alone and without torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from svid.api import Expert
from svid.errors import LoraError, Problem
from svid.wan.headers import TensorInfo, read_header
from svid.wan.lora.keys import Part, Place, is_tucker, place

FORMATS = (
    "supported: pairs of lora_A/lora_B or lora_down/lora_up, lokr_w1/lokr_w2 and hada_w1/hada_w2 with .alpha, "
    "dora_scale or lora_magnitude_vector; .diff, .diff_b, .diff_m, w_norm, b_norm"
)
TUCKER = "expected a change of a linear layer, found the core of a Tucker decomposition"
FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = ("I64", "I32", "I16", "I8", "U8")
"""Of alphas as well: trainers that make a tensor of a whole number write one."""


def check_lora(path: Path) -> None:
    """Raise LoraError for a file that is no LoRA, as far as its header says: not a safetensors file, cut short, with
    keys or dtypes that no format has, or without a tensor."""
    if not sort_keys(read_header(path, path.name, LoraError), path.name):
        raise LoraError(Problem(path.name, "", "expected LoRA tensors, found none", FORMATS))


Parts = dict[Part, str]
Modules = dict[tuple[Expert | None, str], Parts]


def sort_keys(header: Mapping[str, TensorInfo], name: str) -> Modules:
    """Keys by module and part. Raises LoraError with every key and every dtype that no format has."""
    modules: Modules = defaultdict(dict)
    problems = []
    for key, info in header.items():
        where = place(key)
        if where is None:
            message = TUCKER if is_tucker(key) else "expected a LoRA key, found one that no supported format has"
            problems.append(Problem(name, key, message, FORMATS))
        elif not takes(where.part, info.dtype):
            problems.append(Problem(name, key, f"expected one of {', '.join(FLOATS)}, found {info.dtype}"))
        else:
            problems += _enter(modules[where.expert, where.module], where, key, name)
    if problems:
        raise LoraError(problems)
    return modules


def takes(part: Part, dtype: str) -> bool:
    """Whether a tensor of this part of a LoRA may have this dtype."""
    return dtype in FLOATS or (part == "alpha" and dtype in INTEGERS)


def _enter(parts: Parts, where: Place, key: str, name: str) -> list[Problem]:
    if where.part in parts:
        return [Problem(name, key, f"expected one tensor for {where.parameter}, found {parts[where.part]} too")]
    parts[where.part] = key
    return []
