"""The miniature's decoder in C++ kernels of its own (AVX2, one thread): `fast_decoder(vae)(z)` is parallel.decode(vae, z).

Equal up to rounding. The weights are read at the first call: for a frozen VAE. Without g++ or AVX2 it is parallel.decode.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from fast_encode import FastEncoder, _at, _packed
from parallel import decode

SOURCES = [Path(__file__).with_name(name) for name in ("fast_encode.cpp", "fast_decode.cpp")]


def library() -> Any:
    """The kernels, compiled once per version of the sources; None where that cannot be."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if " avx2" not in flags or " fma" not in flags:
        return None
    name = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"svid-mini-{name}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / "kernels.so"
            options = ["-O3", "-mavx2", "-mfma", "-std=c++17", "-shared", "-fPIC"]
            try:
                subprocess.run(["g++", *options, str(SOURCES[-1]), "-o", str(draft)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            place = path.with_suffix(f".{Path(folder).name}")
            place.write_bytes(draft.read_bytes())
            place.replace(path)
    return ctypes.CDLL(str(path))


def _rows(weight: torch.Tensor, odd: int, dim: int) -> torch.Tensor:
    """Three taps along `dim` of a convolution after a 2x upsampling, as two: of output pixels at even or odd places."""
    a, b, c = weight.unbind(dim)
    return torch.stack([a + b, c] if odd else [a, b + c], dim)


_G = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
"""Winograd's F(4, 3) at 0, 1, -1, 2, -2 and infinity: three taps to six products."""


def _tiled(weight: torch.Tensor) -> torch.Tensor:
    """[Co, C, 3, 3, 3] to [36, Co / 4, 3, C, 4]."""
    products = torch.einsum("iy,jx,octyx->ijotc", _G, _G, weight.double()).float()
    _, _, out, frames, channels = products.shape
    return products.reshape(36, out // 4, 4, frames, channels).permute(0, 1, 3, 4, 2).contiguous()


class FastDecoder(FastEncoder):
    """Raw latents [1, 16, 1 + n, h, w] to pixels [1, 3, 1 + 4n, 8h, 8w], as parallel.decode does."""

    def __init__(self, vae: Any, lib: Any) -> None:
        super().__init__(vae, lib)
        self.tiles: dict[int, torch.Tensor] = {}
        self.buffers = [torch.empty(0)] * 3

    def _new(self, *shape: int) -> torch.Tensor:
        """The oldest of three buffers: what a convolution reads, what it adds and what it makes are all there is."""
        count = math.prod(shape)
        oldest = self.buffers.pop(0)
        self.buffers.append(oldest if len(oldest) >= count else torch.empty(count))
        return self.buffers[-1][:count].view(shape)

    def _weights(self, conv: Any, norm: Any = None) -> Any:
        if id(conv) not in self.kept:
            missing = -len(conv.bias) % 4  # the kernels make output channels by fours
            bias = F.pad(conv.bias.detach().float(), (0, missing)).contiguous()
            weight = F.pad(conv.weight.detach().float(), (0,) * 9 + (missing,))
            gamma = None if norm is None else norm.gamma.detach().float().flatten().contiguous()
            self.kept[id(conv)] = (_packed(weight), bias, gamma)
            if weight.shape[-1] == 3:
                self.tiles[id(conv)] = _tiled(weight)
        return self.kept[id(conv)]

    def _causal(self, conv: Any, x: torch.Tensor, norm: Any = None, add: torch.Tensor | None = None) -> torch.Tensor:
        t, c, h, width = x.shape
        if width % 16 or h * width % 256:
            return super()._causal(conv, x, norm, add)
        _, b, gamma = self._weights(conv, norm)
        out = self._new(t, len(b), h, width)
        self.lib.tiled(_at(x), _at(gamma), _at(self.tiles[id(conv)]), _at(b), _at(add), _at(out), t, c, len(b), h, width)
        return out

    def _upsampled(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        if block.mode == "upsample3d" and len(x) > 1:
            late = self._pointwise(block.time_conv, torch.cat([x.new_zeros(2, *x.shape[1:]), x[1:]]), 3)
            x = torch.cat([x[:1], late.reshape(-1, *x.shape[1:])])
        conv = block.resample[1]
        if id(conv) not in self.kept:
            weight = conv.weight.detach().float()
            folded = [_packed(_rows(_rows(weight, q // 2, 2), q % 2, 3)) for q in range(4)]
            self.kept[id(conv)] = (torch.stack(folded), conv.bias.detach().float().contiguous(), None)
        w, b, _ = self.kept[id(conv)]
        t, c, h, width = x.shape
        out = self._new(t, len(b), 2 * h, 2 * width)
        self.lib.grow(_at(x), _at(w), _at(b), _at(out), t, c, len(b), h, width)
        return out

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """parallel.decode's own where batch, height, width or dtype do not suit."""
        height, width = latents.shape[3:]
        suits = width % 16 == 0 or (width == 8 and height % 2 == 0)
        if len(latents) != 1 or not suits or latents.dtype != torch.float32:
            return decode(self.vae, latents)
        decoder = self.vae.decoder
        x = self._pointwise(self.vae.post_quant_conv, latents[0].transpose(0, 1).contiguous())
        x = self._causal(decoder.conv_in, x)
        middle = decoder.mid_block
        x = self._residual(middle.resnets[0], x)
        for attention, residual in zip(middle.attentions, middle.resnets[1:], strict=True):
            x = self._residual(residual, self._attention(attention, x))
        for up in decoder.up_blocks:
            for residual in up.resnets:
                x = self._residual(residual, x)
            if up.upsamplers is not None:
                x = self._upsampled(up.upsamplers[0], x)
        x = self._causal(decoder.conv_out, x, decoder.norm_out)
        return x[:, : len(decoder.conv_out.bias)].transpose(0, 1)[None].clone(memory_format=torch.contiguous_format)


def fast_decoder(vae: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Latents to pixels by the kernels, where they can be had: on a CPU, in fp32."""
    first = next(vae.parameters())
    lib = library() if first.device.type == "cpu" and first.dtype == torch.float32 else None
    return partial(decode, vae) if lib is None else FastDecoder(vae, lib)
