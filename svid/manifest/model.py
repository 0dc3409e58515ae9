"""What a manifest may say. Whatever it leaves out comes from the video that it extends, the recipe, or svid.toml.

Rules that tie fields together are in `across`, so that they are reported beside the mistakes in single fields.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from svid.manifest.across import across, is_control

MAX_SEED = 2**63 - 1
MAX_SEGMENTS = 100_000
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


def _clip_length(frames: int) -> int:
    if frames % 4 != 1:
        below = max(5, (frames - 1) // 4 * 4 + 1)
        raise ValueError(f"expected 4m + 1 frames, such as {below} or {below + 4}")
    return frames


def _video_at(text: str) -> str:
    video, _, segment = text.rpartition("@")
    if not video or not (segment.isascii() and segment.isdigit() and 1 <= int(segment[:9]) <= MAX_SEGMENTS):
        raise ValueError("expected VIDEO@SEGMENT with segments counted from 1, such as 'harbour@3'")
    return text


def _for_both(value: Any) -> Any:
    return {"high": value, "low": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Place = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_one_line)]
Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), AfterValidator(_not_blank)]
Sigma = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Side = Annotated[int, Field(ge=16, le=8192, multiple_of=16)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Guidance(_Table):
    """The guidance scale of each expert."""

    high: float = Field(ge=0, le=100, description="guidance scale of the high-noise expert; at 1 it runs once per step")
    low: float = Field(ge=0, le=100, description="guidance scale of the low-noise expert; at 1 it runs once per step")


class Sample(_Table):
    """How each segment is denoised."""

    sampler: Name | None = Field(None, description="name of the sampler")
    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps, over both experts")
    shift: float | None = Field(None, ge=0.01, le=100, description="shift of the sigma schedule")
    guidance: Annotated[Guidance, BeforeValidator(_for_both, json_schema_input_type=float | Guidance)] | None = Field(
        None, description="guidance scale: one number for both experts, or { high, low }"
    )
    boundary: float | None = Field(None, ge=0, le=1, description="sigma below which the low-noise expert takes over")
    sigmas: Annotated[tuple[Sigma, ...], Field(strict=False, min_length=1, max_length=1000)] | None = Field(
        None, description="the exact sigmas, falling; one step each, no shift is applied; instead of `steps`"
    )


class LoraUse(_Table):
    """A LoRA on every segment."""

    name: Name = Field(description="a [loras.*] entry of svid.toml")
    high: Strength = Field(1.0, description="strength on the high-noise expert")
    low: Strength = Field(1.0, description="strength on the low-noise expert")


class Cut(_Table):
    """A hard cut: another prompt and a LoRA on the high-noise expert, for one segment."""

    segment: int = Field(ge=1, le=MAX_SEGMENTS, description="which of this manifest's segments, counted from 1")
    prompt: Prompt = Field(description="the prompt of that segment; it should say that the camera cuts, and to what")
    anchor: Place | None = Field(None, description="picture that holds the video after the cut")
    lora: Name = Field("hard-cut", description="the LoRA that makes the cut")
    strength: Strength = Field(1.0, description="its strength on the high-noise expert")


class Encode(_Table):
    """The video file."""

    codec: Name | None = Field(None, description="name of the codec")
    quality: float | None = Field(
        None, ge=0, le=100, description="the codec's constant-quality number; lower is better"
    )


class Manifest(_Table):
    """What a job is asked to do: a new video (`image`), more of one (`extend`) or another ending of one (`branch`)."""

    name: Name | None = Field(None, description="name of the video, for people")
    recipe: Name | None = Field(None, description="a variant with its numbers, as `svid recipes` lists them")
    model: Name | None = Field(None, description="a [models.*] entry of svid.toml")
    image: Place | None = Field(None, description="start picture of a new video, relative to the manifest")
    anchor: Place | None = Field(None, description="reference picture; the start picture unless given")
    extend: Name | None = Field(
        None, description="video to go on with: its id, a unique prefix of it, its name, or id@k"
    )
    branch: Annotated[Name, AfterValidator(_video_at)] | None = Field(
        None, description="VIDEO@SEGMENT: a new video that shares everything up to this segment, counted from 1"
    )
    prompts: Annotated[tuple[Prompt, ...], Field(strict=False, min_length=1, max_length=MAX_SEGMENTS)] | None = Field(
        None, description="one per segment; the last one repeats"
    )
    negative: Annotated[str, Field(max_length=MAX_PROMPT)] | None = Field(None, description="what should not be seen")
    segments: int | None = Field(
        None,
        ge=0,
        le=MAX_SEGMENTS,
        description="how many segments to render; 0 for a branch alone; one per prompt unless given",
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="each segment's own seed is derived from it")
    width: Side | None = Field(None, description="in pixels, a multiple of 16")
    height: Side | None = Field(None, description="in pixels, a multiple of 16")
    frames: Annotated[int, Field(ge=5, le=1001), AfterValidator(_clip_length)] | None = Field(
        None, description="frames per segment, 4m + 1"
    )
    fps: float | None = Field(None, ge=1, le=240, description="frames per second of the video file")
    priority: int = Field(0, ge=-9, le=9, description="higher goes first; equal ones in order of arrival")
    reuse: bool = Field(True, description="take a segment that was rendered from exactly the same ask before")
    sample: Sample = Field(Sample(), description="how segments are denoised")
    loras: Annotated[tuple[LoraUse, ...], Field(strict=False, max_length=64)] = Field(
        (), description="LoRAs on every segment, beside those of the recipe"
    )
    cuts: Annotated[tuple[Cut, ...], Field(strict=False, max_length=MAX_SEGMENTS)] = Field((), description="hard cuts")
    encode: Encode = Field(Encode(), description="the video file")
    options: dict[str, dict[str, Any]] = Field({}, description="a table per plugin that has options")

    @model_validator(mode="after")
    def _ties(self) -> Manifest:
        # `read.validate` reports these from the data itself, so that they show beside mistakes in single fields.
        faults = list(across(self.model_dump(exclude_unset=True, exclude_none=True)))
        if faults:
            text = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
            raise PydanticCustomError("across", "{text}", {"text": text})
        return self
