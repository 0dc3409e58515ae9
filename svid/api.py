"""What plugins see: the nouns of svid as frozen data. Nothing here does any work.

Shapes: latents are [1, 16, T, H/8, W/8] fp32 in the VAE's *normalized* space, T = (frames - 1) / 4 + 1; frames are
uint8 [n, H, W, 3] RGB. A segment's `index` counts from 0 along its chain; people and manifests count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    import torch

Expert = Literal["high", "low"]
EXPERTS: tuple[Expert, Expert] = ("high", "low")
Base = Literal["wan2.1-i2v", "wan2.2-i2v"]
Pad = Literal["grey", "reference", "zero_latent"]


class Guidance(BaseModel):
    """The guidance scale of each expert. At 1 the unconditional pass of that expert does not run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    high: float = Field(ge=0, le=100)
    low: float = Field(ge=0, le=100)


class RecipeLora(BaseModel):
    """A LoRA of svid.toml that a recipe needs, with its strength on each expert."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    high: float = 1.0
    low: float = 1.0


class Recipe(BaseModel):
    """A variant with its numbers. Data, not code; whatever a manifest leaves out comes from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    variant: str = Field(description="which conditioning plugin serves it")
    title: str = Field(description="one line for people")
    source: str = Field(description="where the numbers come from")
    frames: int = 81
    width: int = 832
    height: int = 480
    fps: float = 16.0
    steps: int = 50
    sampler: str = "euler"
    shift: float = 5.0
    guidance: Guidance = Guidance(high=5.0, low=5.0)
    boundary: float = Field(0.9, description="sigma below which the low-noise expert takes over")
    base: Base = Field("wan2.2-i2v", description="which model the recipe is for")
    pad: Pad = Field("grey", description="what follows the given frames or latents in the conditioning")
    trim: Literal["head", "tail"] = Field("head", description="which side of a seam gives up the repeated frames")
    prompt_repeat: int = Field(1, ge=1, description="segments that each prompt of a manifest is used for")
    motion_latents: int = Field(0, description="last latents of the previous segment that condition the next one")
    motion_frames: int = Field(0, description="last frames of the previous segment that condition the next one")
    seed_stride: int = Field(42, description="segment i of a video is seeded with seed + stride * i")
    loras: tuple[RecipeLora, ...] = Field((), description="LoRAs that the recipe needs; a plain name is at strength 1")
    negative: str = ""

    @field_validator("loras", mode="before")
    @classmethod
    def _named(cls, loras: Any) -> Any:
        if not isinstance(loras, tuple | list):
            return loras
        return tuple({"name": lora} if isinstance(lora, str) else lora for lora in loras)

    @property
    def experts(self) -> tuple[Expert, ...]:
        """Wan 2.1 has one transformer, which takes the place of the high-noise expert, with a boundary of 0."""
        return EXPERTS if self.base == "wan2.2-i2v" else ("high",)

    @property
    def overlap(self) -> int:
        """Frames at the head of a later segment that repeat the previous one: 4m + 1 for m motion latents, because a
        latent covers four frames and the first frame of a clip has one of its own (SVI issue 75), else the motion
        frames."""
        return 4 * self.motion_latents + 1 if self.motion_latents else self.motion_frames


@dataclass(frozen=True)
class Picture:
    """An input image. `path` holds the bytes as they were given; `sha256` is their digest, `pixels` that of the
    decoded RGB values and the size, which is what decides a render."""

    path: Path
    sha256: str
    pixels: str


@dataclass(frozen=True)
class TailOf:
    """An anchor that does not exist yet: the last frame of the segment with this index."""

    index: int


@dataclass(frozen=True)
class Lora:
    """A LoRA with its strengths; an expert without a file is left alone."""

    name: str
    files: Mapping[Expert, Path]
    digests: Mapping[Expert, str]
    strength: Mapping[Expert, float]


@dataclass(frozen=True)
class Sampling:
    """How a segment is denoised. `sigmas`, where given, are final (no shift is applied) and take the place of steps."""

    sampler: str
    steps: int
    shift: float
    guidance: Mapping[Expert, float]
    boundary: float
    sigmas: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cut:
    """The hard cut of a segment: a LoRA on the high-noise expert for this segment only."""

    lora: Lora
    strength: float


@dataclass(frozen=True)
class Segment:
    """One clip to render."""

    index: int
    prompt: str
    negative: str
    seed: int
    frames: int
    width: int
    height: int
    anchor: Picture | TailOf
    image: Picture | None
    """The start image; None where the segment continues another."""
    motion_latents: int
    motion_frames: int
    overlap: int
    """Frames at the head that repeat the previous segment and are not shown; 0 for the first segment."""
    sampling: Sampling
    tail_trim: int = 0
    """Frames at the end that are not shown where another segment follows, which repeats them."""
    pad: Pad = "grey"
    loras: tuple[Lora, ...] = ()
    cut: Cut | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """[1, 16, T, h, w] of Wan's VAE."""
        return (1, 16, (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8)


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are: a folder in diffusers layout, the digest of every file that decides a render, and
    the precision in which its transformers compute (`float32` or `bfloat16`)."""

    name: str
    path: Path
    digests: Mapping[str, str]
    dtype: str


@dataclass(frozen=True)
class Encoding:
    """How frames become a file. `codec` is a name of `svid.media.codecs`; `quality` its constant-quality number."""

    codec: str = "h264"
    quality: float | None = None


@dataclass(frozen=True)
class Job:
    """An accepted manifest while it is being rendered."""

    id: str
    name: str
    video: str
    recipe: Recipe
    model: ModelSource
    fps: float
    encoding: Encoding
    options: Mapping[str, Any] = field(default_factory=dict)
    """One pydantic model per plugin that has options, by plugin name; defaults where the manifest says nothing."""


State = Mapping[str, "torch.Tensor"]
"""What a sampler leaves behind and a later segment may condition on. Wan's is {"latents": ...}; a backend with a KV
cache or history latents names its own tensors."""


@dataclass(frozen=True)
class Carry:
    """What a segment left for the next one: its state and its exact last frames (uint8 [n, H, W, 3])."""

    segment: str
    state: State
    tail: torch.Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the sampler gets beside noise and text. `y` is [1, 20, T, h, w]: 4 mask channels (1 = given), 16 image
    latents. `image_embeds` is [1, 257, D], what the image encoder of Wan 2.1 makes of a picture; None on Wan 2.2."""

    y: torch.Tensor
    image_embeds: torch.Tensor | None = None


class Progress(Protocol):
    """Called after every denoising step, steps counted from 1. Raises Cancelled where work is to stop."""

    def __call__(self, step: int, steps: int) -> None:
        """`step` of `steps` is done."""


@dataclass(frozen=True)
class Clip:
    """An encoded segment: `path` holds its `frames` shown frames, beginning with a key frame."""

    path: Path
    frames: int


@dataclass(frozen=True)
class Artifact:
    """A finished video file."""

    path: Path
    frames: int
    fps: float
    codec: str


@dataclass(frozen=True)
class Finding:
    """One line of `svid doctor`."""

    level: Literal["ok", "warning", "error"]
    message: str
    hint: str = ""
