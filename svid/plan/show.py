"""What `svid check` says: the plan of a manifest, segment by segment, and what it will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svid.api import Recipe
from svid.config import weights_path
from svid.layout import Seams, seams
from svid.plan.build import Plan, Planned
from svid.plan.grid import experts
from svid.plan.settings import ClipRef, PictureRef, Settings
from svid.render.env import choose_device, choose_dtype
from svid.wan.folder import FolderSummary, read_summary

if TYPE_CHECKING:
    from svid.inbox.accept import Desk, Request


def plan_as_dict(desk: Desk, request: Request) -> dict[str, Any]:
    """The plan of a request. Where other jobs of the video that it stands on are done first, that is said and nothing
    planned."""
    plan, base = request.plan, request.base
    if plan is None:
        return {"file": request.file, "waits_for": base.video.id if base else None, "segments": []}
    settings = plan.begins
    config = desk.home.config
    summary = read_summary(weights_path(config.models[settings.model].path, desk.home.root))
    device, _ = choose_device(config.render.device)
    dtype, _ = choose_dtype(config.render.dtype, device)
    segments = [_segment(plan, place, desk.recipes[one.settings.recipe]) for place, one in enumerate(plan.segments)]
    before = plan.length - len(plan.segments)
    return {
        "file": request.file,
        "continues": f"{base.video.id}@{before}" if base and before else None,
        "recipe": settings.recipe,
        "model": settings.model,
        "size": f"{settings.width}x{settings.height}",
        "fps": settings.fps,
        "new_frames": sum(segment["shown"] for segment in segments),
        "length": plan.length,
        "segments": segments,
        "steps": sum(segment["steps"] for segment in segments),
        "transformer_passes": sum(segment["passes"] for segment in segments),
        "memory_mib": {name: round(size / 2**20, 1) for name, size in memory(summary, settings, dtype).items()},
    }


def _segment(plan: Plan, place: int, recipe: Recipe) -> dict[str, Any]:
    one = plan.segments[place]
    settings, sampling = one.settings, one.settings.sampling
    if one.clip is not None:
        return _footage(plan, one.clip)
    after = plan.segments[place + 1] if place + 1 < len(plan.segments) else None
    lost = _seam(one).overlap + (_seam(after).parent_trim if after else 0)
    high, low = experts(sampling.sampler, sampling.steps, sampling.shift, sampling.sigmas, sampling.boundary)
    passes = sum(
        steps * (1 if scale == 1 else 2)
        for steps, scale in ((high, sampling.guidance_high), (low, sampling.guidance_low))
    )
    return {
        "number": one.index + 1,
        "prompt": settings.prompt,
        "seed": one.seed,
        "frames": settings.frames,
        "shown": settings.frames - lost,
        "conditioned_on": _conditioned_on(one, recipe),
        "cut": f"{one.cut.lora} at {one.cut.strength} on the high-noise expert" if one.cut else None,
        "steps": sampling.steps,
        "steps_high": high,
        "steps_low": low,
        "passes": passes,
    }


def _footage(plan: Plan, clip: ClipRef) -> dict[str, Any]:
    """A clip that is gone on from: nothing is rendered, its end may be left out for what follows."""
    return {
        "number": 1,
        "prompt": "",
        "seed": 0,
        "frames": clip.frames,
        "shown": clip.frames - (_seam(plan.segments[1]).parent_trim if len(plan.segments) > 1 else 0),
        "conditioned_on": f"the clip {clip.sha256[:12]}",
        "cut": None,
        **dict.fromkeys(("steps", "steps_high", "steps_low", "passes"), 0),
    }


def _seam(one: Planned) -> Seams:
    return seams(one.settings.layout, first=one.index == 0, cut=one.cut is not None)


def _conditioned_on(one: Planned, recipe: Recipe) -> str:
    layout, end = one.settings.layout, " and an end picture" if one.end else ""
    if one.index == 0:
        return f"the start image{end}"
    anchor = one.settings.anchor
    shot = (
        f"picture {anchor.sha256[:12]}"
        if isinstance(anchor, PictureRef)
        else f"the last frame of segment {anchor.tail_of + 1}"
    )
    if recipe.layout.pad == "zero_latent":
        given = (
            f"the last {layout.motion_latents} latents of segment {one.index}"
            if layout.motion_latents
            else "no latents"
        )
        return f"{given}, anchor: {shot}{end}"
    given = f"the last {layout.motion_frames} frames of segment {one.index}"
    return given + (f", anchor: {shot}" if layout.pad == "reference" and not end else "") + end


def memory(summary: FolderSummary, settings: Settings, dtype: str) -> dict[str, float]:
    """Expected memory in bytes: the weights in the precision they compute in, and the largest activations of sampling
    and of decoding, of which only one is there at a time.

    An estimate: a transformer block holds about twelve tensors of tokens x width beside the feed-forward's two,
    attention is computed without a full matrix, and the decoder holds about twelve tensors of its widest layer for four
    frames.
    """
    tokens = ((settings.frames - 1) // 4 + 1) * (settings.height // 16) * (settings.width // 16)
    expert = summary.components["transformer"].config
    vae = summary.components["vae"].config
    size = 4.0 if dtype == "float32" else 2.0
    weights = size * sum(component.parameters for component in summary.components.values())
    sampling = size * tokens * (12 * summary.dim + 2 * expert["ffn_dim"])
    decoding = size * 12 * 4 * settings.width * settings.height * vae["base_dim"]
    return {
        "weights": weights,
        "sampling": sampling,
        "decoding": decoding,
        "total": weights + max(sampling, decoding),
    }


def plan_as_text(found: dict[str, Any]) -> str:
    """The plan for people."""
    if found.get("waits_for"):
        return f"{found['file']}: waits for what is still to be done to the video {found['waits_for']}"
    start = f", continues {found['continues']}" if found["continues"] else ""
    lines = [f"{found['file']}: {found['recipe']} on {found['model']}, {found['size']} at {found['fps']:g} fps{start}"]
    for one in found["segments"]:
        cut = f"; cut: {one['cut']}" if one["cut"] else ""
        lines.append(
            f"  segment {one['number']}: {one['shown']} of {one['frames']} frames shown, seed {one['seed']},"
            f" {one['steps_high']}+{one['steps_low']} steps; on {one['conditioned_on']}{cut}"
        )
        lines.append(f"    {one['prompt']}")
    memory_ = found["memory_mib"]
    lines.append(
        f"  {found['new_frames']} new frames, {found['steps']} steps, {found['transformer_passes']} transformer passes,"
        f" about {memory_['total']:.0f} MiB ({memory_['weights']:.0f} MiB of it weights)"
    )
    return "\n".join(lines)
