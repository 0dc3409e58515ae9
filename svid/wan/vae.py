"""The Wan VAE at the edges of a segment: pixels to normalized latents, and latents to frames as a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from svid.wan.memory import at_hand

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
    vae = at_hand(vae)
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


class FrameStream:
    """The Wan VAE's decoder as a causal stream: latents in, frames out, for as long as there are latents.

    Frames are those of one `vae.decode` of everything that was put in, bit for bit, but memory stays that of a latent.
    The causal feature cache is the stream's own, so two streams, or a stream and an encode, don't disturb each other.
    """

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self._vae = vae
        self._features: list[Any] = [None] * vae._cached_conv_counts["decoder"]
        self._began = False

    def decode(self, z: torch.Tensor) -> Iterator[torch.Tensor]:
        """Normalized latents z [1, 16, n, h, w] to uint8 [m, H, W, 3]: four frames a latent, one of the very first."""
        vae = at_hand(self._vae)
        mean, std = latent_statistics(vae)
        with torch.no_grad():
            raw = vae.post_quant_conv((z.to(vae.device, torch.float32) * std + mean).to(vae.dtype))
        for index in range(raw.shape[2]):
            with torch.no_grad():
                frames = at_hand(vae).decoder(
                    raw[:, :, index : index + 1],
                    feat_cache=self._features,
                    feat_idx=[0],
                    first_chunk=not self._began,
                )
            self._began = True
            yield to_uint8(frames.clamp(-1, 1))


def decode_frames(vae: AutoencoderKLWan, z: torch.Tensor) -> Iterator[torch.Tensor]:
    """Decode normalized latents z [1, 16, T, h, w] as a clip: uint8 [n, H, W, 3], one frame, then four a latent."""
    return FrameStream(vae).decode(z)


def decoder_reach(vae: AutoencoderKLWan) -> int:
    """How many latents before a latent can have a part in its frames: what a stream must have seen to go on as if it
    had seen everything.

    Every causal convolution over three frames looks back two, at the rate of its level; twice on the way up the rate
    doubles. Four latents more stand for what lies across those steps and for the first latent, which is one frame.
    """
    config = vae.config
    layers = 2 * (config.num_res_blocks + 1)
    looks, rate = 2.0 * (1 + 4), 1
    for doubles in [*reversed(config.temperal_downsample), False]:
        looks += 2 * layers / rate
        if doubles:
            looks += 2 / rate
            rate *= 2
    return math.ceil(looks + 2 / rate) + 4
