"""Recipes `svi-film`, `svi-film-opt`, `svi-film-transitions`: Stable Video Infinity 1.0 for stories, on Wan 2.1.

What: the last five frames of the segment before (a first segment: the start image), then grey, in one VAE encode; mask
on latent 0 only, although five frames are given; CLIP sees the oldest of the five.
Why: five frames carry the motion across the seam, grey leaves the scene free to change with the prompt. The segment
before gives up its last five frames, which the next one begins with.
Source: V1 diffsynth/pipelines/svi_video.py:291-364 and test_svi.py, scripts/test/svi_film.sh (vita-epfl/Stable-Video-
Infinity @34e4c50). The three LoRAs differ in their training only: -opt is what the shipped script loads, -transitions
has seen more scene changes.
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
VARIANT = "svi-film"
SOURCE = "vita-epfl/Stable-Video-Infinity @34e4c50, "


@hookimpl
def svid_recipes() -> Sequence[Recipe]:
    """The authors' numbers, the same for the three LoRAs."""
    return [
        _recipe("svi-film", "SVI 1.0 film: a story with a prompt per segment", "scripts/test/svi_film.sh"),
        _recipe(
            "svi-film-opt",
            "SVI 1.0 film, retrained; the authors' script loads this one",
            "scripts/test/svi_film.sh:11, docs/DevLog.md:18-32",
        ),
        _recipe(
            "svi-film-transitions",
            "SVI 1.0 film, trained on more scene transitions",
            "scripts/test/svi_film.sh, README.md of the later main branch",
        ),
    ]


def _recipe(name: str, title: str, source: str) -> Recipe:
    return Recipe(
        name=name,
        variant=VARIANT,
        title=title,
        source=SOURCE + source,
        sources=sources(
            V1,
            guidance="V1 scripts/test/svi_film.sh:6-8",
            layout_motion_frames="V1 scripts/test/svi_film.sh:6-8",
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
        layout=Layout(motion_frames=5, pad="grey", seam="tail"),
        seed_stride=42,
        loras=(name,),
        negative=NEGATIVE_EN,
    )


@hookimpl
def svid_build_conditioning(job: Job, model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """y of the motion frames and grey, and the picture of the oldest of them."""
    if job.recipe.variant != VARIANT:
        return None
    from svid.wan.pixels import pixel_conditioning

    return pixel_conditioning(model, segment, carry)


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes part in its own variant only."""
    return {} if job.recipe.variant == VARIANT else None
