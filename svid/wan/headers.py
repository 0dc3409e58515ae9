"""What a safetensors file says about itself, read without torch and without trusting the file's name.

Format: 8 bytes little-endian header length, that many bytes of JSON, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors). Everything here is checked before a loader sees the file.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from svid.errors import Problem, Refused

HEADER_LIMIT = 16 * 1024 * 1024
"""In bytes. The experts' take 150 KB each, the largest known one 10 MB; parsed, a header takes thirty times as much."""
MAX_AXES = 16
LARGEST = 2**63
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
        # A pipe under a weights file's name must not be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error(Problem(name, "", "expected a file, found something that is no regular file"))
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
    if start[8:] == b"{" and length < 2**40:
        message = f"expected at most {HEADER_LIMIT} bytes of header, found {length}"
        raise error(Problem(name, "header", message, REBUILD))
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        message = "expected a safetensors file, found a pickle, which could run code"
        raise error(Problem(name, "", message, "convert it to safetensors first, with a tool that you trust"))
    found = "an empty file" if not start else "something else"
    raise error(Problem(name, "header", f"expected a safetensors file, found {found}", REBUILD))


def _parse(text: bytes, name: str, error: type[Refused]) -> dict[str, Any]:
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two entries for one key this reader would check one and a loader might load the other.
        made = dict(found)
        if len(made) < len(found):
            twice.extend(key for key, times in Counter(key for key, _ in found).items() if times > 1)
        return made

    try:
        header = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise error(Problem(name, "header", "expected JSON, found something else", REBUILD))
    if twice:
        raise error([Problem(name, key, "expected each key once, found it twice", REBUILD) for key in twice])
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise error(Problem(name, "__metadata__", "expected text by key, found something else", REBUILD))
    return header


def _tensors(header: dict[str, Any], data: int, name: str, error: type[Refused]) -> dict[str, TensorInfo]:
    tensors, problems, spans = {}, [], [(0, 0)]
    for key, entry in header.items():
        parts = _entry(entry)
        if parts is None:
            problems.append(Problem(name, key, "expected dtype, shape and data_offsets in the header", REBUILD))
            continue
        info, begin, stop = parts
        bits = BITS.get(info.dtype)
        if begin > stop:
            problems.append(Problem(name, key, f"expected the end of its bytes from {begin} on, found {stop}", REBUILD))
        elif bits is not None and info.count * bits != info.nbytes * 8:
            wanted = info.count * bits // 8
            # a shape may multiply to a number that Python refuses to write out
            shown = str(wanted) if wanted < LARGEST else "an absurd number of"
            found = f"expected {shown} bytes for {info.dtype} {list(info.shape)}, found {info.nbytes}"
            problems.append(Problem(name, key, found, REBUILD))
        tensors[key] = info
        spans.append((begin, stop))
    spans.sort()
    if not problems and any(before[1] != after[0] for before, after in pairwise(spans)):
        problems.append(Problem(name, "header", "expected tensors without gaps, found gaps or overlaps", REBUILD))
    if not problems and spans[-1][1] != data:
        problems.append(Problem(name, "", f"expected {spans[-1][1]} bytes of tensors, found {data}", AGAIN))
    if problems:
        raise error(problems)
    return tensors


def _entry(entry: Any) -> tuple[TensorInfo, int, int] | None:
    """A tensor's entry and where its bytes are, or None where it is not what the format says, to the letter."""
    try:
        (begin, stop), dtype, shape = entry["data_offsets"], entry["dtype"], entry["shape"]
    except (KeyError, TypeError, ValueError):
        return None
    numbers = (begin, stop, *shape) if isinstance(shape, list) and len(shape) <= MAX_AXES else (None,)
    if not isinstance(dtype, str) or not all(type(number) is int and 0 <= number < LARGEST for number in numbers):
        return None
    return TensorInfo(dtype, tuple(shape), stop - begin), begin, stop
