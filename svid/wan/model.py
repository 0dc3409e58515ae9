"""A loaded Wan image-to-video model, as the stages hand it around."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from svid.api import Expert

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    from svid.wan.vae import FrameStream

ANCHORS_KEPT = 16


class Encoder(Protocol):
    """Turns a prompt into what the experts attend to: [1, 512, D], zero beyond the prompt's length."""

    def encode(self, prompt: str) -> torch.Tensor:
        """The embedding of `prompt` on the model's device."""
        ...


class ImageEmbedder(Protocol):
    """Turns a picture into what Wan 2.1 attends to beside the prompt."""

    def embed(self, picture: torch.Tensor) -> torch.Tensor:
        """uint8 [H, W, 3] to [1, 257, D] fp32 on the CPU."""
        ...


class AnchorCache:
    """The latents of the last few anchors, by (digest of the pixels, width, height). A video has one or two of them."""

    def __init__(self, keep: int = ANCHORS_KEPT) -> None:
        self._keep = keep
        self._latents: OrderedDict[tuple[str, int, int], torch.Tensor] = OrderedDict()

    def get(self, key: tuple[str, int, int]) -> torch.Tensor | None:
        """The latent [1, 16, 1, h, w] stored under `key`, or None."""
        if key in self._latents:
            self._latents.move_to_end(key)
        return self._latents.get(key)

    def put(self, key: tuple[str, int, int], latent: torch.Tensor) -> None:
        """Keep `latent`; the one that was not used for longest makes room."""
        self._latents[key] = latent
        self._latents.move_to_end(key)
        while len(self._latents) > self._keep:
            self._latents.popitem(last=False)


@dataclass
class WanModel:
    """The experts, the VAE and the encoders, in eval mode. They compute on one device; by a memory plan they may be
    away from it until `svid.wan.memory.at_hand` is asked for them.

    Wan 2.2 has two experts and no image encoder. The one transformer of Wan 2.1 is the "high" expert, and `image` is
    its image encoder.

    `dtype` is what the experts' inputs are cast to (fp32 on a CPU, bf16 on CUDA); latents between them stay fp32.
    `digests` are those of the files the weights came from, as `ModelSource.digests` has them.
    """

    experts: dict[Expert, WanTransformer3DModel]
    vae: AutoencoderKLWan
    text: Encoder
    device: torch.device
    dtype: torch.dtype
    digests: Mapping[str, str] = field(default_factory=dict)
    anchors: AnchorCache = field(default_factory=AnchorCache)
    image: ImageEmbedder | None = None
    stream: tuple[tuple[str, str | None], FrameStream] | None = None
    """The decoder as it was after the last segment of a chain that is decoded as one stream, and which one that was."""
