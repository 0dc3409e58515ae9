"""Build the plan: resolve a manifest against the recipe, the model's entry in svid.toml and the video that it
extends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from svid.api import Recipe
from svid.config import Config
from svid.manifest.model import Manifest
from svid.manifest.tables import Cut
from svid.manifest.words import refuse
from svid.plan.misfits import misfits
from svid.plan.resolve import merged, resolve
from svid.plan.seams import too_short
from svid.plan.settings import ClipRef, LoraStrength, Parent, PictureRef, Settings, TailRef

SEEDS = 2**63


@dataclass(frozen=True)
class CutPlan:
    """The hard cut of a segment."""

    lora: str
    strength: float


@dataclass(frozen=True)
class Planned:
    """One segment to render: what holds for it, and what holds after it."""

    index: int
    settings: Settings
    after: Settings
    seed: int
    image: PictureRef | None = None
    cut: CutPlan | None = None
    end: PictureRef | None = None
    loras: tuple[LoraStrength, ...] = ()
    clip: ClipRef | None = None
    """Where the segment is not rendered but taken from a clip."""


@dataclass(frozen=True)
class Start:
    """What recipes and svid.toml have a say in. All else in a plan is the manifest's, so that where this is kept, the
    plan stays the same, whatever they say later."""

    settings: Settings
    """What holds at the first segment."""
    length: int
    """Segments of the video before it."""
    prompt_repeat: int
    seed_stride: int


@dataclass(frozen=True)
class Plan:
    """The segments that a job renders, in order."""

    settings: Settings
    """What holds after the last segment."""
    segments: tuple[Planned, ...]
    length: int
    """Segments of the video when all is done."""

    @property
    def begins(self) -> Settings:
        """What holds for the first segment, which a redo may render with another model than what holds afterwards."""
        return self.segments[0].settings if self.segments else self.settings


def build_plan(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent | None = None,
    file: str = "manifest",
    clip: ClipRef | None = None,
) -> Plan:
    """The plan of a manifest. `pictures` maps a place in it (`image`, `cuts[0].anchor`) to the stored picture; `clip`
    is the stored clip that it begins with.

    Raises ManifestError with everything in it that does not fit this home or the video it extends.
    """
    return laid_out(manifest, start_of(manifest, config, recipes, pictures, parent, file, clip), pictures, clip)


def start_of(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent | None = None,
    file: str = "manifest",
    clip: ClipRef | None = None,
) -> Start:
    """What the plan of a manifest begins with, by today's recipes and svid.toml. Raises ManifestError as `build_plan`
    does."""
    before = parent.settings if parent else None
    settings = resolve(manifest, config, recipes, pictures, before, file, clip)
    recipe = recipes[settings.recipe]
    wanted = count(manifest, recipe.prompt_repeat)
    problems = misfits(manifest, settings, config, parent, recipe, clip, pictures, file, wanted)
    refuse(problems)
    start = Start(settings, parent.length if parent else 0, recipe.prompt_repeat, recipe.seed_stride)
    refuse(too_short(laid_out(manifest, start, pictures, clip).segments, parent.room if parent else None, file))
    return start


def laid_out(
    manifest: Manifest, begins: Start, pictures: Mapping[str, PictureRef], clip: ClipRef | None = None
) -> Plan:
    """The segments of a manifest, from what its plan begins with."""
    settings, start, repeat = begins.settings, begins.length, begins.prompt_repeat
    wanted = count(manifest, repeat)
    planned: list[Planned] = []
    if clip is not None:
        planned.append(Planned(0, settings, settings, settings.seed, clip=clip))
        start = 1
    cuts = {cut.segment: (place, cut) for place, cut in enumerate(manifest.cuts)}
    ends = {end.segment or wanted: pictures.get(f"ends[{place}].image") for place, end in enumerate(manifest.ends)}
    for number in range(1, wanted + 1):
        settings = _changed(settings, manifest, pictures, number, repeat)
        place, cut = cuts.get(number, (0, None))
        one = Planned(
            index=start + number - 1,
            settings=settings,
            after=settings,
            seed=(settings.seed + begins.seed_stride * (start + number - 1)) % SEEDS,
            image=pictures.get("image") if begins.length == 0 and number == 1 else None,
            end=ends.get(number) or pictures.get(f"cuts[{place}].end_image" if cut else ""),
            loras=tuple(merged(list(settings.loras), manifest, number)),
        )
        planned.append(one if cut is None else _with_cut(one, cut, pictures.get(f"cuts[{place}].anchor")))
        settings = planned[-1].after
    return Plan(settings, tuple(planned), start + wanted)


def count(manifest: Manifest, repeat: int = 1) -> int:
    """How many segments a manifest asks for, by a recipe that uses each prompt `repeat` times."""
    if manifest.redo is not None:
        return 1
    if manifest.segments is not None:
        return manifest.segments
    if manifest.branch is not None and not manifest.prompts:
        return 0
    return len(manifest.prompts or ()) * repeat or 1


def _changed(
    settings: Settings, manifest: Manifest, pictures: Mapping[str, PictureRef], number: int, repeat: int
) -> Settings:
    """What holds for this segment of the manifest: the next prompt, the next anchor, until there is none left."""
    prompts = manifest.prompts or (settings.prompt,)
    changes: dict[str, Any] = {"prompt": prompts[min((number - 1) // repeat, len(prompts) - 1)]}
    anchor = pictures.get(f"anchors[{number - 1}]")
    if anchor is not None:
        changes["anchor"] = anchor
    return settings.model_copy(update=changes)


def _with_cut(one: Planned, cut: Cut, shot: PictureRef | None) -> Planned:
    # The cut happens inside this segment, which still begins in the old shot. From the next one on the anchor must be
    # the new shot, or the video snaps back to the old one (SVI spec section 8).
    after = one.settings.model_copy(update={"anchor": shot or one.end or TailRef(tail_of=one.index)})
    during = one.settings.model_copy(update={"prompt": cut.prompt})
    return replace(one, settings=during, after=after, cut=CutPlan(cut.lora, cut.strength))
