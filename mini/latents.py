"""Latents of many segments, written once in shards: training the experts never touches a pixel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from clips import pixels_and_mask
from parallel import encode
from precision import fast_products
from safetensors import safe_open
from safetensors.torch import save_file
from samples import Sample, astray, draw_joint, draw_later, draw_link, draw_sample
from world import Scene

SHARD = 128
SETTLED = 9
"""Latents after which an encoded constant no longer changes: a condition is stored that far, its last one repeats."""
CONTEXT = 41
"""Frames that are enough to encode the last latent of a segment: what is farther back does not reach it."""


class Encoder:
    """Scenes to normalized latents [16, T, h, w] fp16."""

    def __init__(self, vae: Any, height: int, width: int) -> None:
        self.vae, self.height, self.width = vae, height, width
        self.device = next(vae.parameters()).device
        self.mean = torch.tensor(vae.config.latents_mean, device=self.device)[:, None, None, None]
        self.std = torch.tensor(vae.config.latents_std, device=self.device)[:, None, None, None]

    def pixels(self, scenes: list[Scene]) -> torch.Tensor:
        """[3, n, H, W] in [-1, 1]."""
        return pixels_and_mask(scenes, self.height, self.width, self.device)[0]

    def target(self, scenes: list[Scene]) -> dict[str, torch.Tensor]:
        """`z`, the latents of a whole segment, and `where`, [1, T, h, w] fp16: how much each shows of a subject."""
        pixels, mask = pixels_and_mask(scenes, self.height, self.width, self.device)
        frames = torch.cat([mask[:1].expand(3, -1, -1), mask])
        where = F.avg_pool3d(frames[None, None], (4, 8, 8))[0]
        return {"z": self(pixels), "where": (4 * where).clamp(max=1).half().cpu()}

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode [3, n, H, W]."""
        with fast_products(self.device.type):
            raw = encode(self.vae, pixels[None])[0].float()
        return ((raw - self.mean) / self.std).half().cpu()

    def padded(self, first: torch.Tensor, pad: torch.Tensor | float) -> torch.Tensor:
        """`first` [3, 1, H, W], then `pad` (0 is grey, or a frame like it) up to where the latents settle."""
        video = first.new_zeros(3, 4 * (SETTLED - 1) + 1, *first.shape[2:])
        video[:] = pad
        video[:, :1] = first
        return self(video)


def whole(condition: torch.Tensor, latents: int) -> torch.Tensor:
    """[B, 16, SETTLED, h, w] to `latents` slots, the last one repeated."""
    tail = condition[:, :, -1:].expand(-1, -1, max(latents - condition.shape[2], 0), -1, -1)
    return torch.cat([condition, tail], 2)[:, :, :latents]


def _plain(encoder: Encoder, sample: Sample) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors = encoder.target(sample.frames) | {"y": encoder.padded(encoder.pixels(sample.frames[:1]), 0.0)}
    return tensors, {"caption": sample.caption, "kind": sample.kind}


def plain_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A segment of plain I2V: the target, and `y`, the first frame and grey."""
    return _plain(encoder, draw_sample(seed, aspect))


def later_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """As `plain_item`, from somewhere in a long chain."""
    return _plain(encoder, draw_later(seed, aspect))


def cut_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A segment of plain I2V that has the hard cut of its caption."""
    return _plain(encoder, draw_sample(seed, aspect, "cut"))


def pro_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A segment of SVI 2.0 Pro: the target, `anchor` (a picture encoded alone), `motion` (the last latent
    before) and `astray`, that one with its subjects gone astray."""
    joint = draw_joint(seed, aspect, overlap=5)
    tensors = encoder.target(joint.frames) | {
        "anchor": encoder(encoder.pixels([joint.anchor])),
        "motion": encoder(encoder.pixels(joint.before[-CONTEXT:]))[:, -1:].contiguous(),
        "astray": encoder(encoder.pixels(astray(seed, joint.before[-CONTEXT:])))[:, -1:].contiguous(),
    }
    return tensors, {"caption": joint.caption, "kind": "pro"}


def link_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """As `pro_item`, one after another the segments of chains of DEPTH; the motion latent of a first one is zero."""
    link = draw_link(seed, aspect)
    tensors = encoder.target(link.frames) | {"anchor": encoder(encoder.pixels([link.anchor]))}
    before = encoder(encoder.pixels(link.before[-CONTEXT:]))[:, -1:] if link.before else tensors["anchor"] * 0
    return tensors | {"motion": before.contiguous()}, {"caption": link.caption, "kind": "link"}


def svi20_item(encoder: Encoder, seed: int, aspect: float) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A segment of SVI 2.0 on Wan 2.2: the target, and `y`: the last frame before, then copies of the anchor."""
    joint = draw_joint(seed, aspect, overlap=1)
    first, anchor = encoder.pixels(joint.frames[:1]), encoder.pixels([joint.anchor])
    tensors = encoder.target(joint.frames) | {"y": encoder.padded(first, anchor)}
    return tensors, {"caption": joint.caption, "kind": "svi20"}


ITEMS: dict[str, Callable[..., Any]] = {
    "plain": plain_item,
    "later": later_item,
    "pro": pro_item,
    "link": link_item,
    "svi20": svi20_item,
    "cut": cut_item,
}


def shard_path(folder: Path, kind: str, shard: int) -> Path:
    """Where a shard of a kind is."""
    return folder / f"{kind}-{shard:04d}.safetensors"


def write_shard(encoder: Encoder, folder: Path, kind: str, shard: int, seed: int) -> None:
    """Write SHARD segments of a kind; `seed` is that of the first one of shard 0. What is there already stays."""
    path = shard_path(folder, kind, shard)
    if path.exists():
        return
    aspect = encoder.width / encoder.height
    items = [ITEMS[kind](encoder, seed + shard * SHARD + i, aspect) for i in range(SHARD)]
    tensors = {name: torch.stack([t[name] for t, _ in items]).contiguous() for name in items[0][0]}
    words = {name: json.dumps([w[name] for _, w in items]) for name in items[0][1]}
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, draft, words)
    draft.replace(path)


class Segments:
    """All shards of some kinds, or one of each, in memory: tensors by name, captions, kinds."""

    def __init__(self, folder: Path, *kinds: str, device: str = "cpu", shard: str = "*") -> None:
        self.captions: list[str] = []
        self.kinds: list[str] = []
        parts: dict[str, list[torch.Tensor]] = {}
        for path in (path for kind in kinds for path in sorted(folder.glob(f"{kind}-{shard}.safetensors"))):
            with safe_open(path, "pt", device=device) as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    parts.setdefault(name, []).append(file.get_tensor(name))
                meta = file.metadata()
            self.captions += json.loads(meta["caption"])
            self.kinds += json.loads(meta["kind"])
        self.tensors = {name: torch.cat(values) for name, values in parts.items()}

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, indices: list[int]) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Tensors in fp32 and captions of these segments."""
        return {n: t[indices].float() for n, t in self.tensors.items()}, [self.captions[i] for i in indices]
