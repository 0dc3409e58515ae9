"""Stage `svid_sample`: denoising with Wan 2.2's two experts.

What: noise from the segment's seed on the CPU, the sampler that the manifest or the recipe names, guidance per expert.
Why: noise from a CPU generator is the same on every machine; latents stay fp32 because segments are chained on them.
Source: V22 diffsynth/pipelines/wan_video_svi_pro.py (loop, guidance, boundary), WAN22 wan/image2video.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Checkpoint, Conditioning, Job, Progress, Segment, State

if TYPE_CHECKING:
    from svid.wan.model import WanModel

CACHE_VERSION = 1


@hookimpl
def svid_sample(
    job: Job, model: WanModel, segment: Segment, conditioning: Conditioning, progress: Progress, checkpoint: Checkpoint
) -> State | None:
    """{"latents": fp32 [1, 16, T, h, w] on the CPU}, in the VAE's normalized space."""
    from svid.wan.sampling import denoise, initial_noise, needs_negative
    from svid.wan.schedule import make_scheduler

    sampling = segment.sampling
    noise, generator = initial_noise(segment.latent_shape, segment.seed)
    latents = denoise(
        model,
        conditioning,
        cond=model.text.encode(segment.prompt),
        uncond=model.text.encode(segment.negative) if needs_negative(sampling.guidance) else None,
        scheduler=make_scheduler(sampling, model.device),
        sampling=sampling,
        noise=noise,
        progress=progress,
        generator=generator,
        checkpoint=checkpoint,
    )
    return {"latents": latents}


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any]:
    """Nothing beside the segment's own sampling, prompt and seed, which the core asks."""
    return {}
