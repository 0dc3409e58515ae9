"""What a safetensors file says about itself, read without torch and without trusting the file's name.

Format: 8 bytes little-endian header length, that many bytes of JSON, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors). Everything here is checked before a loader sees the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from svid.errors import Problem, Refused

HEADER_LIMIT = 100 * 1024 * 1024
AGAIN = "the file is cut short: fetch it again"
REBUILD = "save the weights as safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
BITS |= {f"{sign}{bits}": bits for sign in "IU" for bits in (8, 16, 32, 64)} | {"BOOL": 8}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: its dtype by safetensors' name (`BF16`), its shape and its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def read_header(path: Path, name: str, error: type[Refused]) -> dict[str, TensorInfo]:
    """The tensors of the safetensors file `path`, by key.

    `name` is how the file is called in the `error` that is raised where it can't be read, is a pickle, is cut short or
    has a broken header.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = _header_length(file.read(9), name, error)
            if 8 + length > size:
                raise error(Problem(name, "header", f"expected {length} bytes of header, found {size - 8}", AGAIN))
            file.seek(8)
            header = _parse(file.read(length), name, error)
    except OSError as exc:
        raise error(Problem(name, "", f"can't be read: {exc.strerror or exc}")) from None
    return _tensors(header, size - 8 - length, name, error)


def _header_length(start: bytes, name: str, error: type[Refused]) -> int:
    length = int.from_bytes(start[:8], "little")
    # The JSON decides, not the first byte alone: a header of 128 bytes begins with the byte that a pickle begins with.
    if start[8:] == b"{" and 2 <= length <= HEADER_LIMIT:
        return length
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        message = "expected a safetensors file, found a pickle, which could run code"
        raise error(Problem(name, "", message, "convert it to safetensors first, with a tool that you trust"))
    found = "an empty file" if not start else "something else"
    raise error(Problem(name, "header", f"expected a safetensors file, found {found}", REBUILD))


def _parse(text: bytes, name: str, error: type[Refused]) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise error(Problem(name, "header", "expected JSON, found something else", REBUILD))
    header.pop("__metadata__", None)
    return header


def _tensors(header: dict[str, Any], data: int, name: str, error: type[Refused]) -> dict[str, TensorInfo]:
    tensors, problems, spans = {}, [], [(0, 0)]
    for key, entry in header.items():
        try:
            begin, stop = entry["data_offsets"]
            info = TensorInfo(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), int(stop) - int(begin))
        except (KeyError, TypeError, ValueError):
            problems.append(Problem(name, key, "expected dtype, shape and data_offsets in the header", REBUILD))
            continue
        bits = BITS.get(info.dtype)
        if bits is not None and info.count * bits != info.nbytes * 8:
            found = f"expected {info.count * bits // 8} bytes for {info.dtype} {list(info.shape)}, found {info.nbytes}"
            problems.append(Problem(name, key, found, REBUILD))
        tensors[key] = info
        spans.append((int(begin), int(stop)))
    spans.sort()
    if not problems and any(before[1] != after[0] for before, after in pairwise(spans)):
        problems.append(Problem(name, "header", "expected tensors without gaps, found gaps or overlaps", REBUILD))
    if not problems and spans[-1][1] != data:
        problems.append(Problem(name, "", f"expected {spans[-1][1]} bytes of tensors, found {data}", AGAIN))
    if problems:
        raise error(problems)
    return tensors
