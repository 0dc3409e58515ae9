"""Noisy latents that rendering itself comes to, for the experts to learn from.

Training mixes noise into the truth, rendering into what the experts have made of it so far: a star that came out as a
blob at high noise is one at every level after it, and no expert has been shown what to do with that. First frame and
caption leave one right answer here, so it can be told (DAgger, arXiv 1011.0686).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from flow import BOUNDARY, sample
from latents import Segments, whole
from prompts import Prompts

from svid.wan.prompts import NEGATIVE_ZH

COUNT = 14
"""Segments that are rendered at once."""
EVERY = 24
"""Steps of both experts from one rendering to the next."""
STEPS = (6, 8, 8, 8, 10)
"""Of a rendering, one of these."""
KEPT = 400
"""Noisy latents kept for each expert; the oldest go first."""


@dataclass(frozen=True)
class Reached:
    """Noisy latents x [16, T, h, w] fp16 of segment `index` that a rendering came to at a noise level."""

    x: torch.Tensor
    sigma: float
    index: int


@dataclass
class Rollouts:
    """What renderings of `segments` came to, by expert."""

    segments: Segments
    prompts: Prompts
    reached: dict[str, deque[Reached]] = field(default_factory=dict)

    @torch.no_grad()
    def render(self, experts: Mapping[str, Any], number: int, device: str) -> None:
        """Render segments to the end and keep what every level but the first, pure noise, began from. A video with a
        cut is not among them: without its LoRA there is none to be found."""
        rng = random.Random(number)
        able = [i for i, kind in enumerate(self.segments.kinds) if kind != "cut"]
        chosen = rng.choices(able, k=COUNT)
        tensors, captions = self.segments.batch(chosen)
        noise = torch.randn(tensors["z"].shape, generator=torch.Generator().manual_seed(number)).to(device)

        def keep(sigma: float, x: torch.Tensor) -> None:
            if sigma < 1:
                found = self.reached.setdefault("high" if sigma >= BOUNDARY else "low", deque(maxlen=KEPT))
                found.extend(Reached(one, sigma, i) for one, i in zip(x.half(), chosen, strict=True))

        text, unsaid = self.prompts(captions), self.prompts([NEGATIVE_ZH] * COUNT)
        y = whole(tensors["y"], tensors["z"].shape[2])
        sample(experts, noise, y, text, rng.choice(STEPS), keep, unsaid=unsaid)

    def draw(self, expert: str, count: int, rng: random.Random) -> list[Reached]:
        """Some of what an expert's levels began from; nothing before the first rendering."""
        found = self.reached.get(expert)
        return [found[rng.randrange(len(found))] for _ in range(count)] if found else []
