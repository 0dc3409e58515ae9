"""The least that renders SVI 2.0 Pro segments: a loop over diffusers' modules, with nothing kept, checked or named.

It is what svid is measured against, so it has no svid code in it but the readers of weights and pictures.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from svid.api import Expert, Segment


class BareLoop:
    """Renders segment after segment to files, carrying the last latent."""

    def __init__(self, model: Any, segment: Segment, pixels: torch.Tensor) -> None:
        self.experts = {name: copy.deepcopy(expert) for name, expert in model.experts.items()}
        self.vae, self.text = model.vae, model.text
        self.mean = torch.tensor(self.vae.config.latents_mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(self.vae.config.latents_std).view(1, -1, 1, 1, 1)
        image = (pixels.permute(2, 0, 1).float() * (2 / 255) - 1)[None, :, None]
        self.anchor = (self.vae.encode(image).latent_dist.mode() - self.mean) / self.std
        self.negative = self.text.encode(segment.negative)
        self.motion: torch.Tensor | None = None
        self.segment = segment

    def render(self, prompt: str, seed: int, out: Path, fps: int) -> None:
        """One segment."""
        _, _, latent_frames, height, width = self.segment.latent_shape
        image = torch.zeros(self.segment.latent_shape)
        image[:, :, :1] = self.anchor
        if self.motion is not None:
            image[:, :, 1:2] = self.motion
        mask = torch.zeros(1, 4, latent_frames, height, width)
        mask[:, :, 0] = 1
        latents = self._denoise(torch.cat([mask, image], 1), self.text.encode(prompt), seed)
        self.motion = latents[:, :, -1:]
        video = self.vae.decode(latents * self.std + self.mean).sample[0]
        frames = ((video + 1) * 127.5).clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
        self._write(frames[self.segment.overlap :], out, fps)

    def _denoise(self, y: torch.Tensor, prompt: torch.Tensor, seed: int) -> torch.Tensor:
        sampling = self.segment.sampling
        scheduler = FlowMatchEulerDiscreteScheduler(shift=sampling.shift)
        scheduler.set_timesteps(sigmas=np.linspace(1, 0, sampling.steps + 1)[:-1])
        x = torch.randn(self.segment.latent_shape, generator=torch.Generator().manual_seed(seed))
        for t in scheduler.timesteps:
            name: Expert = "high" if t >= sampling.boundary * 1000 else "low"
            expert, scale = self.experts[name], sampling.guidance[name]
            inputs = torch.cat([x, y], 1)
            v = expert(inputs, t[None], prompt, return_dict=False)[0]
            if scale != 1:
                v_negative = expert(inputs, t[None], self.negative, return_dict=False)[0]
                v = v_negative + scale * (v - v_negative)
            x = scheduler.step(v, t, x, return_dict=False)[0]
        return x

    def _write(self, frames: Any, out: Path, fps: int) -> None:
        with av.open(str(out), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "medium"})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
