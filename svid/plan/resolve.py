"""What holds at the first new segment of a job: the manifest, over the video that it extends, over the model's entry in
svid.toml, over the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

from svid.api import Recipe
from svid.config import Config, ModelTable
from svid.errors import Problem
from svid.layout import Layout
from svid.manifest.model import Manifest
from svid.manifest.words import near, refuse
from svid.plan.settings import ClipRef, LoraStrength, PictureRef, SamplingSettings, Settings, TailRef

SAME_RATE = 1e-4
"""Relative difference of two frame rates that are one: 29.97 is written for 30000/1001."""


def chosen(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    parent: Settings | None,
    file: str,
    again: int | None = None,
) -> tuple[str, str]:
    """The names of the recipe and of the model: the manifest's, else those of the video it extends, else svid.toml's.
    `again` is the number of a segment that `parent` are the settings of, where it is asked for as it was.

    Raises ManifestError for what this home does not have, and says who named it."""
    base = parent or config.defaults
    names: list[str] = []
    problems: list[Problem] = []
    for kind, known in (("recipe", recipes), ("model", config.models)):
        own, name = getattr(manifest, kind), getattr(manifest, kind) or getattr(base, kind)
        names.append(name)
        if name in known:
            continue
        at, of, hint = (file, kind), "", near(name, known)
        if own is None and again is not None:  # the manifest may not say another one
            at, of = (file, manifest.base[0] if manifest.base else ""), f", by which segment {again} was made"
            hint = f"[models.{name}] in svid.toml brings it back" if kind == "model" else "a plugin has to bring it"
        elif own is None and parent is not None:
            of = " as in the video that is gone on with"
        elif own is None:
            at = ("svid.toml", f"defaults.{kind}")
        problems.append(Problem(*at, f"expected a {kind} of this home, found {name!r}{of}", hint))
    refuse(problems)
    return names[0], names[1]


def resolve(
    manifest: Manifest,
    config: Config,
    recipes: Mapping[str, Recipe],
    pictures: Mapping[str, PictureRef],
    parent: Settings | None,
    file: str,
    clip: ClipRef | None = None,
) -> Settings:
    """What holds at the first new segment: the manifest, over the video it extends, over svid.toml, over the recipe.
    Raises ManifestError for a recipe or a model that this home does not have."""
    base, (name, model) = parent, chosen(manifest, config, recipes, parent, file)
    recipe = recipes[name]
    values = _from_recipe(recipe, config, model)
    values |= _size(manifest, recipe, config.models.get(model), pictures.get("image") or clip)
    if base is not None:
        goes_on = base.model_dump()
        if name != base.recipe:
            # Another recipe brings its own numbers; what makes it the same video stays.
            kept = ("prompt", "seed", "width", "height", "fps", "options", "codec", "quality", "anchor", "stream")
            goes_on = {key: goes_on[key] for key in kept}
        values |= goes_on
    values = _written(manifest, values | {"recipe": name, "model": model})
    if manifest.decode.stream is None:
        wanted = values["stream"] if base is not None else clip is None and _streamed(config, model)
        values["stream"] = wanted and can_stream(recipe, values["layout"])
    anchor = anchor_of(pictures, base, clip)
    if anchor is not None:
        values["anchor"] = anchor
    if clip is not None and (manifest.fps is None or isclose(manifest.fps, clip.fps, rel_tol=SAME_RATE)):
        values["fps"] = clip.fps
    return Settings.model_validate(values)


def can_stream(recipe: Recipe, layout: Layout) -> bool:
    """Whether a chain can be decoded as one stream: what a segment repeats is latents, and shown as the one before has
    it."""
    return recipe.layout.pad == "zero_latent" and layout.motion_latents > 0 and layout.seam == "head"


def _streamed(config: Config, model: str) -> bool:
    table = config.models.get(model)
    return table is not None and table.stream


def anchor_of(
    pictures: Mapping[str, PictureRef], parent: Settings | None, clip: ClipRef | None
) -> PictureRef | TailRef | None:
    """The anchor that holds at the first new segment; None where a manifest has nothing to begin with."""
    anchor = pictures.get("anchor") or (None if parent else pictures.get("image"))
    if anchor is None and clip is not None:
        return TailRef(tail_of=0)
    return anchor or (parent.anchor if parent else None)


def _written(manifest: Manifest, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what the manifest says itself."""
    for key in ("negative", "seed", "width", "height", "frames", "fps"):
        if getattr(manifest, key) is not None:
            values[key] = getattr(manifest, key)
    values["sampling"] = _sampling(manifest, values["sampling"])
    values["loras"] = _loras(manifest, values["loras"])
    changed = manifest.conditioning.model_dump(exclude_none=True)
    values["layout"] = Layout.model_validate(values["layout"]).model_copy(update=changed)
    if manifest.decode.stream is not None:
        values["stream"] = manifest.decode.stream
    known = handed_on(values["options"], manifest)
    values["options"] = known | {key: {**known.get(key, {}), **table} for key, table in manifest.options.items()}
    if manifest.encode.codec not in (None, values["codec"]):  # a quality is a number of its own codec
        values |= {"codec": manifest.encode.codec, "quality": None}
    if manifest.encode.quality is not None:
        values["quality"] = manifest.encode.quality
    return values


def handed_on(options: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """The options of a video that a job takes over: those of the plugins that the manifest does not drop."""
    return {plugin: table for plugin, table in options.items() if plugin not in manifest.drop_options}


def _from_recipe(recipe: Recipe, config: Config, model: str) -> dict[str, Any]:
    table = config.models.get(model)
    speed = None if recipe.distilled else table
    guidance = (speed and speed.guidance) or recipe.guidance
    return {
        "prompt": "",
        "negative": recipe.negative,
        "seed": 0,
        "width": (table and table.width) or recipe.width,
        "height": (table and table.height) or recipe.height,
        "frames": recipe.frames,
        "fps": recipe.fps,
        "layout": recipe.layout,
        "stream": False,
        "sampling": {
            "sampler": recipe.sampler,
            "steps": (speed and speed.steps) or recipe.steps,
            "shift": recipe.shift,
            "sigmas": None,
            "guidance_high": guidance.high,
            "guidance_low": guidance.low,
            "boundary": recipe.boundary,
        },
        "loras": [lora.model_dump() for lora in recipe.loras],
        "options": {},
        "codec": "h264",
        "quality": None,
    }


def _size(
    manifest: Manifest, recipe: Recipe, table: ModelTable | None, image: PictureRef | ClipRef | None
) -> dict[str, int]:
    """The size that the start picture gives: where the manifest says so, or the recipe and neither the manifest nor the
    model's entry has a size."""
    told = manifest.width or manifest.height or (table and (table.width or table.height))
    widest = manifest.max_width or (None if told else recipe.max_width)
    if widest is None or image is None or not image.width:
        return {}
    width, height = size_of_picture(image.width, image.height, widest)
    return {"width": width, "height": height}


def size_of_picture(width: int, height: int, widest: int) -> tuple[int, int]:
    """(width, height) of a video: those of its start picture, scaled down to `widest`, rounded down to multiples of 16.

    Source: V1 utils/image_process.py calculate_dimensions, whose order of operations decides a few sizes.
    """
    if width > widest:
        width, height = widest, int(widest * (height / width))
    return width // 16 * 16, height // 16 * 16


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
    """The LoRAs so far, with the manifest's beside them; one that is named again gets the manifest's strengths. What is
    for some segments only is not handed on."""
    return merged([LoraStrength.model_validate(lora) for lora in known], manifest, None)


def merged(known: list[LoraStrength], manifest: Manifest, segment: int | None) -> list[LoraStrength]:
    """`known`, with the manifest's entries for all segments (None) or for this one in the place of theirs."""
    chosen: dict[str, list[LoraStrength]] = {}
    for lora in known:
        chosen.setdefault(lora.name, []).append(lora)
    renewed: set[str] = set()
    for entry in manifest.loras:
        if (entry.segments is None) if segment is None else (entry.segments is not None and segment in entry.segments):
            if entry.name not in renewed:
                chosen[entry.name] = []
            renewed.add(entry.name)
            chosen[entry.name].append(LoraStrength(name=entry.name, high=entry.high, low=entry.low, steps=entry.steps))
    return [lora for loras in chosen.values() for lora in loras]
