"""Safetensors headers, which are read before anything of a weights file is believed."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

from svid.errors import WeightsError
from tests.hostile.kinds.kind import Kind
from tests.hostile.mutate import mutated, mutated_text

HOSTILE = (-1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1.5, float("nan"), float("inf"), "3", "", None, True, [], {}, [[]])
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "F8_E4M3": 1}
WORDS = ("[" * 5000, '{"a":' * 3000, "\\ud800", "1e999", "-0", '"dtype"', "\x00")


def weights_file(header: str | bytes, body: bytes) -> bytes:
    """A safetensors file of any header."""
    text = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def tensors_of(keys: dict[str, tuple[str, tuple[int, ...]]], dice: random.Random) -> tuple[dict[str, Any], bytes]:
    """A header for these tensors, and values for them."""
    header: dict[str, Any] = {}
    body = bytearray()
    for key, (dtype, shape) in keys.items():
        count = int(np.prod(shape, dtype=np.int64))
        values = np.array([dice.uniform(-1, 1) for _ in range(count)])
        made = {"F64": values.astype("<f8"), "F32": values.astype("<f4"), "F16": values.astype("<f2")}.get(dtype)
        data = made.tobytes() if made is not None else bytes(dice.randrange(64) for _ in range(count * SIZES[dtype]))
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return header, bytes(body)


def _header(dice: random.Random) -> bytes:
    keys = {f"t{number}": (dice.choice(("F32", "BF16", "I64")), (dice.randint(0, 3), 2)) for number in range(4)}
    header, body = tensors_of(keys, dice)
    for _ in range(dice.randint(0, 2)):
        _spoil(header, dice)
    if dice.random() < 0.2:
        header["__metadata__"] = dice.choice(({"a": "b"}, {"a": 1}, [], "x", None))
    text = json.dumps(header)
    if dice.random() < 0.2:
        text = text.replace('"t1"', '"t0"')
    if dice.random() < 0.3:
        text = mutated_text(text, WORDS, dice)
    data = weights_file(text, body)
    return mutated(data, dice) if dice.random() < 0.3 else data


def _spoil(header: dict[str, Any], dice: random.Random) -> None:
    entries = [entry for entry in header.values() if isinstance(entry, dict)]
    if entries:
        field = dice.choice(("dtype", "shape", "data_offsets"))
        value = dice.choice((*HOSTILE, [dice.choice(HOSTILE)], [dice.choice(HOSTILE), dice.choice(HOSTILE)]))
        dice.choice(entries)[field] = value


def _read_header(data: bytes, folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    from svid.wan.headers import read_header

    file = folder / "x.safetensors"
    file.write_bytes(data)
    tensors = read_header(file, "x.safetensors", WeightsError)
    try:
        with safe_open(file, framework="np") as other:
            theirs = {key: tuple(other.get_slice(key).get_shape()) for key in other.keys()}  # noqa: SIM118
    except SafetensorError:
        return  # it is refused when it is loaded, which is clean too
    assert theirs == {key: info.shape for key, info in tensors.items()}, "the loader sees other tensors"


KIND = Kind(_header, _read_header)
