"""The denoising loop: noise from the seed, two experts, guidance, a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from svid.api import Checkpoint, Conditioning, Expert, Progress, Sampling
from svid.errors import Problem, Refused
from svid.wan.memory import at_hand
from svid.wan.model import WanModel
from svid.wan.resume import Standing, snapshot_of, standing_of
from svid.wan.samplers import sampler_named
from svid.wan.schedule import experts_per_step


def initial_noise(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """fp32 noise from a CPU generator, as the authors draw it, and the generator for what a sampler still draws.

    The same generator goes on: one seeded anew would repeat the initial noise in the first step.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32), generator


def needs_negative(guidance: Mapping[Expert, float]) -> bool:
    """Whether any expert runs the unconditional pass; at a guidance of 1 it would cancel out."""
    return any(scale != 1 for scale in guidance.values())


def guided(positive: torch.Tensor, negative: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance: v_neg + s * (v_pos - v_neg), same shape as both."""
    return negative + scale * (positive - negative)


@torch.no_grad()
def denoise(
    model: WanModel,
    conditioning: Conditioning,
    cond: torch.Tensor,
    uncond: torch.Tensor | None,
    scheduler: Any,
    sampling: Sampling,
    noise: torch.Tensor,
    progress: Progress,
    generator: torch.Generator | None = None,
    checkpoint: Checkpoint | None = None,
) -> torch.Tensor:
    """Denoise `noise` [1, 16, T, h, w] and return the latents, fp32 on the CPU, of the same shape.

    `cond` and `uncond` are [1, 512, D]; `uncond` may be None where every guidance is 1. The experts see
    cat(latents 16, mask 4, image latents 16), in that order, cast to the model's dtype, and Wan 2.1 the embedded
    picture; latents, velocities and the scheduler stay fp32. What `progress` raises passes through. With a `checkpoint`
    the loop goes on where a former one was interrupted, to the same latents; `scheduler` and `generator` are for one
    that begins. A sampler that draws noise draws it from `generator`.

    Raises:
        Refused: no `uncond` where guidance needs it, or a conditioning without a picture for Wan 2.1.
    """
    if uncond is None and needs_negative(sampling.guidance):
        raise Refused(Problem("the segment", "negative", "expected an embedding, as guidance is not 1, found none"))
    picture = conditioning.image_embeds
    if model.image is not None and picture is None:
        raise Refused(Problem("the segment", "conditioning", "expected an embedded picture for Wan 2.1, found none"))
    given = {} if picture is None else {"encoder_hidden_states_image": picture.to(model.device, model.dtype)}
    y = conditioning.y.to(model.device, model.dtype)
    prompts = {True: cond.to(model.device, model.dtype)}
    if uncond is not None:
        prompts[False] = uncond.to(model.device, model.dtype)
    sampler = sampler_named(sampling.sampler)
    start = Standing(0, noise.to(model.device, torch.float32), scheduler, generator if sampler.stochastic else None)
    now = (checkpoint and checkpoint.resume(lambda snapshot: standing_of(snapshot, start, sampler))) or start
    extra = {"generator": now.generator} if sampler.stochastic else {}
    steps = len(scheduler.timesteps)
    ahead = list(zip(scheduler.timesteps, experts_per_step(scheduler.timesteps, sampling.boundary), strict=True))
    for step, (timestep, name) in enumerate(ahead[now.step :], start=now.step + 1):
        inputs = torch.cat([now.latents.to(model.dtype), y], dim=1)
        scale = sampling.guidance[name]
        expert = at_hand(model.experts[name])
        velocity = _velocity(expert, inputs, timestep, prompts[True], given)
        if scale != 1:
            negative = _velocity(expert, inputs, timestep, prompts[False], given)
            velocity = guided(velocity, negative, scale)
        latents = now.scheduler.step(velocity, timestep, now.latents, return_dict=False, **extra)[0]
        now = Standing(step, latents, now.scheduler, now.generator)
        if checkpoint is not None:
            checkpoint.offer(partial(snapshot_of, now, sampler))
        progress(step, steps)
    return now.latents.cpu()


def _velocity(
    expert: Any, inputs: torch.Tensor, timestep: torch.Tensor, prompt: torch.Tensor, given: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    # The timestep stays fp32: V22 rounds it to bf16, which turns 937.5 into 936.
    time = timestep.to(inputs.device, torch.float32).expand(inputs.shape[0])
    velocity: torch.Tensor = expert(inputs, time, prompt, **given, return_dict=False)[0]
    # Contiguous, as what comes back from a snapshot is: the strides of its input may choose a kernel, and so the bits.
    return velocity.float().contiguous()
