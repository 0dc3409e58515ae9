"""Recipes `svi-2.0-pro`, `svi-2.0-pro-fast`, `svi-2.0-pro-w2gp`: Stable Video Infinity 2.0 Pro on Wan 2.2.

What: image latents [anchor, last m latents of the segment before, zeros], zero in normalized space; mask on latent 0.
Why: segments hand over latents, so nothing is decoded and encoded again, and the anchor holds the video's look.
The segment repeats 4m + 1 frames of the one before (SVI issue 75), which are not shown.
Source: V22 diffsynth/pipelines/wan_video_svi_pro.py:481-531 and inference_svi_2.0_pro.py (branch svi_wan22); numbers
from its README: cfg 4, overlap 5. The boundary 0.875 is what that code runs with; Wan's own I2V value is 0.9.
-fast: kijai's native ComfyUI workflow, whose overlap is blended and whose segments share one seed; here it is cut and
they do not, as the authors warn of one seed. -w2gp: Wan2GP's settings; it names no steps, the authors' are taken.
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
VARIANT = "svi-2.0-pro"


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """The authors' numbers, and two of the community's."""
    return [
        Recipe(
            name="svi-2.0-pro",
            variant=VARIANT,
            title="SVI 2.0 Pro: anchor and last latent, for videos of any length",
            source="vita-epfl/Stable-Video-Infinity branch svi_wan22, README and inference_svi_2.0_pro.py",
            fps=15,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=4.0, low=4.0),
            boundary=0.875,
            motion_latents=1,
            pad="zero_latent",
            seed_stride=42,
            loras=("svi-2.0-pro",),
            negative=NEGATIVE_ZH,
        ),
        Recipe(
            name="svi-2.0-pro-fast",
            variant=VARIANT,
            title="SVI 2.0 Pro in six steps, with the lightx2v LoRA",
            source="wanx-troopers.github.io @8a2eec0, svi/kj-wan22_SVI_Pro_native_example_KJ.json",
            fps=16,
            steps=6,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=1.0, low=1.0),
            boundary=0.9,
            motion_latents=1,
            pad="zero_latent",
            seed_stride=42,
            loras=("lightx2v", "svi-2.0-pro"),
            negative=NEGATIVE_ZH,
        ),
        Recipe(
            name="svi-2.0-pro-w2gp",
            variant=VARIANT,
            title="SVI 2.0 Pro with Wan's own sampler and boundary, as Wan2GP runs it",
            source="deepbeepmeep/Wan2GP @8681e9f, defaults/i2v_2_2_svi2pro.json and models/wan/wan_handler.py",
            fps=16,
            steps=50,
            sampler="unipc",
            shift=5.0,
            guidance=Guidance(high=3.5, low=3.5),
            boundary=0.9,
            motion_latents=1,
            pad="zero_latent",
            seed_stride=42,
            loras=("svi-2.0-pro",),
            negative=NEGATIVE_ZH,
        ),
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the anchor's latent, the motion latents and zeros."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.conditioning import masked, pro_latents

    anchor = _anchor_latent(model, segment)
    latents = pro_latents(anchor, _motion_latents(segment, carry, anchor), segment.latent_shape[2])
    return Conditioning(y=masked(latents))


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None


def _anchor_latent(model: WanModel, segment: Segment) -> torch.Tensor:
    """[1, 16, 1, h, w] fp32 on the CPU: the anchor encoded alone, once for the whole video."""
    from svid.wan.conditioning import to_pixels
    from svid.wan.pixels import anchor_picture, picture_frame
    from svid.wan.vae import encode_normalized

    anchor = anchor_picture(segment)
    key = (anchor.pixels, segment.width, segment.height)
    latent = model.anchors.get(key)
    if latent is None:
        latent = encode_normalized(model.vae, to_pixels(picture_frame(anchor, segment)[None])).cpu()
        model.anchors.put(key, latent)
    return latent


def _motion_latents(segment: Segment, carry: Carry | None, anchor: torch.Tensor) -> torch.Tensor | None:
    """[1, 16, m, h, w] from the end of the segment before, or None for a first segment or for m = 0."""
    from svid.errors import Problem, Refused

    count = segment.motion_latents
    if carry is None or not count:
        return None
    latents = carry.state.get("latents")
    if latents is None:
        message = f"expected latents of the segment before, found {sorted(carry.state) or 'nothing'}"
        raise Refused(Problem("the segment", "carry", message, "was it made with another backend?"))
    if latents.shape[2] < count or latents.shape[3:] != anchor.shape[3:]:
        expected = f"expected {count} latents or more of {list(anchor.shape[3:])}"
        message = f"{expected}, found {latents.shape[2]} of {list(latents.shape[3:])}"
        raise Refused(Problem("the segment", "carry", message, "keep the size of the video that is continued"))
    return latents[:, :, -count:]
