"""WanTransformer3DModel without its detours: the same function, several times as fast on a CPU under autocast.

Three things differ from diffusers' forward, none of them in what comes out:

* 512 text tokens are mostly zero rows, all alike to attention: a few stand for all of them, with the logarithm of how
  many each stands for added to its scores;
* rotary embedding works on halves instead of neighbours: queries and keys are made with their channels in that order;
* modulated norms and gated sums are one fused operation each, in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

TOKENS = 512
"""Rows of a prompt's embedding that Wan's experts see."""


@dataclass(frozen=True)
class Text:
    """Embedded prompts [B, L, D], zero beyond each one's length, and what is added to attention scores [B, 1, L]."""

    states: torch.Tensor
    bias: torch.Tensor


def short_text(states: torch.Tensor, mask: torch.Tensor) -> Text:
    """What stands for the 512 rows of prompts whose `mask` [B, L] has at least one zero at each end."""
    lengths = mask.sum(1)
    spare = mask.shape[1] - lengths
    bias = torch.where(mask > 0, 0.0, torch.log((TOKENS - lengths) / spare)[:, None])
    return Text(states * mask[..., None], bias[:, None, :])


@lru_cache(maxsize=16)
def _tables(head: int, frames: int, height: int, width: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [N, head / 2] of the three axes, in the order that WanRotaryPosEmbed has."""
    side = 2 * (head // 6)
    axes = []
    for size, dim in ((frames, head - 2 * side), (height, side), (width, side)):
        rate = 1.0 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        axes.append(torch.outer(torch.arange(size, dtype=torch.float64), rate))
    t, h, w = axes
    angles = torch.cat(
        [
            t[:, None, None].expand(-1, height, width, -1),
            h[None, :, None].expand(frames, -1, width, -1),
            w[None, None, :].expand(frames, height, -1, -1),
        ],
        -1,
    ).reshape(frames * height * width, -1)
    return angles.cos().float().to(device), angles.sin().float().to(device)


def _halves(size: int, device: torch.device) -> torch.Tensor:
    return torch.cat([torch.arange(0, size, 2, device=device), torch.arange(1, size, 2, device=device)])


def _rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    scale = torch.rsqrt(x.square().sum(-1, keepdim=True, dtype=torch.float32) / x.shape[-1] + eps)
    return x * scale.to(x.dtype) * weight.to(x.dtype)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def _linear(layer: Any, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """A layer whose outputs come in `order`; LoRA adapters of peft are not looked at (see lora.py)."""
    out: torch.Tensor = F.linear(x, layer.weight[order], layer.bias[order])
    return out


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Attention written out: at a few hundred tokens two matrix products beat the fused kernel, backwards by far."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    mixed: torch.Tensor = (scores if bias is None else scores + bias).softmax(-1) @ v
    return mixed


def self_attention(attention: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [B, N, D], one head."""
    order = _halves(x.shape[-1], x.device)
    q = _rms(_linear(attention.to_q, x, order), attention.norm_q.weight[order], attention.norm_q.eps)
    k = _rms(_linear(attention.to_k, x, order), attention.norm_k.weight[order], attention.norm_k.eps)
    q, k = _turned(q, cos, sin), _turned(k, cos, sin)
    mixed = _attend(q, k, attention.to_v(x))
    out: torch.Tensor = attention.to_out[0](mixed)
    return out


def cross_attention(attention: Any, x: torch.Tensor, text: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x [B, N, D] looks at `text` [B, L, D]."""
    q = _rms(attention.to_q(x), attention.norm_q.weight, attention.norm_q.eps)
    k = _rms(attention.to_k(text), attention.norm_k.weight, attention.norm_k.eps)
    mixed = _attend(q, k, attention.to_v(text), bias)
    out: torch.Tensor = attention.to_out[0](mixed)
    return out


def _block(block: Any, x: torch.Tensor, text: Text, words: torch.Tensor, time: torch.Tensor, rope: Any) -> torch.Tensor:
    shift, scale, gate, shift2, scale2, gate2 = (block.scale_shift_table + time).chunk(6, dim=1)
    size = (x.shape[-1],)
    normed = torch.addcmul(shift, F.layer_norm(x, size, eps=block.norm1.eps), 1 + scale)
    x = torch.addcmul(x, self_attention(block.attn1, _cast(normed), *rope).float(), gate)
    normed = F.layer_norm(x, size, block.norm2.weight, block.norm2.bias, block.norm2.eps)
    x = x + cross_attention(block.attn2, _cast(normed), words, text.bias.to(words.dtype))
    normed = torch.addcmul(shift2, F.layer_norm(x, size, eps=block.norm3.eps), 1 + scale2)
    fed: torch.Tensor = torch.addcmul(x, block.ffn(_cast(normed)).float(), gate2)
    return fed


def _cast(x: torch.Tensor) -> torch.Tensor:
    """To autocast's dtype where it is on: one conversion instead of one per matrix."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def velocity(model: Any, x: torch.Tensor, timestep: torch.Tensor, text: Text) -> torch.Tensor:
    """What `model(x, timestep, states)` returns, fp32.

    x [B, 36, T, h, w]: noisy latents 16, mask 4, image latents 16; timestep [B] in 0..1000. One head, patch (1, 2, 2).
    """
    b, channels, frames, height, width = x.shape
    rows, columns = height // 2, width // 2
    patches = x.reshape(b, channels, frames, rows, 2, columns, 2).permute(0, 2, 3, 5, 1, 4, 6)
    kernel = model.patch_embedding
    state = F.linear(
        _cast(patches.reshape(b, frames * rows * columns, -1)), kernel.weight.flatten(1), kernel.bias
    ).float()
    embed = model.condition_embedder
    time = embed.time_embedder(embed.timesteps_proj(timestep)).float()
    modulation = embed.time_proj(F.silu(time)).float().unflatten(1, (6, -1))
    words = embed.text_embedder(text.states)
    cos, sin = _tables(state.shape[-1], frames, rows, columns, str(x.device))
    rope = (_cast(cos), _cast(sin))
    for block in model.blocks:
        state = _block(block, state, text, words, modulation, rope)
    shift, scale = (model.scale_shift_table + time[:, None]).chunk(2, dim=1)
    state = torch.addcmul(shift, F.layer_norm(state, (state.shape[-1],), eps=model.norm_out.eps), 1 + scale)
    out = model.proj_out(_cast(state)).float().reshape(b, frames, rows, columns, 1, 2, 2, -1)
    video: torch.Tensor = out.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(b, -1, frames, height, width)
    return video
