"""What is wrong with a manifest in this home: against svid.toml, the recipe, and the video that it extends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from svid.api import Recipe
from svid.config import Config
from svid.errors import ManifestError, Problem, Refused
from svid.layout import TAIL_FRAMES
from svid.manifest.model import Manifest
from svid.manifest.words import near
from svid.media.codecs import codec, encoder_options
from svid.plan.grid import TWO_RUNS, can_act
from svid.plan.resolve import can_stream
from svid.plan.settings import ClipRef, LoraStrength, Parent, PictureRef, Settings
from svid.wan.samplers import SAMPLERS, final_sigmas

ALONE = {"branch", "name", "priority", "segments", "encode"}
"""What a branch may say that has no segment of its own."""


def misfits(
    manifest: Manifest,
    settings: Settings,
    config: Config,
    parent: Parent | None,
    recipe: Recipe,
    clip: ClipRef | None,
    pictures: Mapping[str, PictureRef],
    file: str,
    wanted: int,
) -> list[Problem]:
    """What of a manifest does not fit this home, its recipe or the video it extends."""
    problems = [
        *_beside(settings, parent, clip, file),
        *_recipe(manifest, settings, recipe, file, wanted),
        *_anchors(manifest, settings, recipe, pictures, file),
        *_codec(settings, file),
        *_sampling(manifest, settings, parent, recipe, file),
        *_loras(manifest, settings, config, recipe, file),
        *_cuts(manifest, settings, config, recipe, file),
        *_beyond(manifest, file, wanted),
        *dropped(manifest, parent.settings.options if parent else {}, file),
        *_idle(manifest, file, wanted),
    ]
    repeat = manifest.conditioning.repeat_first
    if parent is not None and manifest.redo is None and repeat not in (None, parent.settings.layout.repeat_first):
        message = "would change nothing: what is gone on with has its first segment"
        problems.append(Problem(file, "conditioning.repeat_first", message, "leave it out"))
    if parent is None and manifest.image is None and manifest.clip is None:
        problems.append(Problem(file, "image", "a new video needs a start image or a clip"))
    return problems


def _codec(settings: Settings, file: str) -> Iterator[Problem]:
    """Against the codec: its quality, and sizes that its encoder can't do."""
    try:
        chosen = codec(settings.codec)
        encoder_options(chosen, settings.quality)
    except ManifestError as error:
        yield from [Problem(file, f"encode.{one.where}", one.message, one.hint) for one in error.problems]
        return
    if min(settings.width, settings.height) < chosen.smallest:
        message = f"expected a codec for {settings.width}x{settings.height}, found {chosen.name}"
        yield Problem(file, "encode.codec", message, f"{chosen.name} takes {chosen.smallest} and more on each side")


def _sampling(
    manifest: Manifest, settings: Settings, parent: Parent | None, recipe: Recipe, file: str
) -> Iterator[Problem]:
    """Against the sampler: sigmas where it makes its own. Either may be from the video that is extended. A shift and a
    negative prompt that nothing is made of."""
    sampling = settings.sampling
    try:
        if sampling.sigmas is not None and sampling.sampler in SAMPLERS:  # a plugin may sample with another
            final_sigmas(sampling.sampler, sampling.sigmas)
    except Refused as error:
        yield from [Problem(file, one.where, one.message, one.hint) for one in error.problems]
    if manifest.sample.shift is not None and sampling.sigmas is not None:
        message = "would change nothing: the video has sigmas of its own, which are shifted already"
        yield Problem(file, "sample.shift", message, "say steps as well, or sigmas")
    guidance = manifest.sample.guidance
    if "low" not in recipe.experts and guidance is not None and guidance.low != guidance.high:
        message = f"would change nothing: {recipe.name} has one transformer, whose guidance scale is `high`"
        yield Problem(file, "sample.guidance.low", message, "one number is for all there is")
    before = parent.settings.negative if parent else recipe.negative
    if manifest.negative not in (None, before) and sampling.guidance_high == sampling.guidance_low == 1:
        message = "would change nothing: with a guidance scale of 1 only the prompt is looked at"
        yield Problem(file, "negative", message, "leave it out, or say a guidance")


def _loras(manifest: Manifest, settings: Settings, config: Config, recipe: Recipe, file: str) -> Iterator[Problem]:
    """Against svid.toml: LoRAs that it does not have, or has no file of; steps that there are not."""
    named = [("loras", lora.name) for lora in settings.loras]
    named += [(f"loras[{place}].name", lora.name) for place, lora in enumerate(manifest.loras) if lora.segments]
    named += [(f"cuts[{place}].lora", cut.lora) for place, cut in enumerate(manifest.cuts)]
    for where, name in dict.fromkeys(named):
        table = config.lora(settings.model, name)
        if table is None:
            known = ", ".join(sorted(config.lora_names(settings.model))) or "none"
            hint = f"known for the model {settings.model}: {known}; add [loras.{name}] to svid.toml"
            yield Problem(file, where, f"svid.toml has no LoRA {name!r}", hint)
        elif not any(table.file(expert) for expert in recipe.experts):
            message = f"names no file for an expert that {recipe.name} has"
            yield Problem("svid.toml", f"loras.{name}", message, f"{', '.join(recipe.experts)} or path")
        elif where.startswith("cuts") and table.file("high") is None:
            message = "has no file for the high-noise expert, which is the one that a hard cut is made on"
            yield Problem("svid.toml", f"loras.{name}", message)
    yield from _halves(manifest, settings, config, recipe, file)
    for place, lora in enumerate(manifest.loras):
        use = LoraStrength(name=lora.name, high=lora.high, low=lora.low, steps=lora.steps)
        yield from _steps(use, settings, config, recipe, file, f"loras[{place}].steps", "")
    named_again = {lora.name for lora in manifest.loras}
    for use in settings.loras:
        if use.name not in named_again:
            yield from _steps(use, settings, config, recipe, file, "loras", f"of {use.name!r}, as the video has it: ")


def _steps(
    use: LoraStrength, settings: Settings, config: Config, recipe: Recipe, file: str, where: str, of: str
) -> Iterator[Problem]:
    """Against the steps of a segment and whose they are: the steps that a LoRA is on at. `of` says whose those are."""
    if use.steps is None:
        return
    table = config.lora(settings.model, use.name)
    has = [expert for expert in recipe.experts if table and table.file(expert)]
    if use.steps[1] > settings.sampling.steps:
        message = f"expected at most {settings.sampling.steps}, the steps of a segment, found {use.steps[1]}"
        yield Problem(file, where, of + message)
    elif settings.sampling.sampler in TWO_RUNS:
        message = f"expected a sampler that runs the model once a step, found {settings.sampling.sampler}"
        yield Problem(file, where, of + message, "euler, for one")
    elif (use.high or use.low) and has and not can_act(use, has, settings.sampling):
        message = f"would change nothing: at steps {use.steps[0]} to {use.steps[1]} another expert runs"
        yield Problem(file, where, of + message, "svid check says which steps are whose")


def _halves(manifest: Manifest, settings: Settings, config: Config, recipe: Recipe, file: str) -> Iterator[Problem]:
    """A recipe's LoRA that one of its experts would go without, and strengths for experts that have no part in it."""
    needed = {lora.name for lora in recipe.loras}
    for lora in settings.loras:
        table = config.lora(settings.model, lora.name)
        has = [expert for expert in recipe.experts if table is not None and table.file(expert)]
        without = [expert for expert in recipe.experts if expert not in has and lora.of(expert)]
        if lora.name in needed and has and without:
            message = f"expected a file for each expert of {recipe.name}, found none for the {without[0]}-noise expert"
            yield Problem("svid.toml", f"loras.{lora.name}", message, f"strength {without[0]} = 0 goes without it")
    for place, use in enumerate(manifest.loras):
        table = config.lora(settings.model, use.name)
        has = [expert for expert in recipe.experts if table is not None and table.file(expert)]
        acts, meant = any(getattr(use, expert) for expert in has), use.high or use.low
        if has and meant and not acts:
            message = f"would change nothing: its strength is 0 on the {has[0]}-noise expert, the only one with a file"
            yield Problem(file, f"loras[{place}]", message)
        elif "low" not in recipe.experts and "low" in use.model_fields_set and use.low != use.high:
            message = f"would change nothing: {recipe.name} has one transformer, which takes the strength `high`"
            yield Problem(file, f"loras[{place}].low", message, "leave it out")


def _beyond(manifest: Manifest, file: str, wanted: int) -> Iterator[Problem]:
    """What is for segments that there will not be."""
    named = [(f"cuts[{place}].segment", cut.segment) for place, cut in enumerate(manifest.cuts)]
    named += [(f"ends[{place}].segment", end.segment or 1) for place, end in enumerate(manifest.ends)]
    for place, lora in enumerate(manifest.loras):
        named += [(f"loras[{place}].segments[{at}]", number) for at, number in enumerate(lora.segments or ())]
    for where, number in named:
        if number > wanted:
            yield Problem(file, where, f"expected 1 to {wanted}, the segments of this job, found {number}")
    if len(manifest.anchors or ()) > wanted:
        message = f"expected at most {wanted}, one per segment, found {len(manifest.anchors or ())}"
        yield Problem(file, "anchors", message)


def _idle(manifest: Manifest, file: str, wanted: int) -> Iterator[Problem]:
    """What a branch says that renders no segment: nothing of it would be handed on."""
    for key in sorted(manifest.model_fields_set - ALONE) if not wanted else ():
        if getattr(manifest, key) != type(manifest).model_fields[key].get_default(call_default_factory=True):
            message = "would change nothing: a branch without new segments is what is there"
            yield Problem(file, key, message, "say it with the segments that are to have it")


def dropped(manifest: Manifest, has: Collection[str], file: str) -> Iterator[Problem]:
    """Options to be dropped of plugins that a video, which `has` those of these, does not have."""
    for place, plugin in enumerate(manifest.drop_options):
        if plugin not in has:
            message = f"would change nothing: the video hands on no options of a plugin {plugin!r}"
            yield Problem(file, f"drop_options[{place}]", message, near(plugin, has))


def _cuts(manifest: Manifest, settings: Settings, config: Config, recipe: Recipe, file: str) -> Iterator[Problem]:
    """Prompts without the words that their LoRA was trained on, and cuts at whose noise levels no step is."""
    for place, cut in enumerate(manifest.cuts):
        use = LoraStrength(name=cut.lora, high=cut.strength, low=0.0)
        if "high" in recipe.experts and not can_act(use, ["high"], settings.sampling):
            message = "would change nothing: the high-noise expert, on which a hard cut is made, has no step"
            yield Problem(file, f"cuts[{place}]", message, "svid check says which steps are whose")
        yield from without_trigger(config, settings.model, cut.lora, cut.prompt, file, f"cuts[{place}].prompt")


def without_trigger(config: Config, model: str, lora: str, prompt: str, file: str, where: str) -> Iterator[Problem]:
    """A prompt of a segment with a cut that lacks the words of the cut's LoRA."""
    table = config.lora(model, lora)
    trigger = table.trigger if table else None
    if trigger and trigger.casefold() not in prompt.casefold():
        message = f"expected the words that set off the LoRA {lora!r}: {trigger!r}, found none of them"
        yield Problem(file, where, message, "without them there may be no cut")


def _beside(settings: Settings, parent: Parent | None, clip: ClipRef | None, file: str) -> Iterator[Problem]:
    """Against what is extended: a video keeps its size and rate."""
    for key in ("width", "height", "fps"):
        here, there = getattr(settings, key), getattr(parent.settings, key) if parent else None
        if parent is not None and here != there:
            yield Problem(file, key, f"expected {there}, as the video {parent.video} has, found {here}")
    if settings.width < 16 or settings.height < 16:
        message = f"expected a start picture that gives 16x16 or more, found {settings.width}x{settings.height}"
        yield Problem(file, "image", message, "say width and height")
    least = max(5, settings.layout.overlap)
    if clip is not None and clip.frames < least:
        yield Problem(file, "clip", f"expected at least {least} frames to go on from, found {clip.frames}")
    if clip is not None and clip.fps != settings.fps:
        message = f"expected {clip.fps:g}, the rate of the clip that is gone on with, found {settings.fps:g}"
        yield Problem(file, "fps", message, f"say fps = {clip.fps:g}, or change the clip's rate")


def _recipe(manifest: Manifest, settings: Settings, recipe: Recipe, file: str, wanted: int) -> Iterator[Problem]:
    """Against the recipe: what its variant or its Wan has no use for."""
    if recipe.base == "wan2.1-i2v" and settings.sampling.boundary > 0:
        message = f"expected 0, as Wan 2.1 has one transformer for all steps, found {settings.sampling.boundary}"
        yield Problem(file, "sample.boundary", message, "leave it out")
    overlap, frames = settings.layout.overlap, settings.frames
    if frames <= overlap and wanted > (0 if manifest.image is None else 1):
        message = f"expected more than {overlap}, which every segment repeats of the one before it, found {frames}"
        yield Problem(file, "frames", message)
    needed = -(-wanted // recipe.prompt_repeat)
    if len(manifest.prompts or ()) > needed:
        message = f"expected at most {needed}, as {recipe.name} uses each for {recipe.prompt_repeat} segments"
        yield Problem(file, "prompts", f"{message}, found {len(manifest.prompts or ())}")
    yield from _conditioning(manifest, settings, recipe, file)


def _anchors(
    manifest: Manifest, settings: Settings, recipe: Recipe, pictures: Mapping[str, PictureRef], file: str
) -> Iterator[Problem]:
    """Against what the anchor is for: one that nobody looks at, or a start image that an anchor leaves no part."""
    latents = recipe.layout.pad == "zero_latent"
    pad = settings.layout.pad
    if not latents and pad != "reference":
        has_none = f"has no anchor{f' with pad = {pad!r}' if recipe.layout.pad == 'reference' else ''}"
        for key in ("anchor", "anchors"):
            if getattr(manifest, key) is not None:
                message = f"would change nothing: {recipe.name} {has_none}"
                yield Problem(file, key, message, 'pad = "reference" under [conditioning] gives it one')
    image, anchor = pictures.get("image"), pictures.get("anchor") or pictures.get("anchors[0]")
    if latents and image is not None and anchor is not None and image.pixels != anchor.pixels:
        message = f"would change nothing: the first segment of {recipe.name} begins with its anchor"
        hint = "anchors = [the start picture, the other one] changes the anchor after the first segment"
        yield Problem(file, "image", message, hint)


def _conditioning(manifest: Manifest, settings: Settings, recipe: Recipe, file: str) -> Iterator[Problem]:
    """Against how the variant hands over: options that would change nothing are refused, not passed over."""
    layout, written = settings.layout, manifest.conditioning
    latents = recipe.layout.pad == "zero_latent"
    without = {
        "motion_frames": latents and "hands over latents",
        "repeat_first": (latents and "hands over latents")
        or (layout.motion_frames <= 1 and "is given one frame of a segment"),
        "mask": (layout.motion_latents if latents else layout.motion_frames) <= (0 if latents else 1)
        and "is given one frame, which is marked anyway",
        "motion_latents": not latents and "hands over frames",
        "anchor_strength": not latents
        and ("has the anchor in the padding" if layout.pad == "reference" else "has no anchor"),
        "reference_strength": layout.pad == "zero_latent" and "has zeros for padding, which no strength changes",
        "pad_copies": layout.pad != "reference" and "has no reference in the padding",
        "amplitude_from": layout.motion_amplitude == 1 and "has a motion amplitude of 1, which is off",
        "end_mask": not (manifest.ends or any(cut.end_image for cut in manifest.cuts)) and "has no end picture here",
    }
    for key, reason in without.items():
        value = getattr(written, key)
        if reason and value is not None and value != getattr(recipe.layout, key):
            hint = "reference_strength is its strength" if reason.endswith("in the padding") else "leave it out"
            yield Problem(file, f"conditioning.{key}", f"would change nothing: {recipe.name} {reason}", hint)
    if layout.amplitude_from > (settings.frames - 1) // 4:
        message = f"expected at most {(settings.frames - 1) // 4}, the last latent, found {layout.amplitude_from}"
        yield Problem(file, "conditioning.amplitude_from", message)
    if layout.pad == "zero_latent" and not latents and (layout.motion_frames - 1) % 4:
        message = f"expected 4m + 1 motion frames before zero latents, found {layout.motion_frames}"
        yield Problem(file, "conditioning.pad", message)
    if layout.seam == "blend" and layout.overlap > TAIL_FRAMES:
        message = f"expected an overlap of at most {TAIL_FRAMES} frames to blend, found {layout.overlap}"
        yield Problem(file, "conditioning.seam", message, "as many frames are kept of a segment")
    if layout.seam == "blend" and settings.frames <= 2 * layout.overlap:
        message = f"expected more than {2 * layout.overlap} frames, so that no frame is blended twice"
        yield Problem(file, "frames", f"{message}, found {settings.frames}")
    if settings.stream and not can_stream(recipe, layout):
        message = "expected a recipe that hands over latents, at least one, and a seam whose head is left out"
        yield Problem(file, "decode.stream", f"{message}, found {recipe.name}", "leave it out")
