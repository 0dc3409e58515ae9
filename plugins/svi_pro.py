"""Recipes `svi-2.0-pro`, `svi-2.0-pro-fast`, `svi-2.0-pro-w2gp`: Stable Video Infinity 2.0 Pro on Wan 2.2.

What: image latents [anchor, last m latents of the segment before, zeros], zero in normalized space; mask on latent 0.
Why: segments hand over latents, so nothing is decoded and encoded again, and the anchor holds the video's look.
The segment repeats 4m + 1 frames of the one before (SVI issue 75), which are not shown.
Source: V22 diffsynth/pipelines/wan_video_svi_pro.py:481-531 and inference_svi_2.0_pro.py (branch svi_wan22); numbers
from its README: cfg 4, overlap 5. The boundary 0.875 is what that code runs with; Wan's own I2V value is 0.9.
-fast: kijai's native ComfyUI workflow, whose overlap is blended; its segments share one seed, which here they do not,
as the authors warn of it. -w2gp: Wan2GP's settings; it names no steps, the authors' are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Conditioning, Guidance, Job, Layout, Recipe, Segment
from svid.wan.prompts import NEGATIVE_ZH
from svid.wan.published import V22, sources

if TYPE_CHECKING:
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
            sources=sources(
                V22,
                guidance="V22 README.md:240-254; the script's own default is 5",
                layout_motion_latents="V22 README.md:240-254",
                layout_pad="V22 diffsynth/pipelines/wan_video_svi_pro.py:508-522",
                layout_seam="V22 inference_svi_2.0_pro.py:125-131, overlap 5 as in README.md:240-254",
            ),
            fps=15,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=4.0, low=4.0),
            boundary=0.875,
            layout=Layout(motion_latents=1, pad="zero_latent"),
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
            layout=Layout(motion_latents=1, pad="zero_latent", seam="blend"),
            seed_stride=42,
            distilled=True,
            loras=("lightx2v", "svi-2.0-pro"),
            negative=NEGATIVE_ZH,
            sources={
                "width": V22["width"],
                "height": V22["height"],
                "seed_stride": "V1 docs/DevLog.md:7 warns of one seed for all segments, which the workflow has",
            },
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
            layout=Layout(motion_latents=1, pad="zero_latent"),
            seed_stride=42,
            loras=("svi-2.0-pro",),
            negative=NEGATIVE_ZH,
            sources={"steps": V22["steps"], "seed_stride": V22["seed_stride"]},
        ),
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the anchor's latent, the motion latents and the padding."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.handover import latent_conditioning

    return latent_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
