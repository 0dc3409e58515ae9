"""The miniature's VAE: how it begins, what it is trained for, how good it is, and its latents on Wan's scale."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from clips import HELD_OUT, batch, clip
from diffusers import AutoencoderKLWan
from parallel import decode, encode
from precision import fast_products
from torch import nn

BASE = 8
NOISE = 0.1
"""Spread of the noise on the latents in training, where their own is about 1: what experts predict is never exact."""


def make_vae(base: int = BASE, seed: int = 2203) -> Any:
    """Wan's VAE with `base` instead of 96 channels. Gain 1 and no biases; residual branches begin near nothing."""
    torch.manual_seed(seed)
    vae = AutoencoderKLWan(
        base_dim=base, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True]
    )
    for name, layer in vae.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            last = name.endswith((".conv2", ".proj"))
            nn.init.normal_(layer.weight, std=(0.05 if last else 1.0) / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return vae


def slopes(x: torch.Tensor) -> torch.Tensor:
    """Differences to the right and the lower neighbour, flat."""
    return torch.cat([(x[..., 1:] - x[..., :-1]).flatten(), (x[..., 1:, :] - x[..., :-1, :]).flatten()])


def unrest(out: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """How much [B, 3, n, H, W] changes from frame to frame otherwise than it should."""
    if pixels.shape[2] == 1:
        return out.new_zeros(())
    return ((out[:, :, 1:] - out[:, :, :-1]) - (pixels[:, :, 1:] - pixels[:, :, :-1])).abs().mean()


def reconstruction(
    vae: Any, latents: torch.Tensor, pixels: torch.Tensor, mask: torch.Tensor, still: float = 0.0
) -> tuple[Any, Any, Any]:
    """(loss, weighted mean error, mean square error) of decoded raw latents; subjects and what is around them weigh
    six times as much as the rest, and `unrest` counts `still` times."""
    out = decode(vae, latents).float()
    near = F.max_pool2d(mask, 5, stride=1, padding=2)
    weight = (1 + 5 * near)[:, None]
    weight = weight / weight.mean()
    error = out - pixels
    absolute, square = (weight * error.abs()).mean(), (weight * error.square()).mean()
    edges = (slopes(out) - slopes(pixels)).abs().mean()
    loss = absolute + 8 * square + 0.5 * edges + still * unrest(out, pixels)
    return loss, absolute, error.square().mean()


def loss_of(
    vae: Any, pixels: torch.Tensor, mask: torch.Tensor, scale: float = 1e-3
) -> tuple[torch.Tensor, dict[str, float]]:
    """Reconstruction, and a pull of the latents towards spread 1."""
    mean = encode(vae, pixels).float()
    loss, absolute, square = reconstruction(vae, mean + NOISE * torch.randn_like(mean), pixels, mask)
    size = mean.square().mean()
    return loss + scale * size, {"l1": absolute.item(), "mse": square.item(), "z2": size.item()}


def decoder_loss(
    vae: Any, pixels: torch.Tensor, mask: torch.Tensor, still: float = 0.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """Reconstruction by the decoder alone of latents that stay as they are, on Wan's scale: their noise is what the
    posterior says, up to twice as much, as what the experts make is less exact than what the encoder makes."""
    with torch.no_grad():
        mean = encode(vae, pixels).float()
        spread = torch.exp(0.5 * vae.quant_conv.bias[16:])[:, None, None, None]
        amount = 2 * torch.rand(len(mean), 1, 1, 1, 1, device=mean.device)
    loss, absolute, square = reconstruction(vae, mean + amount * spread * torch.randn_like(mean), pixels, mask, still)
    return loss, {"l1": absolute.item(), "mse": square.item()}


def psnr(square_error: float) -> float:
    """dB of a mean square error where values span 2 ([-1, 1])."""
    return 10 * math.log10(4 / max(square_error, 1e-12))


@torch.no_grad()
def evaluate(vae: Any, count: int, frames: int, height: int, width: int, bf16: bool = False) -> dict[str, float]:
    """PSNR on held-out clips, of the whole frame and inside the subjects (coverage above one half)."""
    whole = inside = area = 0.0
    device = next(vae.parameters()).device
    for index in range(count):
        pixels, mask = clip(HELD_OUT + index, frames, height, width, device, pad=0.0)
        with fast_products(device.type, bf16):
            out = decode(vae, encode(vae, pixels[None])).float().clamp(-1, 1)[0]
        error = (out - pixels).square().mean(0)
        whole += float(error.mean()) / count
        inside += float((error * (mask > 0.5)).sum())
        area += float((mask > 0.5).sum())
    return {"psnr": psnr(whole), "psnr_subject": psnr(inside / max(area, 1))}


@torch.no_grad()
def statistics(vae: Any, count: int, frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std [16] of the raw latents. First latents and later ones have the same weight: a first one covers one
    frame and has less spread, and there is one of it to twenty."""
    firsts, laters = [], []
    for index in range(count):
        latents = encode(vae, batch(HELD_OUT // 2 + index, frames, 1, 0, height, width)[0])[0].float()
        firsts.append(latents[:, :1].flatten(1))
        laters.append(latents[:, 1:].flatten(1))
    groups = [torch.cat(g, 1) for g in (firsts, laters)]
    mean = torch.stack([g.mean(1) for g in groups]).mean(0)
    square = torch.stack([(g - mean[:, None]).square().mean(1) for g in groups]).mean(0)
    return mean, square.sqrt()


@torch.no_grad()
def on_wans_scale(vae: Any, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Fold an affine per channel into the outermost 1x1x1 convolutions: raw latents of `mean` and `std` [16] become
    ones of Wan's published mean and std, and the decoder takes it back. Pixels stay the same.

    The posterior's log variance is set to the noise of the training, on the new scale."""
    goal_mean, goal_std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    gain = goal_std / std
    vae.quant_conv.weight[:16] *= gain[:, None, None, None, None]
    vae.quant_conv.bias[:16] = (vae.quant_conv.bias[:16] - mean) * gain + goal_mean
    vae.quant_conv.weight[16:] = 0
    vae.quant_conv.bias[16:] = 2 * torch.log(NOISE * gain)
    weight = vae.post_quant_conv.weight
    weight /= gain[None, :, None, None, None]
    vae.post_quant_conv.bias += weight[:, :, 0, 0, 0] @ (mean * gain - goal_mean)
