"""Recipes and conditioning `svi-shot`, `svi-shot-fast`: Stable Video Infinity 1.0 for one endless shot, on Wan 2.1.

What: the last frame of the segment before (a first segment: the start image), then copies of the anchor, in one VAE
encode; mask on latent 0; CLIP sees the motion frame.
Why: the anchor behind every segment keeps a scene from drifting, so one prompt can go on for minutes. The authors use
the first prompt for all segments: name one prompt and a number of segments.
Source: V1 diffsynth/pipelines/svi_video.py:291-364 and test_svi.py, scripts/test/svi_shot.sh (vita-epfl/Stable-Video-
Infinity @34e4c50). -fast: the authors' ComfyUI workflow, whose first segment is padded with grey and whose colours are
matched to the start image; here the first segment is padded with the anchor, as in their script, and no colour is
changed. It is the only 1.0 LoRA that the authors offer with step distillation (V1m README.md:266).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svid import hookimpl
from svid.api import Carry, Conditioning, Guidance, Job, Layout, Recipe, Segment
from svid.wan.prompts import NEGATIVE_EN
from svid.wan.published import V1, sources

if TYPE_CHECKING:
    from svid.wan.model import WanModel

CACHE_VERSION = 1
VARIANT = "svi-shot"


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """The authors' numbers, for their script and for their ComfyUI workflow."""
    return [
        Recipe(
            name="svi-shot",
            variant=VARIANT,
            title="SVI 1.0 shot: one scene and one prompt, for as long as you like",
            source="vita-epfl/Stable-Video-Infinity @34e4c50, scripts/test/svi_shot.sh:6-11",
            sources=sources(
                V1,
                guidance="V1 scripts/test/svi_shot.sh:6-11",
                layout_motion_frames="V1 scripts/test/svi_shot.sh:6-11",
                layout_pad="V1 diffsynth/pipelines/svi_video.py:336-347, ref_pad_num -1",
            ),
            max_width=832,
            fps=24,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=5.0, low=5.0),
            boundary=0.0,
            base="wan2.1-i2v",
            layout=Layout(motion_frames=1, pad="reference", seam="tail"),
            seed_stride=42,
            loras=("svi-shot",),
            negative=NEGATIVE_EN,
        ),
        Recipe(
            name="svi-shot-fast",
            variant=VARIANT,
            title="SVI 1.0 shot in eight steps, with the lightx2v LoRA",
            source="V1m comfyui_workflow_svi_1.0/SVI-Shot-StreamingPrompt-1028.json",
            width=832,
            height=448,
            fps=16,
            steps=8,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=1.0, low=1.0),
            boundary=0.0,
            base="wan2.1-i2v",
            layout=Layout(motion_frames=1, pad="reference", seam="tail"),
            seed_stride=1,
            distilled=True,
            loras=("lightx2v", "svi-shot"),
            negative=NEGATIVE_EN,
        ),
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the motion frame and copies of the anchor, and the motion frame's picture."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.pixels import pixel_conditioning

    return pixel_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
