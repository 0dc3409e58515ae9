"""Build the plan: resolve a manifest against the recipe, the model's entry in svid.toml and the video that it
extends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svid.api import EXPERTS, Recipe
from svid.config import Config
from svid.errors import ManifestError, Problem
from svid.manifest.model import Cut, Manifest
from svid.media.codecs import codec, encoder_options
from svid.plan.settings import LoraStrength, PictureRef, SamplingSettings, Settings, TailRef

SEEDS = 2**63


@dataclass(frozen=True)
class Parent:
    """What a plan builds on: `length` segments of a video, and the settings that hold after them."""

    video: str
    length: int
    settings: Settings


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
    image: PictureRef | None
    cut: CutPlan | None


@dataclass(frozen=True)
class Plan:
    """The segments that a job renders, in order."""

    recipe: Recipe
    settings: Settings
    segments: tuple[Planned, ...]
    length: int
    """Segments of the video when all is done."""


def build_plan(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent | None = None,
    file: str = "manifest",
) -> Plan:
    """The plan of a manifest. `pictures` maps a place in it (`image`, `cuts[0].anchor`) to the stored picture.

    Raises ManifestError with everything in it that does not fit this home or the video it extends.
    """
    settings = _settings(manifest, config, recipes, pictures, parent)
    recipe = recipes[settings.recipe]
    wanted = count(manifest, recipe.prompt_repeat)
    problems = _misfits(manifest, settings, config, parent, file, wanted)
    if recipe.base == "wan2.1-i2v" and settings.sampling.boundary > 0:
        message = f"expected 0, as Wan 2.1 has one transformer for all steps, found {settings.sampling.boundary}"
        problems.append(Problem(file, "sample.boundary", message, "leave it out"))
    if settings.frames <= recipe.overlap and wanted > (0 if parent else 1):
        message = f"expected more than {recipe.overlap}, which every segment repeats of the one before it"
        problems.append(Problem(file, "frames", f"{message}, found {settings.frames}"))
    needed = -(-wanted // recipe.prompt_repeat)
    if len(manifest.prompts or ()) > needed:
        message = f"expected at most {needed}, as {recipe.name} uses each for {recipe.prompt_repeat} segments"
        problems.append(Problem(file, "prompts", f"{message}, found {len(manifest.prompts or ())}"))
    if problems:
        raise ManifestError(problems)
    start = parent.length if parent else 0
    cuts = {cut.segment: (place, cut) for place, cut in enumerate(manifest.cuts)}
    planned: list[Planned] = []
    for number in range(1, wanted + 1):
        prompts = manifest.prompts or (settings.prompt,)
        turn = (number - 1) // recipe.prompt_repeat
        settings = settings.model_copy(update={"prompt": prompts[min(turn, len(prompts) - 1)]})
        image = pictures.get("image") if parent is None and number == 1 else None
        place, cut = cuts.get(number, (0, None))
        shot = pictures.get(f"cuts[{place}].anchor")
        one = _planned(settings, start + number - 1, recipe, image, cut, shot)
        planned.append(one)
        settings = one.after
    return Plan(recipe, settings, tuple(planned), start + len(planned))


def chosen(manifest: Manifest, config: Config, parent: Parent | None) -> tuple[str, str]:
    """The names of the recipe and of the model: the manifest's, else those of the video it extends, else
    svid.toml's."""
    base = parent.settings if parent else config.defaults
    return manifest.recipe or base.recipe, manifest.model or base.model


def count(manifest: Manifest, repeat: int = 1) -> int:
    """How many segments a manifest asks for, by a recipe that uses each prompt `repeat` times."""
    if manifest.segments is not None:
        return manifest.segments
    if manifest.branch is not None and not manifest.prompts:
        return 0
    return len(manifest.prompts or ()) * repeat or 1


def _planned(
    settings: Settings,
    index: int,
    recipe: Recipe,
    image: PictureRef | None,
    cut: Cut | None,
    shot: PictureRef | None,
) -> Planned:
    seed = (settings.seed + recipe.seed_stride * index) % SEEDS
    if cut is None:
        return Planned(index, settings, settings, seed, image, None)
    # The cut happens inside this segment, which still begins in the old shot. From the next one on the anchor must be
    # the new shot, or the video snaps back to the old one (SVI spec section 8).
    after = settings.model_copy(update={"anchor": shot or TailRef(tail_of=index)})
    during = settings.model_copy(update={"prompt": cut.prompt})
    return Planned(index, during, after, seed, image, CutPlan(cut.lora, cut.strength))


def _settings(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Parent | None,
) -> Settings:
    """What holds at the first new segment: the manifest, over the video it extends, over svid.toml, over the recipe."""
    base = parent.settings if parent else None
    name, model = chosen(manifest, config, parent)
    recipe = recipes[name]
    values = _from_recipe(recipe, config, model)
    if base is not None:
        goes_on = base.model_dump()
        if name != base.recipe:
            # Another recipe brings its own numbers; what makes it the same video stays.
            kept = ("prompt", "seed", "width", "height", "fps", "options", "codec", "quality", "anchor")
            goes_on = {key: goes_on[key] for key in kept}
        values |= goes_on
    values |= {"recipe": name, "model": model}
    for key in ("negative", "seed", "width", "height", "frames", "fps"):
        if getattr(manifest, key) is not None:
            values[key] = getattr(manifest, key)
    values["sampling"] = _sampling(manifest, values["sampling"])
    values["loras"] = _loras(manifest, values["loras"])
    values["options"] = values["options"] | {key: dict(table) for key, table in manifest.options.items()}
    if manifest.encode.codec is not None:
        values |= {"codec": manifest.encode.codec, "quality": None}
    if manifest.encode.quality is not None:
        values["quality"] = manifest.encode.quality
    anchor = pictures.get("anchor") or (None if parent else pictures.get("image"))
    if anchor is not None:
        values["anchor"] = anchor.model_dump()
    return Settings.model_validate(values)


def _from_recipe(recipe: Recipe, config: Config, model: str) -> dict[str, Any]:
    table = config.models.get(model)
    return {
        "prompt": "",
        "negative": recipe.negative,
        "seed": 0,
        "width": (table and table.width) or recipe.width,
        "height": (table and table.height) or recipe.height,
        "frames": recipe.frames,
        "fps": recipe.fps,
        "sampling": {
            "sampler": recipe.sampler,
            "steps": (table and table.steps) or recipe.steps,
            "shift": recipe.shift,
            "sigmas": None,
            "guidance_high": recipe.guidance.high,
            "guidance_low": recipe.guidance.low,
            "boundary": recipe.boundary,
        },
        "loras": [lora.model_dump() for lora in recipe.loras],
        "options": {},
        "codec": "h264",
        "quality": None,
    }


def _sampling(manifest: Manifest, values: dict[str, Any]) -> SamplingSettings:
    sample = manifest.sample
    values = dict(values)
    for key in ("sampler", "steps", "shift", "boundary"):
        if getattr(sample, key) is not None:
            values[key] = getattr(sample, key)
    if sample.steps is not None:
        values["sigmas"] = None
    if sample.sigmas is not None:
        values |= {"sigmas": tuple(sample.sigmas), "steps": len(sample.sigmas)}
    if sample.guidance is not None:
        values |= {"guidance_high": sample.guidance.high, "guidance_low": sample.guidance.low}
    return SamplingSettings.model_validate(values)


def _loras(manifest: Manifest, known: list[dict[str, Any]]) -> list[LoraStrength]:
    """The LoRAs so far, with the manifest's beside them; one that is named again gets the manifest's strength."""
    chosen = {lora["name"]: LoraStrength.model_validate(lora) for lora in known}
    for lora in manifest.loras:
        chosen[lora.name] = LoraStrength(name=lora.name, high=lora.high, low=lora.low)
    return list(chosen.values())


def _misfits(
    manifest: Manifest, settings: Settings, config: Config, parent: Parent | None, file: str, wanted: int
) -> list[Problem]:
    problems = []
    for key in ("width", "height", "fps"):
        if parent is not None and getattr(settings, key) != getattr(parent.settings, key):
            here, there = getattr(settings, key), getattr(parent.settings, key)
            problems.append(Problem(file, key, f"expected {there}, as the video {parent.video} has, found {here}"))
    if parent is None and manifest.image is None:
        problems.append(Problem(file, "image", "a new video needs a start image"))
    try:
        encoder_options(codec(settings.codec), settings.quality)
    except ManifestError as error:
        problems += [Problem(file, f"encode.{one.where}", one.message, one.hint) for one in error.problems]
    named = [("loras", lora.name) for lora in settings.loras]
    named += [(f"cuts[{place}].lora", cut.lora) for place, cut in enumerate(manifest.cuts)]
    for where, name in named:
        table = config.lora(settings.model, name)
        if table is None:
            known = ", ".join(sorted(config.lora_names(settings.model))) or "none"
            hint = f"known for the model {settings.model}: {known}; add [loras.{name}] to svid.toml"
            problems.append(Problem(file, where, f"svid.toml has no LoRA {name!r}", hint))
        elif not any(table.file(expert) for expert in EXPERTS):
            problems.append(Problem("svid.toml", f"loras.{name}", "names no file", "high, low or path"))
        elif where.startswith("cuts") and table.file("high") is None:
            message = "has no file for the high-noise expert, which is the one that a hard cut is made on"
            problems.append(Problem("svid.toml", f"loras.{name}", message))
    problems += [
        Problem(file, f"cuts[{place}].segment", f"expected 1 to {wanted}, found {cut.segment}")
        for place, cut in enumerate(manifest.cuts)
        if cut.segment > wanted
    ]
    return problems
