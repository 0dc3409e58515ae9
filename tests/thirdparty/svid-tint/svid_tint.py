"""Tints frames towards sepia, by `[options.tint] amount` of a manifest.

What: goes around `svid_decode`; every colour moves from what it is towards its sepia tone, by `amount`.
Why: the smallest plugin that is a package of its own, with an option, so that the door for third parties is tested.
Source: the sepia matrix is that of sepia() in the W3C Filter Effects Module.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from svid import hookimpl
from svid.api import Job, Segment

if TYPE_CHECKING:
    import torch

CACHE_VERSION = 1

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))


class Options(BaseModel):
    """What a manifest may say under [options.tint]."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    amount: float = Field(0.0, ge=0, le=1, description="how much of the colour is sepia; 0 is off")


@hookimpl
def svid_options() -> type[Options]:
    """The options."""
    return Options


@hookimpl
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """Takes no part where it changes nothing."""
    return {} if job.options["tint"].amount else None


@hookimpl(wrapper=True)
def svid_decode(job: Job) -> Generator[None, Iterator[torch.Tensor], Iterator[torch.Tensor]]:
    """Tint what the decoder yields."""
    frames = yield
    return _tinted(frames, job.options["tint"].amount)


def _tinted(frames: Iterator[torch.Tensor], amount: float) -> Iterator[torch.Tensor]:
    import torch

    matrix = torch.lerp(torch.eye(3), torch.tensor(SEPIA), amount)
    for some in frames:
        yield (some.float() @ matrix.T).round().clamp(0, 255).to(torch.uint8)
