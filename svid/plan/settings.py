"""Settings: everything that holds for a segment and is handed on to the next one. Stored with every segment, so that an
extension that says nothing goes on exactly as the video did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from svid.api import Expert
from svid.layout import Layout


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PictureRef(_Frozen):
    """An input picture in the blob store; `pixels` is the digest of what it shows."""

    sha256: str
    pixels: str
    width: int = 0
    height: int = 0
    """As given, turned as its EXIF orientation says; 0 where it was taken in before sizes were noted."""


class ClipRef(_Frozen):
    """A clip in the blob store that a video goes on from; its frames are counted, its rate is that of their times."""

    sha256: str
    frames: int
    fps: float
    width: int
    height: int


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
    steps: tuple[int, int] | None = None
    """The first and the last step that it is on, counted from 1; None: all of them."""

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
    layout: Layout = Layout()
    stream: bool = False
    sampling: SamplingSettings
    loras: tuple[LoraStrength, ...]
    options: dict[str, dict[str, Any]]
    codec: str
    quality: float | None
    anchor: PictureRef | TailRef


@dataclass(frozen=True)
class Parent:
    """What a plan builds on: `length` segments of a video, and the settings that hold after them."""

    video: str
    length: int
    settings: Settings
    room: int | None = None
    """Frames of the last of them that a seam may still take the place of; None where nothing was rendered to know it
    by."""
