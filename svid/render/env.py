"""The circumstances of a render: they are kept with every segment, and do not enter the ask."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any

import svid

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "av")


def choose_device(written: str) -> tuple[str, str]:
    """The device for `[render] device`, and the reason."""
    import torch

    if written != "auto":
        return written, "svid.toml says so"
    if torch.cuda.is_available():
        return "cuda", f"auto: {torch.cuda.get_device_name()} is here"
    return "cpu", "auto: no CUDA device"


def choose_dtype(written: str, device: str) -> tuple[str, str]:
    """The precision for `[render] dtype`, and the reason."""
    if written != "auto":
        return written, "svid.toml says so"
    if device.startswith("cuda"):
        return "bfloat16", "auto: Wan's own precision on a GPU"
    return "float32", "auto: a CPU is slow and inexact in bfloat16"


def prepare_torch() -> None:
    """Ask torch for the same bytes every time."""
    import torch

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def circumstances(device: str) -> dict[str, Any]:
    """Versions, host and device, for the lineage."""
    import torch

    found: dict[str, Any] = {
        "svid": svid.__version__,
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "host": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "attention": os.environ.get("DIFFUSERS_ATTN_BACKEND", "native"),
    }
    if device.startswith("cuda"):
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def peak_memory_mib() -> float:
    """The most resident memory that this process has had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
