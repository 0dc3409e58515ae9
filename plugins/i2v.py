"""Recipe and conditioning `i2v`: plain Wan 2.2 image-to-video, chained by the last frame.

What: the start image, or the last frame of the segment before, followed by grey, in one VAE encode; mask on latent 0.
Why: what everybody compares SVI with, and what works without any SVI LoRA. Long chains drift: that is SVI's reason.
Source: Wan-Video/Wan2.2 @42bf4cf wan/configs/wan_i2v_A14B.py and wan/image2video.py; the negative prompt is
`sample_neg_prompt` of wan/configs/shared_config.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Conditioning, Guidance, Job, Recipe, Segment
from svid.wan.prompts import NEGATIVE_ZH

if TYPE_CHECKING:
    import torch

    from svid.wan.model import WanModel

CACHE_VERSION = 1
VARIANT = "i2v"


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """Wan's official numbers."""
    return [
        Recipe(
            name="i2v",
            variant=VARIANT,
            title="plain Wan 2.2 image-to-video, chained by the last frame",
            source="Wan-Video/Wan2.2 wan/configs/wan_i2v_A14B.py",
            fps=16,
            steps=40,
            sampler="unipc",
            shift=5.0,
            guidance=Guidance(high=3.5, low=3.5),
            boundary=0.9,
            motion_frames=1,
            negative=NEGATIVE_ZH,
        )
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the start image or of the tail's last frames, grey after them."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.conditioning import grey_padded, masked
    from svid.wan.vae import encode_normalized

    frames = _start_frames(segment, carry)
    return Conditioning(y=masked(encode_normalized(model.vae, grey_padded(frames, segment.frames))).cpu())


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None


def _start_frames(segment: Segment, carry: Carry | None) -> torch.Tensor:
    """uint8 [n, H, W, 3]: the image of a first segment, else the last `motion_frames` (at least one) of the tail."""
    from svid.errors import Problem, Refused
    from svid.media.images import open_picture, resized

    if carry is not None:
        wanted = max(segment.motion_frames, 1)
        if carry.tail.shape[0] < wanted:
            message = f"expected {wanted} frames of the segment before, found {carry.tail.shape[0]}"
            raise Refused(Problem("the segment", "motion_frames", message))
        return carry.tail[-wanted:]
    if segment.image is None:
        raise Refused(Problem("the manifest", "image", "expected a start image for the first segment, found none"))
    return resized(open_picture(segment.image.path), segment.width, segment.height)[None]
