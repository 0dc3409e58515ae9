"""The miniature's encoder in a C++ kernel of its own (AVX2, one thread): `Encoder(fast(vae), 64, 64)`.

Equal to parallel.encode up to rounding. A clip that is one frame and then copies of another (what conditions are made
of) is computed only as far as its frames still differ, see `_repeated`. Without g++ or AVX2 `fast` returns the VAE.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

SOURCE = Path(__file__).with_name("fast_encode.cpp")


def library() -> Any:
    """The kernels, compiled once per version of the source; None where that cannot be."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if " avx2" not in flags or " fma" not in flags:
        return None
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"svid-mini-{name}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / "kernels.so"
            command = ["g++", "-O3", "-mavx2", "-mfma", "-std=c++17", "-shared", "-fPIC", str(SOURCE), "-o", str(draft)]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            place = path.with_suffix(f".{Path(folder).name}")
            place.write_bytes(draft.read_bytes())
            place.replace(path)
    return ctypes.CDLL(str(path))


def _at(x: torch.Tensor | None) -> Any:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _packed(weight: torch.Tensor) -> torch.Tensor:
    """[Co, ...] to [Co / 4, taps, 4]."""
    flat = weight.detach().float().reshape(weight.shape[0] // 4, 4, -1)
    return flat.transpose(1, 2).contiguous()


class FastEncoder:
    """What latents.Encoder needs of a VAE; `encode_clip` takes [1, 3, 1 + 4n, H, W] to raw means as parallel.encode does."""

    def __init__(self, vae: Any, lib: Any) -> None:
        self.vae, self.lib, self.config = vae, lib, vae.config
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = {}

    def parameters(self) -> Any:
        return self.vae.parameters()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vae, name)

    def _weights(self, conv: Any, norm: Any = None) -> Any:
        if id(conv) not in self.kept:
            gamma = None if norm is None else norm.gamma.detach().float().flatten().contiguous()
            self.kept[id(conv)] = (_packed(conv.weight), conv.bias.detach().float().contiguous(), gamma)
        return self.kept[id(conv)]

    def _causal(self, conv: Any, x: torch.Tensor, norm: Any = None, add: torch.Tensor | None = None) -> torch.Tensor:
        w, b, gamma = self._weights(conv, norm)
        t, c, h, width = x.shape
        out = x.new_empty(t, len(b), h, width)
        self.lib.causal(_at(x), _at(gamma), _at(w), _at(b), _at(add), _at(out), t, c, len(b), h, width)
        return out

    def _pointwise(self, conv: Any, x: torch.Tensor, kt: int = 1, stride: int = 1) -> torch.Tensor:
        w, b, _ = self._weights(conv)
        t, c, h, width = x.shape
        out = x.new_empty((t - kt) // stride + 1, len(b), h, width)
        self.lib.pointwise(_at(x), _at(w), _at(b), _at(out), t, c, len(b), h, width, kt, stride)
        return out

    def _residual(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        same = isinstance(block.conv_shortcut, torch.nn.Identity)
        shortcut = x if same else self._pointwise(block.conv_shortcut, x)
        return self._causal(block.conv2, self._causal(block.conv1, x, block.norm1), block.norm2, shortcut)

    def _attention(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-12)
        qkv = block.to_qkv(x * scale * block.norm.gamma).flatten(2).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        mixed = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v
        return (x + block.proj(mixed.mT.reshape(x.shape))).contiguous()

    def _halve(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        conv = block.resample[1]
        w, b, _ = self._weights(conv)
        t, c, h, width = x.shape
        out = x.new_empty(t, len(b), h // 2, width // 2)
        self.lib.halve(_at(x), _at(w), _at(b), _at(out), t, c, len(b), h, width)
        return out

    @torch.no_grad()
    def encode_clip(self, pixels: torch.Tensor) -> torch.Tensor:
        """[1, 3, 1 + 4n, H, W], H and W multiples of 64."""
        x = pixels[0].transpose(0, 1)
        frames = len(x)
        different = 1  # frames up to and with the first of those that are all alike, from here to the end
        if frames > 13 and torch.equal(x[2:], x[1:-1]):
            different = 2
        known = different > 1

        def reach(x: torch.Tensor, convs: int) -> torch.Tensor:
            """Cut or lengthened to as many frames as `convs` more convolutions leave different."""
            nonlocal different
            if not known:
                return x
            different = min(different + 2 * convs, frames)
            missing = different - len(x)
            return x[:different] if missing <= 0 else torch.cat([x, x[-1:].expand(missing, -1, -1, -1)])

        encoder = self.vae.encoder
        x = self._causal(encoder.conv_in, reach(x, 1).contiguous())
        for block in encoder.down_blocks:
            if type(block).__name__ == "WanResidualBlock":
                x = self._residual(block, reach(x, 2).contiguous())
                continue
            x = self._halve(block, x)
            if block.mode == "downsample3d" and frames > 1:
                if known:  # an even number of frames behind the first, so that the last output is all alike
                    x = torch.cat([x, x[-1:].expand(min(frames - len(x), 4), -1, -1, -1)])
                    x = x[: len(x) - (len(x) + 1) % 2]
                x = torch.cat([x[:1], self._pointwise(block.time_conv, x, 3, 2)])
                frames = (frames + 1) // 2
                different = len(x)
        middle = encoder.mid_block
        x = reach(x, 2)
        x = self._residual(middle.resnets[0], x.contiguous())
        for attention, residual in zip(middle.attentions, middle.resnets[1:], strict=True):
            x = self._residual(residual, reach(self._attention(attention, x), 2).contiguous())
        x = self._causal(encoder.conv_out, reach(x, 1).contiguous(), encoder.norm_out)
        if known:
            x = torch.cat([x, x[-1:].expand(frames - len(x), -1, -1, -1)])
        moments = self._pointwise(self.vae.quant_conv, x.contiguous())
        return moments[:, : moments.shape[1] // 2].transpose(0, 1)[None]


def fast(vae: Any) -> Any:
    """The VAE with this encoder where it can be had: on a CPU without bf16, in fp32."""
    first = next(vae.parameters())
    lib = library() if first.device.type == "cpu" and first.dtype == torch.float32 else None
    return vae if lib is None else FastEncoder(vae, lib)
