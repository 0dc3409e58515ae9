"""Recipe and conditioning `svi-tom`: Stable Video Infinity 1.0 for cartoons, on Wan 2.1.

What: the last frame of the segment before (a first segment: the start image), then grey, in one VAE encode; mask on
latent 0; CLIP sees the motion frame.
Why: the film workflow with one motion frame, with the LoRA that they trained on cartoons.
Source: V1 diffsynth/pipelines/svi_video.py:291-364 and test_svi.py, scripts/test/svi_tom.sh (vita-epfl/Stable-Video-
Infinity @34e4c50).
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
VARIANT = "svi-tom"


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """The authors' numbers."""
    return [
        Recipe(
            name="svi-tom",
            variant=VARIANT,
            title="SVI 1.0 tom: cartoons with a prompt per segment",
            source="vita-epfl/Stable-Video-Infinity @34e4c50, scripts/test/svi_tom.sh:6-8",
            sources=sources(
                V1,
                guidance="V1 scripts/test/svi_tom.sh:6-8",
                layout_motion_frames="V1 scripts/test/svi_tom.sh:6-8",
                layout_pad="V1 diffsynth/pipelines/svi_video.py:336-347, ref_pad_num 0",
            ),
            max_width=832,
            fps=24,
            steps=50,
            sampler="euler",
            shift=5.0,
            guidance=Guidance(high=5.0, low=5.0),
            boundary=0.0,
            base="wan2.1-i2v",
            layout=Layout(motion_frames=1, pad="grey", seam="tail"),
            seed_stride=42,
            loras=("svi-tom",),
            negative=NEGATIVE_EN,
        )
    ]


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the motion frame and grey, and the motion frame's picture."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.pixels import pixel_conditioning

    return pixel_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
