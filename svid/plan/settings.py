"""Settings: everything that holds for a segment and is handed on to the next one. Stored with every segment, so that an
extension that says nothing goes on exactly as the video did."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from svid.api import Expert


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PictureRef(_Frozen):
    """An input picture in the blob store; `pixels` is the digest of what it shows."""

    sha256: str
    pixels: str


class TailRef(_Frozen):
    """The last frame of the segment at this index of the chain, which may not be rendered yet."""

    tail_of: int


class SamplingSettings(_Frozen):
    """See svid.api.Sampling."""

    sampler: str
    steps: int
    shift: float
    sigmas: tuple[float, ...] | None
    guidance_high: float
    guidance_low: float
    boundary: float


class LoraStrength(_Frozen):
    """A LoRA of svid.toml by name, with its strength on each expert."""

    name: str
    high: float = 1.0
    low: float = 1.0

    def of(self, expert: Expert) -> float:
        """The strength on one expert."""
        return self.high if expert == "high" else self.low


class Settings(_Frozen):
    """What holds for a segment."""

    recipe: str
    model: str
    prompt: str
    negative: str
    seed: int
    """The seed of the video; a segment's own is derived from it and its index."""
    width: int
    height: int
    frames: int
    fps: float
    sampling: SamplingSettings
    loras: tuple[LoraStrength, ...]
    options: dict[str, dict[str, Any]]
    codec: str
    quality: float | None
    anchor: PictureRef | TailRef
