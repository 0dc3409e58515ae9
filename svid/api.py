"""What plugins see: the nouns of svid as frozen data. Nothing here does any work.

Shapes: latents are [1, 16, T, H/8, W/8] fp32 in the VAE's *normalized* space, T = (frames - 1) / 4 + 1; frames are
uint8 [n, H, W, 3] RGB. A segment's `index` counts from 0 along its chain; people and manifests count from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from svid.layout import Layout as Layout
from svid.layout import clip_length

if TYPE_CHECKING:
    import torch

Taken = TypeVar("Taken")

Expert = Literal["high", "low"]
EXPERTS: tuple[Expert, Expert] = ("high", "low")
Base = Literal["wan2.1-i2v", "wan2.2-i2v"]


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
    frames: Annotated[int, Field(ge=5), AfterValidator(clip_length)] = 81
    width: int = Field(832, ge=16, multiple_of=16)
    height: int = Field(480, ge=16, multiple_of=16)
    max_width: int | None = Field(None, description="take the size of the start picture, scaled down to this width")
    fps: float = Field(16.0, ge=1, le=240)
    steps: int = Field(50, ge=1)
    sampler: str = "euler"
    shift: float = Field(5.0, gt=0)
    guidance: Guidance = Guidance(high=5.0, low=5.0)
    boundary: float = Field(0.9, ge=0, le=1, description="sigma below which the low-noise expert takes over")
    base: Base = Field("wan2.2-i2v", description="which model the recipe is for")
    layout: Layout = Field(Layout(), description="how the conditioning is laid out")
    distilled: bool = Field(
        False, description="steps and guidance are a distilled LoRA's: no model's entry in svid.toml changes them"
    )
    prompt_repeat: int = Field(1, ge=1, description="segments that each prompt of a manifest is used for")
    seed_stride: int = Field(42, description="segment i of a video is seeded with seed + stride * i")
    loras: tuple[RecipeLora, ...] = Field((), description="LoRAs that the recipe needs; a plain name is at strength 1")
    negative: str = ""
    sources: Mapping[str, str] = Field(
        default_factory=dict, description="where single numbers come from, where it is not `source`; dots for tables"
    )

    @field_validator("loras", mode="before")
    @classmethod
    def _named(cls, loras: Any) -> Any:
        if not isinstance(loras, tuple | list):
            return loras
        return tuple({"name": lora} if isinstance(lora, str) else lora for lora in loras)

    def numbers(self) -> Iterator[tuple[str, Any, str]]:
        """Every number as (name, value, where it comes from), a table's with a dot: `layout.pad`."""
        for key, value in self.model_dump(
            exclude={"name", "variant", "title", "source", "sources", "distilled"}
        ).items():
            for name, one in (
                ((f"{key}.{part}", one) for part, one in value.items()) if isinstance(value, dict) else ((key, value),)
            ):
                neutral = key == "layout" and one == Layout.model_fields[name.partition(".")[2]].default
                plain = "svid's own default; [conditioning] of a manifest changes it" if neutral else self.source
                yield name, one, self.sources.get(name, "not given" if one is None else plain)

    @property
    def experts(self) -> tuple[Expert, ...]:
        """Wan 2.1 has one transformer, which takes the place of the high-noise expert, with a boundary of 0."""
        return EXPERTS if self.base == "wan2.2-i2v" else ("high",)


@dataclass(frozen=True)
class Picture:
    """An input image. `path` holds the bytes as they were given; `sha256` is their digest, `pixels` that of the
    decoded RGB values and the size, which is what decides a render."""

    path: Path
    sha256: str
    pixels: str


@dataclass(frozen=True)
class Footage:
    """A clip that was not rendered: `path` holds its bytes as they were given, `sha256` is their digest."""

    path: Path
    sha256: str
    last: int
    """How many of its last frames become latents, at the most."""
    name: str = ""
    """How the manifest that it came with calls it, for errors; empty where that is of no account."""


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
    steps: tuple[int, int] | None = None
    """The first and the last denoising step that it is on, counted from 1; None: all."""


@dataclass(frozen=True)
class Applied:
    """What a context of `svid_apply_loras` yields: a report for the lineage, and what to call before every step, where
    something changes from one step to another."""

    report: Mapping[str, Any]
    begin_step: Callable[[int], None] | None = None


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
    sampling: Sampling
    layout: Layout = field(default_factory=Layout)
    overlap: int = 0
    """Frames at the head that repeat the segment before and are not shown."""
    parent_trim: int = 0
    """Frames at the end of the segment before that are not shown, because this one repeats them."""
    blend: int = 0
    """Frames at the head that are mixed with the last ones of the segment before."""
    stream: bool = False
    """Whether it is decoded as a continuation of the segments before, and not as a clip of its own."""
    end_image: Picture | None = None
    """The picture that the segment ends with."""
    clip: Footage | None = None
    """Where the segment is not rendered but taken from a clip; its frames are all of the clip's."""
    loras: tuple[Lora, ...] = ()
    cut: Cut | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """[1, 16, T, h, w] of Wan's VAE."""
        return (1, 16, (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8)


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are: a folder in diffusers layout, the digest of every file that decides a render, and
    the precision in which its transformers compute (`float32` or `bfloat16`). `memory` is the name of the memory plan
    (`svid.memory`) that it is placed by, which changes no bit of a result; a backend may leave it aside."""

    name: str
    path: Path
    digests: Mapping[str, str]
    dtype: str
    memory: str = "resident"


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
    overlap: int = 0
    """Frames at its head that repeat the segment before it, wherever they are shown."""
    before: Callable[[], Carry | None] = lambda: None
    """What the segment before that one left, read when it is asked for."""


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
class Snapshot:
    """Where a sampler stands between two steps: all that it needs to go on as if it had never stopped, bit for bit."""

    step: int
    """The step that is done, counted from 1."""
    steps: int
    tensors: Mapping[str, torch.Tensor]
    """On any device; they are copied before `Checkpoint.offer` returns."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON data: counters, and which tensor goes where."""


class Checkpoint(Protocol):
    """Keeps the place of a segment, so that an interrupted one need not begin again. Neither method ever raises for
    what is wrong with a snapshot or with the disk: the segment is then rendered from its first step."""

    def resume(self, take: Callable[[Snapshot], Taken]) -> Taken | None:
        """What `take` makes of the snapshot of this very segment, or None: begin at step 1.

        To be called before the first step. `take` must change nothing that it can't take back before it is sure: where
        it raises, the snapshot is set aside. When this returns, the LoRAs of the step that is next are merged.
        """

    def offer(self, make: Callable[[], Snapshot]) -> None:
        """To be called when a step is done, before its `Progress`. Decides by the clock whether to write; only then
        `make` is called."""


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


FindingLevel = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of `svid doctor`."""

    level: FindingLevel
    message: str
    hint: str = ""
