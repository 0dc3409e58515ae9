"""Stage `svid_load_model`: Wan 2.2 or Wan 2.1 I2V from a folder in diffusers layout.

What: both experts, the VAE, UMT5 and its tokenizer in the job's precision, which is bf16 on CUDA unless the home says
otherwise, as the SVI authors run Wan 2.2; on a CPU the VAE is always fp32. Of Wan 2.1 the one transformer, in the place
of the high-noise expert, and CLIP; it and the VAE are always fp32, as the authors run Wan 2.1.
How it is placed on the device is the memory plan's choice, which changes no bit.
Why here: the folder is checked without torch first, so a broken download is named at once, file by file.
Source: Wan-AI/Wan2.2-I2V-A14B-Diffusers for the layout, V22 diffsynth/pipelines/wan_video_svi_pro.py for the dtypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Job, Segment
from svid.wan.folder import is_wan_folder

if TYPE_CHECKING:
    from svid.wan.model import WanModel

CACHE_VERSION = 1


@hookimpl
def svid_load_model(job: Job, device: str) -> WanModel | None:
    """The model of the job. Declines what exists and isn't Wan; a missing or broken folder raises WeightsError."""
    if job.model.path.exists() and not is_wan_folder(job.model.path):
        return None
    import torch

    from svid.wan.load import load_folder

    model = load_folder(job.model.path, device, getattr(torch, job.model.dtype), job.model.memory)
    model.digests = dict(job.model.digests)
    return model


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any]:
    """Nothing beside the digests of the weights, which the core asks."""
    return {}
