"""Pictures to embeddings, as Wan 2.1 wants them: the last but one layer of a CLIP vision transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from svid.wan.memory import at_hand

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder:
    """A CLIP vision model with the normalization that its folder names (CLIP's own where it names none)."""

    def __init__(self, model: Any, processor: Mapping[str, Any]) -> None:
        self._model = model
        self._mean = _channels(processor.get("image_mean", MEAN))
        self._std = _channels(processor.get("image_std", STD))

    @torch.no_grad()
    def embed(self, picture: torch.Tensor) -> torch.Tensor:
        """uint8 [H, W, 3] to [1, 257, D], fp32 on the CPU.

        The picture is stretched to the encoder's square, bicubic and whole, as Wan's and SVI's own code does (V1
        diffsynth/models/wan_video_image_encoder.py:864-880). diffusers' pipeline cuts out the middle instead: of
        832 x 480 it would never see two fifths.
        """
        pixels = picture.permute(2, 0, 1)[None].to(torch.float32) * (2.0 / 255.0) - 1.0
        size = self._model.config.image_size
        square = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bicubic", align_corners=False)
        values = (square * 0.5 + 0.5 - self._mean) / self._std
        model = at_hand(self._model)
        states = model(values.to(model.device, model.dtype), output_hidden_states=True).hidden_states
        embedded: torch.Tensor = states[-2].float().cpu()
        return embedded


def _channels(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float32).view(1, 3, 1, 1)
