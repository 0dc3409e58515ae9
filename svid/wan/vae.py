"""The Wan VAE at the edges of a segment: pixels to normalized latents, and latents to frames as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


def latent_statistics(vae: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std of the raw latents, [1, 16, 1, 1, 1] fp32 on the VAE's device (from its configuration)."""
    mean = torch.tensor(vae.config.latents_mean, dtype=torch.float32, device=vae.device)
    std = torch.tensor(vae.config.latents_std, dtype=torch.float32, device=vae.device)
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


@torch.no_grad()
def encode_normalized(vae: AutoencoderKLWan, pixels: torch.Tensor) -> torch.Tensor:
    """Encode pixels [1, 3, F, H, W] in [-1, 1] in one pass.

    Returns the mode, normalized, (mu - mean) / std: [1, 16, (F-1)/4+1, H/8, W/8] fp32 on the VAE's device.
    """
    mean, std = latent_statistics(vae)
    mu: torch.Tensor = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    normalized: torch.Tensor = (mu.float() - mean) / std
    return normalized


def to_uint8(video: torch.Tensor) -> torch.Tensor:
    """[1, 3, n, H, W] in [-1, 1] to uint8 [n, H, W, 3] on the CPU.

    Cuts off and does not round, as the authors do (V1 diffsynth/pipelines/svi_video.py tensor2video).
    """
    levels = ((video[0].float() + 1) * 127.5).clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous().cpu()


def decode_frames(vae: AutoencoderKLWan, z: torch.Tensor) -> Iterator[torch.Tensor]:
    """Decode normalized latents z [1, 16, T, h, w], yielding uint8 [n, H, W, 3]: one frame, then four a latent.

    The pixels are those of `vae.decode` on the whole of z, bit for bit, but memory doesn't grow with T. The causal
    feature cache is this generator's own, so two decodes, or a decode and an encode, don't disturb each other, and
    none of it outlives the generator.
    """
    mean, std = latent_statistics(vae)
    features: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    try:
        with torch.no_grad():
            raw = vae.post_quant_conv((z.to(vae.device, torch.float32) * std + mean).to(vae.dtype))
        for index in range(raw.shape[2]):
            with torch.no_grad():
                frames = vae.decoder(
                    raw[:, :, index : index + 1], feat_cache=features, feat_idx=[0], first_chunk=index == 0
                )
            yield to_uint8(frames.clamp(-1, 1))
    finally:
        features.clear()
