"""Stage `svid_decode`: latents to frames, as a stream.

What: one latent frame at a time through the VAE's causal cache; the pixels are those of one decode of all.
With `decode.stream` the cache goes on from segment to segment, and a chain is decoded as one long clip.
Why: memory stays that of four frames, whatever the length. Values are cut off, not rounded, as the SVI authors do.
Source: diffusers AutoencoderKLWan; V1 diffsynth/pipelines/svi_video.py tensor2video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Job, Segment, State

if TYPE_CHECKING:
    import torch

    from svid.wan.model import WanModel

CACHE_VERSION = 1


@hookimpl
def svid_decode(
    job: Job, model: WanModel, segment: Segment, state: State, carry: Carry | None
) -> Iterator[torch.Tensor] | None:
    """uint8 [n, H, W, 3] a time: one frame, then four a latent; only four a latent where it goes on from the segment
    before. Declines a state without latents."""
    if "latents" not in state:
        return None
    if segment.stream:
        from svid.wan.chain import decode_continued

        return decode_continued(model, state["latents"], segment.overlap, carry)
    from svid.wan.vae import decode_frames

    model.stream = None  # gigabytes on a GPU, which only a chain that goes on as one stream has a use for
    return decode_frames(model.vae, state["latents"])


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any]:
    """Nothing: the same latents give the same frames."""
    return {}
