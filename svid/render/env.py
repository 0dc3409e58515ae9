"""The circumstances of a render: they are kept with every segment, and do not enter the ask."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import svid
from svid.errors import ConfigError, Problem

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "av")

BITS_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
)
"""Variables by which libraries choose other kernels."""


def choose_device(written: str) -> tuple[str, str]:
    """The device for `[render] device`, and the reason. Raises ConfigError where torch finds no such device."""
    import torch

    if written != "auto":
        count = torch.cuda.device_count()
        if written.startswith("cuda") and int(written.partition(":")[2] or 0) >= count:
            message = f"expected a device that torch finds, found {written!r}; it finds {count} CUDA devices"
            hint = (
                "auto takes a GPU where there is one; `python -m torch.utils.collect_env` says what torch was built for"
            )
            raise ConfigError(Problem("svid.toml", "render.device", message, hint))
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


def deciding_bits(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of the `circumstances`, and of what they leave out, may change a result in its last bits.

    Beside versions: the number of threads, by which sums are split, the processor, by which kernels are chosen, and the
    precision that torch was told to use. The host's name is none of it: a container has another after every start; nor
    is the memory plan.
    """
    import torch

    kept = {name: value for name, value in found.items() if name not in ("host", "cpus", "memory")}
    return kept | {
        "numpy": importlib.metadata.version("numpy"),  # schedulers compute their sigmas with it
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "cudnn": torch.backends.cudnn.version() if "gpu" in found else None,  # type: ignore[no-untyped-call]
        "precision": f"{torch.get_float32_matmul_precision()}, TF32 in cuDNN {torch.backends.cudnn.allow_tf32}",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "variables": {name: os.environ.get(name) for name in BITS_VARIABLES},
    }


@functools.cache
def processor() -> str:
    """The processor's model, where the system says it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def peak_memory_mib() -> float:
    """The most resident memory that this process has had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
