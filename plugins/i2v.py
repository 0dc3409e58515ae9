"""Recipes and conditioning `i2v`, `i2v-wan21`: plain Wan image-to-video, chained by the last frame.

What: the start image, or the last frame of the segment before, followed by grey, in one VAE encode; mask on latent 0.
Why: what everybody compares SVI with, and what works without any SVI LoRA. Long chains drift: that is SVI's reason.
Source: Wan-Video/Wan2.2 @42bf4cf wan/configs/wan_i2v_A14B.py and wan/image2video.py; the negative prompt is
`sample_neg_prompt` of wan/configs/shared_config.py. Wan 2.1: Wan-Video/Wan2.1 @9737cba generate.py:74-79 (shift 3 is
for 480p, 5 for 720p), wan/configs/shared_config.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Conditioning, Guidance, Job, Layout, Recipe, Segment
from svid.wan.prompts import NEGATIVE_ZH
from svid.wan.published import WAN21, WAN22, sources

if TYPE_CHECKING:
    from svid.wan.model import WanModel

CACHE_VERSION = 1
VARIANT = "i2v"
CHAIN = {
    "layout_motion_frames": "what chaining by the last frame is",
    "layout_seam": "the next segment's first frame is the last one of the segment before",
    "seed_stride": "V1 test_svi.py:411-428, so that it can be compared with SVI",
    "prompt_repeat": "a prompt per segment",
    "loras": "none",
}


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """Wan's official numbers for both models."""
    return [
        Recipe(
            name="i2v",
            variant=VARIANT,
            title="plain Wan 2.2 image-to-video, chained by the last frame",
            source="Wan-Video/Wan2.2 wan/configs/wan_i2v_A14B.py",
            sources=sources(WAN22, **CHAIN),
            fps=16,
            steps=40,
            sampler="unipc",
            shift=5.0,
            guidance=Guidance(high=3.5, low=3.5),
            boundary=0.9,
            layout=Layout(motion_frames=1),
            negative=NEGATIVE_ZH,
        ),
        Recipe(
            name="i2v-wan21",
            variant=VARIANT,
            title="plain Wan 2.1 image-to-video at 480p, chained by the last frame",
            source="Wan-Video/Wan2.1 generate.py:74-79, wan/configs/wan_i2v_14B.py",
            sources=sources(WAN22, WAN21, **CHAIN),
            fps=16,
            steps=40,
            sampler="unipc",
            shift=3.0,
            guidance=Guidance(high=5.0, low=5.0),
            boundary=0.0,
            base="wan2.1-i2v",
            layout=Layout(motion_frames=1),
            negative=NEGATIVE_ZH,
        ),
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the start image or of the tail's last frames, grey after them."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.pixels import pixel_conditioning

    return pixel_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
