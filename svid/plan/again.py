"""Segments that are asked for once more: another take of one, what follows it as it was, or all of it unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from svid.api import Recipe
from svid.config import Config
from svid.errors import ManifestError, Problem
from svid.manifest.model import Manifest
from svid.manifest.words import refuse
from svid.plan.build import SEEDS, Plan, Planned, build_plan
from svid.plan.misfits import dropped, without_trigger
from svid.plan.resolve import chosen, handed_on
from svid.plan.seams import too_short
from svid.plan.settings import Parent, PictureRef, Settings


def plan_again(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent,
    takes: Sequence[Planned],
    file: str = "manifest",
) -> Plan:
    """The plan of a `redo` or a `reproduce`: `takes` are the segments of the video as they were asked for, from the
    first that is rendered again on. Raises ManifestError as `build_plan` does."""
    first, *rest = (
        replace(one, settings=_dropping(manifest, one.settings), after=_dropping(manifest, one.after)) for one in takes
    )
    if manifest.redo is not None:
        first = _another(manifest, config, recipes, pictures, parent, takes[0], file)
        refuse(too_short([first, *rest], parent.room, file))
    else:
        refuse(dropped(manifest, {name for one in takes for name in one.settings.options}, file))
    unsaid = manifest.model_copy(update={"recipe": None, "model": None})
    for one in (first, *rest):
        chosen(unsaid, config, recipes, one.settings, file, one.index + 1)
    return Plan((first, *rest)[-1].after, (first, *rest), takes[-1].index + 1)


def _another(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent,
    old: Planned,
    file: str,
) -> Planned:
    """`old` with what the manifest says, for this segment alone: what follows goes on with what held after the old one.
    A manifest that changes nothing means another seed. So does one that only drops options: where their plugin has no
    part in it, the segment would come out as the old one, which is handed on with its options."""
    if old.clip is not None:
        message = "segment 1 is the clip that the video began with, which was never rendered"
        raise ManifestError(Problem(file, "redo", message))
    before = old.settings.model_copy(update={"loras": old.loras})
    plan = build_plan(manifest, config, recipes, pictures, Parent(parent.video, old.index, before, parent.room), file)
    fresh = plan.segments[0]
    latents = recipes[fresh.settings.recipe].layout.pad == "zero_latent"
    if latents and old.image and "anchor" in pictures and pictures["anchor"].pixels != old.image.pixels:
        message = f"expected the start picture, found another one: {fresh.settings.recipe} begins with its anchor"
        raise ManifestError(Problem(file, "anchor", message, "a new video begins with another picture"))
    if old.cut is not None and manifest.prompts is not None:
        refuse(without_trigger(config, fresh.settings.model, old.cut.lora, fresh.settings.prompt, file, "prompts[0]"))
    seed, after = old.seed if manifest.seed is None else manifest.seed, _dropping(manifest, old.after)
    new = replace(fresh, image=old.image, cut=old.cut, end=fresh.end or old.end, after=after, seed=seed)
    if manifest.seed is None and new == replace(old, settings=_dropping(manifest, before), after=after):
        return replace(new, seed=another_seed(old.seed))
    return new


def _dropping(manifest: Manifest, settings: Settings) -> Settings:
    """Settings without the options that the manifest drops: it may be that no plugin takes them now."""
    return settings.model_copy(update={"options": handed_on(settings.options, manifest)})


def another_seed(seed: int) -> int:
    """A seed for another take, always the same one after the same seed, so that a home that is asked the same things
    gives the same segments."""
    return int.from_bytes(hashlib.sha256(f"another take than {seed}".encode()).digest()[:8]) % SEEDS
