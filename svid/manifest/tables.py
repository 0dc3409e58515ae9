"""The tables of a manifest, and the types of their values. A value that is None was left out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from svid.layout import TAIL_FRAMES, EndMask, Layout, Mask, Pad, Seam
from svid.manifest.across import is_control

MAX_SEED = 2**63 - 1
MAX_SEGMENTS = 100_000
MAX_FRAMES = 1001
"""Of one segment."""
MAX_PROMPT = 20_000
"""In characters."""


def _one_line(text: str) -> str:
    if not text.strip() or any(is_control(character) for character in text):
        raise ValueError("expected one line of text without control characters")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected text that says something")
    return text


def _for_both(value: Any) -> Any:
    return {"high": value, "low": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Place = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_one_line)]
Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), AfterValidator(_not_blank)]
Sigma = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Number = Annotated[int, Field(ge=1, le=MAX_SEGMENTS)]
Step = Annotated[int, Field(ge=1, le=1000)]
Side = Annotated[int, Field(ge=16, le=8192, multiple_of=16)]


def _said(key: str) -> str:
    return Layout.model_fields[key].description or ""


class Table(BaseModel):
    """A table of a manifest: nothing unknown, nothing converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Guidance(Table):
    """The guidance scale of each expert."""

    high: float = Field(ge=0, le=100, description="guidance scale of the high-noise expert; at 1 it runs once per step")
    low: float = Field(ge=0, le=100, description="guidance scale of the low-noise expert; at 1 it runs once per step")


ForBoth = Annotated[Guidance, BeforeValidator(_for_both, json_schema_input_type=float | Guidance)]
"""One number, or one per expert."""


class Sample(Table):
    """How each segment is denoised."""

    sampler: Name | None = Field(None, description="name of the sampler")
    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps, over both experts")
    shift: float | None = Field(None, ge=0.01, le=100, description="shift of the sigma schedule")
    guidance: ForBoth | None = Field(None, description="guidance scale: one number for both experts, or { high, low }")
    boundary: float | None = Field(None, ge=0, le=1, description="sigma below which the low-noise expert takes over")
    sigmas: Annotated[tuple[Sigma, ...], Field(strict=False, min_length=1, max_length=1000)] | None = Field(
        None, description="the exact sigmas, falling; one step each, no shift is applied; instead of `steps`"
    )


class LoraUse(Table):
    """A LoRA on every segment."""

    name: Name = Field(description="a [loras.*] entry of svid.toml")
    high: Strength = Field(1.0, description="strength on the high-noise expert")
    low: Strength = Field(1.0, description="strength on the low-noise expert")
    segments: Annotated[tuple[Number, ...], Field(strict=False, min_length=1, max_length=MAX_SEGMENTS)] | None = Field(
        None, description="only on these of this manifest's segments, counted from 1, and in the place of what holds"
    )
    steps: Annotated[tuple[Step, Step], Field(strict=False)] | None = Field(
        None, description="only from the first to the last of these denoising steps, counted from 1 over both experts"
    )


class Conditioning(Table):
    """How the conditioning is laid out; whatever is left out comes from the recipe. See docs/conditioning.md."""

    motion_frames: int | None = Field(None, ge=1, le=TAIL_FRAMES, description=_said("motion_frames"))
    motion_latents: int | None = Field(None, ge=0, le=MAX_FRAMES // 4, description=_said("motion_latents"))
    pad: Pad | None = Field(None, description=_said("pad"))
    pad_copies: int | None = Field(None, ge=1, le=MAX_FRAMES, description=_said("pad_copies"))
    mask: Mask | None = Field(None, description=_said("mask"))
    repeat_first: bool | None = Field(None, description=_said("repeat_first"))
    anchor_strength: Strength | None = Field(None, description=_said("anchor_strength"))
    reference_strength: Strength | None = Field(None, description=_said("reference_strength"))
    end_mask: EndMask | None = Field(None, description=_said("end_mask"))
    motion_amplitude: float | None = Field(None, ge=1, le=10, description=_said("motion_amplitude"))
    amplitude_from: int | None = Field(None, ge=1, le=MAX_FRAMES // 4, description=_said("amplitude_from"))
    seam: Seam | None = Field(None, description=_said("seam"))


class End(Table):
    """A picture that a segment ends with."""

    image: Place = Field(description="the picture, relative to the manifest")
    segment: Number | None = Field(None, description="which of this manifest's segments; the last one unless given")


class Cut(Table):
    """A hard cut: another prompt and a LoRA on the high-noise expert, for one segment."""

    segment: Number = Field(description="which of this manifest's segments, counted from 1")
    prompt: Prompt = Field(description="the prompt of that segment; it should say that the camera cuts, and to what")
    anchor: Place | None = Field(None, description="picture that holds the video after the cut")
    end_image: Place | None = Field(None, description="picture that the segment with the cut ends with")
    lora: Name = Field("hard-cut", description="the LoRA that makes the cut")
    strength: Strength = Field(1.0, description="its strength on the high-noise expert")


class Encode(Table):
    """The video file."""

    codec: Name | None = Field(None, description="name of the codec")
    quality: float | None = Field(
        None, ge=0, le=100, description="the codec's constant-quality number; lower is better"
    )


class Decode(Table):
    """From latents to frames."""

    stream: bool | None = Field(
        None, description="decode the chain as one stream, so that no segment begins with a first frame of its own"
    )
