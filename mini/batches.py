"""What the LoRAs learn from, a batch at a time: latents, what they are conditioned on, captions.

What the model itself got wrong is in the conditions already (`recycle`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from errors import even
from latents import Segments, whole
from lora import Lora
from prompts import Prompts
from recycle import Chains, ErrorBank, Recycling, strayed, worn
from swift import Text

COUNT = 12
"""Segments of one step."""
FIRST = 0.3
"""Share of first segments, which nothing goes before."""
FADE = (1.0, 2 / 3, 1 / 3)
"""How much of what is wrong with a motion latent is still in the target, from the latent on that repeats it: a later
segment begins as the one before ended and is right again three latents on. One that is right at once jumps."""
JOINED, WEIGHT = 4, 3
"""Latents at the head of a later segment that weigh more than others, and how much more: seams show how they fit."""
LINKED = 0.5
"""Share of later segments of Pro that go on from what a chain of the model itself has come to."""
OWN = 3
"""Rows of a batch that are put in the place of others: noisy latents that renderings of the model's own came to."""
KEPT = 240
"""Of those, kept for each expert; the oldest go first."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]
"""Latents z, where they show a subject, image latents (z and these [B, 16, T, h, w]), and captions."""


@dataclass(frozen=True)
class Reached:
    """What a rendering came to at a noise level, x [16, T, h, w], and what it was to find: a row of a batch."""

    x: torch.Tensor
    sigma: float
    z: torch.Tensor
    where: torch.Tensor
    condition: torch.Tensor
    caption: str


@dataclass
class Trainee:
    """The experts with LoRAs on them, the prompts, what is learned from."""

    experts: dict[str, Any]
    loras: dict[str, Lora]
    prompts: Prompts
    plain: Segments
    special: Segments
    recycling: Recycling = field(default_factory=Recycling)
    bank: ErrorBank = field(default_factory=ErrorBank)
    anchored: bool = True
    chains: Chains | None = None
    reached: dict[str, deque[Reached]] = field(default_factory=lambda: {e: deque(maxlen=KEPT) for e in ("high", "low")})

    def text(self, captions: list[str]) -> Text:
        """Embedded captions, nothing to be learned in them."""
        with torch.no_grad():
            return self.prompts(captions)


def draw_plain(trainee: Trainee, rng: random.Random, count: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Plain segments without cuts."""
    chosen: list[int] = []
    while len(chosen) < count:
        index = rng.randrange(len(trainee.plain))
        if trainee.plain.kinds[index] == "plain":
            chosen.append(index)
    return trainee.plain.batch(chosen)


def draw_special(trainee: Trainee, rng: random.Random, count: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Segments of the kind that the LoRA is for."""
    return trainee.special.batch([rng.randrange(len(trainee.special)) for _ in range(count)])


def faded(z: torch.Tensor, error: torch.Tensor, first: int) -> None:
    """Put what is wrong with the latent that a segment goes on from, [B, 16, 1, h, w], into its latents z
    [B, 16, T, h, w] from latent `first` on, less and less by FADE."""
    for slot, share in enumerate(FADE, first):
        z[:, :, slot : slot + 1] += share * error


def joined(
    later: dict[str, torch.Tensor], motion: torch.Tensor, anchored: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(target, weights, condition) of segments that go on from motion latents [B, 16, 1, h, w], what is wrong with
    which fades out of the target by FADE."""
    condition = torch.zeros_like(later["z"])
    condition[:, :, :1] = later["anchor"] if anchored else 0.0
    condition[:, :, 1:2] = motion
    z = later["z"].clone()
    faded(z, motion - later["motion"], 1)
    where = even(later["where"], z)
    where[:, :, :JOINED] = (WEIGHT - 1) / 3 + WEIGHT * where[:, :, :JOINED]  # `weighted`: 1 + 3 w
    return z, where, condition


def first_segments(trainee: Trainee, rng: random.Random, count: int) -> Batch:
    """Segments that nothing goes before, in Pro's layout: [anchor, zeros], the anchor their own first frame."""
    first, captions = draw_plain(trainee, rng, count)
    condition = torch.zeros_like(first["z"])
    condition[:, :, :1] = first["z"][:, :, :1]
    return first["z"], even(first["where"], first["z"]), condition, captions


def pro_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """SVI 2.0 Pro: [anchor, motion, zeros], or for a first segment [anchor, zeros] with its own first frame."""
    firsts = sum(rng.random() < FIRST for _ in range(COUNT))
    able = trainee.chains.able() if trainee.chains else []
    share = LINKED if len(able) >= COUNT else 0.0
    links = [rng.choice(able) for _ in range(COUNT - firsts) if rng.random() < share]
    later, captions = draw_special(trainee, rng, COUNT - firsts - len(links))
    motion = worn(later["motion"], -1, trainee.bank, trainee.recycling.motion, rng)
    motion = motion + strayed(later["astray"] - later["motion"], trainee.recycling.astray, rng)
    if trainee.chains and links:
        linked, words = trainee.chains.segments.batch(links)
        wrong = trainee.recycling.chained
        shares = [rng.uniform(0.5, 1.25) if rng.random() < wrong else 0.0 for _ in links]
        handed = trainee.chains.handed(links, linked["motion"], shares)
        later = {name: torch.cat([later[name], linked[name]]) for name in linked}
        motion, captions = torch.cat([motion, handed]), captions + words
    z, where, condition = joined(later, motion, trainee.anchored)
    if not firsts:
        return z, where, condition, captions
    first, first_where, first_condition, more = first_segments(trainee, rng, firsts)
    z, where, condition = (torch.cat(both) for both in ((z, first), (where, first_where), (condition, first_condition)))
    return z, where, condition, captions + more


def svi20_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """SVI 2.0 on Wan 2.2: the last frame, then copies of the anchor; a first segment is its own anchor, and an anchor
    that is the last frame is as good as any. Wrong with that frame is what is wrong with the end of a rendering; it
    fades out of the target by FADE, and the anchor says what would be right."""
    later, captions = draw_special(trainee, rng, COUNT)
    z, condition = later["z"].clone(), whole(later["y"], later["z"].shape[2])
    given = condition[:, :, :1].clone()
    condition[:, :, :1] = worn(given, -1, trainee.bank, trainee.recycling.motion, rng)
    faded(z, condition[:, :, :1] - given, 0)
    return z, even(later["where"], z), condition, captions


def cut_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """Plain I2V whose caption has a hard cut that the video has too, and some without. There are such segments among
    the plain ones as well."""
    some = COUNT // 4
    also = [i for i, kind in enumerate(trainee.plain.kinds) if kind == "cut"]
    own = sum(rng.randrange(len(also) + len(trainee.special)) >= len(also) for _ in range(COUNT - some))
    cut, captions = draw_special(trainee, rng, own)
    more_cuts, words = trainee.plain.batch(rng.choices(also, k=COUNT - some - own))
    cut = {name: torch.cat([cut[name], more_cuts[name]]) for name in ("z", "where", "y")}
    captions += words
    plain, more = draw_plain(trainee, rng, some)
    z, where, y = (torch.cat([cut[name], plain[name]]) for name in ("z", "where", "y"))
    return z, where, whole(y, z.shape[2]), captions + more


def pro_cut_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """As `cut_batch`, in the layout of SVI 2.0 Pro: the segment's own first latents stand for anchor and motion, or the
    anchor alone where nothing goes before."""
    z, where, _, captions = cut_batch(trainee, rng)
    later = torch.tensor([rng.random() >= FIRST for _ in captions])
    condition = torch.zeros_like(z)
    condition[:, :, :1] = z[:, :, :1]
    condition[later, :, 1:2] = z[later, :, 1:2]
    return z, where, condition, captions


def plain_batch(trainee: Trainee, rng: random.Random) -> Batch:
    """Plain I2V."""
    plain, captions = draw_plain(trainee, rng, COUNT)
    return plain["z"], plain["where"], whole(plain["y"], plain["z"].shape[2]), captions


BATCHES: dict[str, Callable[[Trainee, random.Random], Batch]] = {
    "svi-2.0-pro": pro_batch,
    "svi-2.0-wan22": svi20_batch,
    "hard-cut": cut_batch,
    "hard-cut, svi-2.0-pro": pro_cut_batch,
    "distill": plain_batch,
}
