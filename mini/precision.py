"""The precision of matrix products: bf16 where the device multiplies in it, and fp32 where it does not: a CPU with AVX2
alone does 30 GFLOP a second in fp32 and 0.4 in bf16, one with AVX512's bf16 and no AMX 150 and 90."""

from __future__ import annotations

from functools import cache

import torch

NATIVE = ("amx_bf16", "bf16")
"""What a CPU that is faster in bf16 says of itself (x86, Arm)."""


@cache
def product_dtype(device: str) -> torch.dtype:
    """bf16 or fp32 for a device type, `cpu` or `cuda`."""
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if any(able.get(name) for name in NATIVE) else torch.float32
    return torch.bfloat16


def fast_products(device: str, enabled: bool = True) -> torch.autocast:
    """A context in which matrix products run in `product_dtype`; without `enabled`, as without it."""
    dtype = product_dtype(device)
    return torch.autocast(device, torch.bfloat16, enabled=enabled and dtype == torch.bfloat16)
