"""`svid_import`: the end of a clip as latents, so that a chain can go on from it.

What: the last frames of the clip, 4k + 1 of them, in one VAE encode.
Why: SVI 2.0 Pro hands over latents. The last latent must come from a clip that began earlier: four frames encoded alone
would begin with a latent of one frame.
Source: SVI issue 64; Wan2GP models/wan/any2video.py:718-720 encodes nine frames, of which a causal VAE remembers less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Job, Segment, State

if TYPE_CHECKING:
    import torch

    from svid.wan.model import WanModel

CACHE_VERSION = 1


@hookimpl
def svid_import(job: Job, model: WanModel, segment: Segment, frames: torch.Tensor) -> State:
    """{"latents": fp32 [1, 16, k + 1, h, w] on the CPU}, normalized, of the last 4k + 1 frames."""
    from svid.wan.conditioning import to_pixels
    from svid.wan.vae import encode_normalized

    count = (len(frames) - 1) // 4 * 4 + 1
    return {"latents": encode_normalized(model.vae, to_pixels(frames[-count:])).cpu()}


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part where a segment comes from a clip."""
    return {} if segment.clip is not None else None
