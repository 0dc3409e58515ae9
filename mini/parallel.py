"""The Wan VAE without its feature cache: whole clips in one pass, equal to the cached one and several times as fast.

diffusers walks through a clip in chunks of 1, 4, 4 ... frames, which costs more than the convolutions of a VAE this
small. Run as a whole, the causal convolutions do the same with zeros on the left; three places differ:

* downsampling in time: the first frame goes past the strided convolution, which begins at frame 0;
* upsampling in time: the first latent stays one frame, and the convolution sees the later ones with zeros before them;
* RMS norm is written out, as F.normalize is slow on a CPU;
* the convolutions of a single clip go to oneDNN on a CPU, which torch leaves out there unless it is asked by name.

These are the modules of an AutoencoderKLWan (not residual, not patchified); nothing is copied or replaced.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F


def rms_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """WanRMS_norm over channels, dimension 1; sums in fp32 whatever x is."""
    scale = torch.rsqrt(x.square().sum(1, keepdim=True, dtype=torch.float32) / x.shape[1] + 1e-12)
    normed: torch.Tensor = x * scale.to(x.dtype) * norm.gamma.to(x.dtype)
    return normed


def _activated(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return F.silu(rms_norm(norm, x))


def _by_name(x: torch.Tensor, kernel: torch.Tensor) -> bool:
    """Whether torch would take its own kernel, several times as slow as oneDNN's, where oneDNN can be asked. Backwards
    it can't: what learns is given two clips at once, of which torch asks oneDNN itself."""
    learns = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    able = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return able and len(x) == 1 and not learns and not torch.is_autocast_enabled("cpu")


def _convolved(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """What `layer(x)` returns, of a causal convolution with zeros before the first frame."""
    if type(layer).__name__ != "WanCausalConv3d" or not _by_name(x, layer.weight):
        return cast(torch.Tensor, layer(x))
    # channels last: oneDNN would have to turn each frame over otherwise, which takes a third of the time
    x, none = F.pad(x.contiguous(memory_format=torch.channels_last_3d), layer._padding), (0, 0, 0)
    return torch.mkldnn_convolution(x, layer.weight, layer.bias, none, layer.stride, layer.dilation, layer.groups)


def _residual(block: Any, x: torch.Tensor) -> torch.Tensor:
    h = _convolved(block.conv1, _activated(block.norm1, x))
    h = _convolved(block.conv2, _activated(block.norm2, h))
    return h + _convolved(block.conv_shortcut, x)


def _attention(block: Any, x: torch.Tensor) -> torch.Tensor:
    b, c, t, height, width = x.shape
    flat = x.transpose(1, 2).reshape(b * t, c, height, width)
    qkv = block.to_qkv(rms_norm(block.norm, flat)).flatten(2).transpose(1, 2)
    q, k, v = qkv.chunk(3, dim=-1)
    mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    out: torch.Tensor = block.proj(mixed.transpose(1, 2).reshape(b * t, c, height, width))
    return x + out.reshape(b, t, c, height, width).transpose(1, 2)


def _per_frame(layers: Any, x: torch.Tensor) -> torch.Tensor:
    b, c, t, height, width = x.shape
    flat: torch.Tensor = layers(x.transpose(1, 2).reshape(b * t, c, height, width))
    return flat.reshape(b, t, *flat.shape[1:]).transpose(1, 2)


def _resample(block: Any, x: torch.Tensor) -> torch.Tensor:
    if block.mode == "upsample3d" and x.shape[2] > 1:
        b, c, t, height, width = x.shape
        later = _convolved(block.time_conv, x[:, :, 1:]).reshape(b, 2, c, t - 1, height, width)
        later = later.permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * (t - 1), height, width)
        x = torch.cat([x[:, :, :1], later.to(x.dtype)], 2)
    x = _per_frame(block.resample, x)
    if block.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], _convolved(block.time_conv, x).to(x.dtype)], 2)
    return x


def _block(block: Any, x: torch.Tensor) -> torch.Tensor:
    kind = type(block).__name__
    if kind == "WanResidualBlock":
        return _residual(block, x)
    if kind == "WanAttentionBlock":
        return _attention(block, x)
    return _resample(block, x)


def _middle(block: Any, x: torch.Tensor) -> torch.Tensor:
    x = _residual(block.resnets[0], x)
    for attention, residual in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(residual, _attention(attention, x))
    return x


def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """[B, 3, 1 + 4n, H, W] in [-1, 1] to the raw mean of the latents [B, 16, 1 + n, H/8, W/8]."""
    encoder = vae.encoder
    x = _convolved(encoder.conv_in, pixels)
    for block in encoder.down_blocks:
        x = _block(block, x)
    x = _convolved(encoder.conv_out, _activated(encoder.norm_out, _middle(encoder.mid_block, x)))
    return _convolved(vae.quant_conv, x).chunk(2, dim=1)[0]


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Raw latents [B, 16, 1 + n, h, w] to pixels [B, 3, 1 + 4n, 8h, 8w], not clamped."""
    decoder = vae.decoder
    x = _convolved(decoder.conv_in, _convolved(vae.post_quant_conv, latents))
    x = _middle(decoder.mid_block, x)
    for up in decoder.up_blocks:
        for residual in up.resnets:
            x = _residual(residual, x)
        if up.upsamplers is not None:
            x = _resample(up.upsamplers[0], x)
    return _convolved(decoder.conv_out, _activated(decoder.norm_out, x))
