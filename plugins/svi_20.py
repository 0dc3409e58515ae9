"""Recipes `svi-2.0-wan21`, `svi-2.0-wan22`, `svi-2.0-wan22-fast`, `-lightx2v`: Stable Video Infinity 2.0.

What: the last frames of the segment before (a first segment: the start image), then copies of the anchor, in one VAE
encode; mask on latent 0 only. Wan 2.1 takes five frames and sees the oldest by CLIP, Wan 2.2 takes one.
Why: 2.0 was trained with an anchor from outside the clip, so a prompt per segment and a steady look go together.
On Wan 2.1, and in the authors' ComfyUI workflow, the segment before gives up the frames that repeat; in their script
for Wan 2.2 the next one does.
Source: V1 svi_video.py:291-364 and V1m scripts/test/svi_2.0.sh for Wan 2.1; V22 diffsynth/pipelines/wan_video_svi.py
and inference_svi_2.0.py (branch svi_wan22) for Wan 2.2. The boundary 0.875 is what that code runs with; Wan's own I2V
value is 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Conditioning, Guidance, Job, Layout, Recipe, RecipeLora, Segment
from svid.wan.prompts import NEGATIVE_EN, NEGATIVE_ZH
from svid.wan.published import V1, V22, sources

if TYPE_CHECKING:
    from svid.wan.model import WanModel

CACHE_VERSION = 1
VARIANT = "svi-2.0"


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """The authors' numbers for both models, and those of their ComfyUI workflow."""
    return [
        Recipe(
            name="svi-2.0-wan21",
            variant=VARIANT,
            title="SVI 2.0 on Wan 2.1: five motion frames and the anchor",
            source="vita-epfl/Stable-Video-Infinity main, scripts/test/svi_2.0.sh:3-13",
            sources=sources(
                V1,
                guidance="V1m scripts/test/svi_2.0.sh:3-13",
                prompt_repeat="V1m scripts/test/svi_2.0.sh:3-13",
                layout_motion_frames="V1m scripts/test/svi_2.0.sh:3-13, README.md:366",
                layout_pad="V1m scripts/test/svi_2.0.sh:3-13, ref_pad_num -1",
            ),
            max_width=832,
            fps=24,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=5.0, low=5.0),
            boundary=0.0,
            base="wan2.1-i2v",
            layout=Layout(motion_frames=5, pad="reference", seam="tail"),
            prompt_repeat=2,
            seed_stride=42,
            loras=("svi-2.0-wan21",),
            negative=NEGATIVE_EN,
        ),
        Recipe(
            name="svi-2.0-wan22",
            variant=VARIANT,
            title="SVI 2.0 on Wan 2.2: the last frame and the anchor",
            source="vita-epfl/Stable-Video-Infinity branch svi_wan22, inference_svi_2.0.py",
            sources=sources(
                V22,
                guidance="V22 diffsynth/pipelines/wan_video_svi.py:221-227",
                boundary="V22 diffsynth/pipelines/wan_video_svi.py:224,287, never overridden; Wan's own is 0.9",
                layout_motion_frames="V22 inference_svi_2.0.py:125-126",
                layout_pad="V22 diffsynth/pipelines/wan_video_svi.py:454-480",
                layout_seam="V22 inference_svi_2.0.py:120-123",
            ),
            fps=15,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=5.0, low=5.0),
            boundary=0.875,
            layout=Layout(motion_frames=1, pad="reference", seam="head"),
            seed_stride=42,
            loras=("svi-2.0-wan22",),
            negative=NEGATIVE_ZH,
        ),
        Recipe(
            name="svi-2.0-wan22-fast",
            variant=VARIANT,
            title="SVI 2.0 on Wan 2.2 in six steps, with the Lightning LoRA",
            source="vita-epfl/Stable-Video-Infinity branch svi_wan22, comfyui_workflow/SVI-Wan22-1210-10-Clips.json",
            fps=16,
            steps=6,
            sampler="dpm++_sde",
            shift=8.0,
            guidance=Guidance(high=1.5, low=1.5),
            boundary=0.9,
            layout=Layout(motion_frames=1, pad="reference", seam="tail"),
            seed_stride=1,
            # At 1 on the high-noise expert motion and prompt suffer (V22 docs/svi/comfyui.md).
            distilled=True,
            loras=(RecipeLora(name="lightning", high=0.5, low=1.0), RecipeLora(name="svi-2.0-wan22")),
            negative=NEGATIVE_ZH,
        ),
        Recipe(
            name="svi-2.0-wan22-lightx2v",
            variant=VARIANT,
            title="SVI 2.0 on Wan 2.2 in eight steps, five motion frames, with the lightx2v LoRA",
            source="wanx-troopers.github.io @8a2eec0, svi/h_svi2_wan22_HasRnD.json",
            width=1280,
            height=720,
            fps=16,
            steps=8,
            sampler="dpm++_sde",
            shift=8.0,
            guidance=Guidance(high=1.0, low=1.0),
            boundary=0.9,
            layout=Layout(motion_frames=5, pad="reference", seam="head"),
            seed_stride=1,
            distilled=True,
            loras=("lightx2v", RecipeLora(name="svi-2.0-wan22", high=0.5, low=1.0)),
            negative=NEGATIVE_ZH,
            sources={"layout.seam": "the workflow joins nothing; Wan 2.2's own script leaves out the later head"},
        ),
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the motion frames and copies of the anchor; on Wan 2.1 also the picture of the oldest frame."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.pixels import pixel_conditioning

    return pixel_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
