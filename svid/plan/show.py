"""What `svid check` says: the plan of a manifest, segment by segment, and what it will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svid.config import weights_path
from svid.plan.build import Parent, Plan, Planned, build_plan
from svid.plan.settings import PictureRef, Settings
from svid.render.env import choose_device, choose_dtype
from svid.store.lineage import settings_after
from svid.store.models import Segment
from svid.wan.folder import FolderSummary, read_summary

if TYPE_CHECKING:
    from svid.inbox.accept import Desk, Request


def plan_as_dict(desk: Desk, request: Request) -> dict[str, Any]:
    """The plan of a request. Where it goes on from a video that is still in the queue, that is said and nothing
    planned."""
    parent, waits = _parent(desk, request)
    if waits:
        return {"file": request.file, "waits_for": waits, "segments": []}
    plan = build_plan(request.manifest, desk.home.config, desk.recipes, request.pictures, parent, request.file)
    settings = plan.settings
    config = desk.home.config
    summary = read_summary(weights_path(config.models[settings.model].path, desk.home.root))
    device, _ = choose_device(config.render.device)
    dtype, _ = choose_dtype(config.render.dtype, device)
    segments = [_segment(plan, one) for one in plan.segments]
    return {
        "file": request.file,
        "continues": f"{parent.video}@{parent.length}" if parent else None,
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


def _parent(desk: Desk, request: Request) -> tuple[Parent | None, str | None]:
    if request.base is None:
        return None, None
    video = request.base.video
    if video.tip_id is None:
        return None, video.id
    with desk.store.read() as session:
        length = request.base.length or session.get_one(Segment, video.tip_id).index + 1
        settings = Settings.model_validate(settings_after(session, video, length - 1))
    return Parent(video.id, length, settings), None


def _segment(plan: Plan, one: Planned) -> dict[str, Any]:
    settings, sampling = one.settings, one.settings.sampling
    repeated = plan.recipe.overlap if plan.recipe.trim == "tail" or one.index else 0
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
        "shown": settings.frames - (0 if plan.recipe.trim == "tail" and one is plan.segments[-1] else repeated),
        "conditioned_on": _conditioned_on(plan, one),
        "cut": f"{one.cut.lora} at {one.cut.strength} on the high-noise expert" if one.cut else None,
        "steps": sampling.steps,
        "steps_high": high,
        "steps_low": low,
        "passes": passes,
    }


def experts(
    sampler: str, steps: int, shift: float, sigmas: tuple[float, ...] | None, boundary: float
) -> tuple[int, int]:
    """How many steps fall to the high-noise and to the low-noise expert on the authors' grid. Samplers with another
    grid may move one step over the boundary."""
    if sigmas is None:
        line = [1 - step / steps for step in range(steps)]
        sigmas = tuple(shift * s / (1 + (shift - 1) * s) for s in line)
    high = sum(sigma >= boundary for sigma in sigmas)
    return high, len(sigmas) - high


def _conditioned_on(plan: Plan, one: Planned) -> str:
    if one.index == 0:
        return "the start image"
    anchor = one.settings.anchor
    shot = (
        f"picture {anchor.sha256[:12]}"
        if isinstance(anchor, PictureRef)
        else f"the last frame of segment {anchor.tail_of + 1}"
    )
    if plan.recipe.motion_latents:
        return f"the last {plan.recipe.motion_latents} latents of segment {one.index}, anchor: {shot}"
    return f"the last {plan.recipe.motion_frames} frames of segment {one.index}"


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
        return f"{found['file']}: waits for the video {found['waits_for']}, which is still in the queue"
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
