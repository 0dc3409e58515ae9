"""Kind `video`: a chain of clips, each continuing the recorded one before it, then each continuing svid's own."""

from __future__ import annotations

import hashlib

import torch

from svid.api import EXPERTS, Carry, Job, Recipe, Sampling, Segment
from svid.config import Config
from svid.manifest.model import Manifest
from svid.plan.build import build_plan
from svid.plan.settings import PictureRef
from svid.wan.model import WanModel
from svid.wan.pixels import picture_frame
from svid.wan.schedule import make_scheduler
from tests.parity import layouts, production, weights
from tests.parity.cases import Case, Fields, NotUnderstood
from tests.parity.comparison import MEAN, Comparison
from tests.parity.production import Rendered

FREE = "free_running_later_clips_{}_motion"


def compare(case: Case, found: Comparison) -> None:
    """The whole case."""
    recipe = layouts.recipe_on(case.variant, case.spec["base"])
    segments = segments_of(case, recipe)
    work, wan = production.job(recipe), weights.model(case)
    case.tolerances.allow("teacher_forcing", *(FREE.format(motion) for motion in ("pixel", "latent")))
    _prompts_and_seeds(case, found, recipe)
    found.compare(
        "reference_resized",
        picture_frame(segments[0].image, segments[0]),
        case.inputs["reference_resized"],
        case.tolerances["resized_u8"],
    )
    _schedule(case, found, segments[0].sampling)
    forced = _teacher_forced(case, found, wan, work, segments)
    _free_running(case, found, wan, work, segments, forced)
    _stitching(case, found, work, segments)


def segments_of(case: Case, recipe: Recipe) -> list[Segment]:
    """The clips of a recorded video as segments."""
    p, images = case.params, case.spec.table("images")
    chosen, seam = layouts.trimmed(p, layouts.layout(recipe.layout, p))
    reference = production.picture(case.folder / images["reference"])
    images.done()
    entries = case.weights.get("loras")
    loras = weights.loras(case.weights.tables("loras"), case.root) if entries else ()
    if p["vae_decode"] != "full frame (not tiled)":
        raise NotUnderstood(f"params.vae_decode: expected full frame (not tiled), found {p['vae_decode']!r}")
    p.allow("fps")
    clips, guidance = p["num_clips"], dict.fromkeys(EXPERTS, p["guidance_scale"])
    boundary = p["boundary"] if len(recipe.experts) > 1 else 0.0
    sampling = Sampling("euler", p["num_inference_steps"], p["shift"], guidance, boundary)
    if (len(p["prompts"]), len(p["seeds"])) != (clips, clips):
        raise NotUnderstood(f"params: expected {clips} prompts and seeds")
    return [
        Segment(
            index=index,
            prompt=p["prompts"][index],
            negative=p["negative"],
            seed=p["seeds"][index],
            frames=p["num_frames"],
            width=p["width"],
            height=p["height"],
            anchor=reference,
            image=None if index else reference,
            sampling=sampling,
            layout=chosen,
            loras=loras,
            **(seam.model_dump() if index else {}),
        )
        for index in range(clips)
    ]


def _prompts_and_seeds(case: Case, found: Comparison, recipe: Recipe) -> None:
    """A manifest with the script's numbers is planned with the recorded prompts and seeds."""
    p, config = case.params, Config.model_validate({"models": {"recorded": {"path": "x"}}})
    stride, repeat = p.get("seed_times"), p.get("prompt_repeat_times", 1)
    first_only, in_file = p.get("use_first_prompt_only", False), p.get("num_prompts_in_file")
    clips, prompts = p["num_clips"], p["prompts"]
    requested = p.get("requested_num_clips", clips)
    found.same("num_clips", clips, requested if first_only or in_file is None else min(requested, in_file * repeat))
    changes = {"loras": (), "prompt_repeat": repeat} | ({} if stride is None else {"seed_stride": stride})
    used = prompts[:1] if first_only else prompts[::repeat]
    asked = Manifest(recipe=recipe.name, model="recorded", image="image.png", prompts=used, segments=clips)
    image = PictureRef(sha256="0" * 64, pixels="0" * 64)
    plan = build_plan(asked, config, {recipe.name: recipe.model_copy(update=changes)}, {"image": image})
    found.same("prompts", [one.settings.prompt for one in plan.segments], prompts)
    if stride is not None:
        found.same("seeds", [one.seed for one in plan.segments], p["seeds"])


def _schedule(case: Case, found: Comparison, sampling: Sampling) -> None:
    scheduler, allowed = make_scheduler(sampling, "cpu"), case.tolerances
    found.close("sigmas", scheduler.sigmas, "sigmas", allowed["sigmas"])
    found.close("timesteps", scheduler.timesteps, "timesteps", allowed["timesteps"])


def _teacher_forced(case: Case, found: Comparison, wan: WanModel, work: Job, segments: list[Segment]) -> list[Rendered]:
    made, carry = [], None
    for index, segment in enumerate(segments):
        one = production.render(wan, work, segment, carry, _given_up(segments, index))
        made.append(one)
        if wan.image is not None:
            found.close("clip_source", wan.image.seen[-1], f"clip{index}.clip_source", case.tolerances["resized_u8"])
            found.close("clip_mean", wan.image.mean(), f"clip{index}.clip_mean", MEAN)
        _against(case, found, segment, one, case.tolerances, "")
        steps, frames = (case.expected.peek(f"clip{index}.{name}") for name in ("latents_steps", "frames"))
        carry = production.carry_of({"latents": steps[-1][None]}, frames, segment)
    return made


def _free_running(
    case: Case, found: Comparison, wan: WanModel, work: Job, segments: list[Segment], forced: list[Rendered]
) -> None:
    """The first clip is the teacher-forced one: it continues nothing."""
    motion = "latent" if segments[0].layout.motion_latents else "pixel"
    allowed, made = case.tolerances.table(FREE.format(motion)), forced[:1]
    for index, segment in enumerate(segments[1:], start=1):
        before = made[-1]
        carry = Carry("0" * 64, before.state, before.tail, segments[index - 1].overlap)
        made.append(production.render(wan, work, segment, carry, _given_up(segments, index)))
        _against(case, found, segment, made[-1], allowed, ", free running")
    if len(segments) > 1:
        recorded = _gathered(case, case.expected.peek("stitched.index"))
        shown = torch.cat([one.shown for one in made])
        limits = (allowed["frames_u8_max"], allowed["frames_u8_fraction_different"])
        found.compare_levels("stitched, free running", shown, recorded, *limits)


def _against(case: Case, found: Comparison, segment: Segment, one: Rendered, allowed: Fields, how: str) -> None:
    """A clip beside the recorded one, in the README's order."""
    clip, steps = f"clip{segment.index}", case.expected.peek(f"clip{segment.index}.latents_steps")
    found.close("noise", one.noise, f"{clip}.noise", case.tolerances["noise"])
    found.compare("timesteps", one.timesteps, case.expected.peek("timesteps"), case.tolerances["timesteps"])
    taken = [("high", "low").index(expert) for expert in one.experts]
    recorded = case.expected["expert_per_step"].tolist() if "boundary" in case.params else [0] * len(taken)
    found.same("expert_per_step", taken, recorded)
    found.same("passes per step", set(one.passes), {1 if segment.sampling.guidance["high"] == 1 else 2})
    found.close(f"y{how}", one.y, f"{clip}.y", allowed["y"])
    found.compare(f"first step{how}", one.steps[:1], steps[:1], allowed["latents_steps"], f"{clip}.latents_steps[0]")
    found.close(f"all steps{how}", one.steps, f"{clip}.latents_steps", allowed["latents_steps"])
    limits = (allowed["frames_u8_max"], allowed["frames_u8_fraction_different"])
    found.levels(f"frames{how}", one.frames, f"{clip}.frames", *limits)
    used = [(lora.name, expert) for lora in segment.loras for expert, strength in lora.strength.items() if strength]
    changing = [(use["name"], expert) for expert, uses in one.report.items() for use in uses if use["modules"]]
    found.same("LoRAs", sorted(changing), sorted(used))


def _given_up(segments: list[Segment], index: int) -> int:
    return segments[index + 1].parent_trim if index + 1 < len(segments) else 0


def _gathered(case: Case, index: torch.Tensor) -> torch.Tensor:
    """The recorded frames that `index` names, rows of (clip, frame)."""
    return torch.stack([case.expected.peek(f"clip{clip}.frames")[frame] for clip, frame in index.tolist()])


def _stitching(case: Case, found: Comparison, work: Job, segments: list[Segment]) -> None:
    """What svid shows of the recorded clips is the recorded video, byte for byte."""
    numbered = [_numbered(segment.index, segment.frames) for segment in segments]
    rows = production.stitched(work, segments, numbered)[:, 0, 0].int()
    found.close("stitched.index", torch.stack([rows[:, 0], rows[:, 1] * 256 + rows[:, 2]], 1), "stitched.index", 0)
    recorded = case.spec.table("stitched")
    shown = production.stitched(work, segments, [case.expected.peek(f"clip{s.index}.frames") for s in segments])
    digest = hashlib.sha256(shown.contiguous().numpy().tobytes()).hexdigest()
    found.same("stitched", (len(shown), digest), (recorded["num_frames"], recorded["sha256_uint8_THWC"]))
    recorded.done()


def _numbered(clip: int, frames: int) -> torch.Tensor:
    """uint8 [frames, 1, 1, 3] whose pixels say which frame of which clip they are."""
    numbers = torch.arange(frames)
    return torch.stack([torch.full_like(numbers, clip), numbers // 256, numbers % 256], 1).to(torch.uint8)[
        :, None, None
    ]
