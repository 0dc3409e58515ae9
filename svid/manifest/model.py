"""What a manifest may say. Whatever it leaves out comes from the video that it extends, the recipe, or svid.toml.

Rules that tie fields together are in `across`, so that they are reported beside the mistakes in single fields.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from svid.layout import clip_length
from svid.manifest.across import across
from svid.manifest.tables import (
    MAX_FRAMES,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SEGMENTS,
    Conditioning,
    Cut,
    Decode,
    Encode,
    End,
    LoraUse,
    Name,
    Place,
    Prompt,
    Sample,
    Side,
    Table,
)


def _video_at(text: str) -> str:
    video, _, segment = text.rpartition("@")
    if not video or not (segment.isascii() and segment.isdigit() and 1 <= int(segment[:9]) <= MAX_SEGMENTS):
        raise ValueError("expected VIDEO@SEGMENT with segments counted from 1, such as 'harbour@3'")
    return text


class Manifest(Table):
    """What a job is asked to do: a new video (`image` or `clip`), more of one (`extend`), another ending (`branch`),
    another take of a segment (`redo`), the same once more as a proof (`reproduce`)."""

    name: Name | None = Field(
        None, description="name of the new video, for people; the file's unless given, or, for a branch, its video's"
    )
    recipe: Name | None = Field(None, description="a variant with its numbers, as `svid recipes` lists them")
    model: Name | None = Field(None, description="a [models.*] entry of svid.toml")
    image: Place | None = Field(None, description="start picture of a new video, relative to the manifest")
    clip: Place | None = Field(None, description="clip that a new video goes on from, relative to the manifest")
    anchor: Place | None = Field(None, description="reference picture; the start picture unless given")
    anchors: Annotated[tuple[Place, ...], Field(strict=False, min_length=1, max_length=MAX_SEGMENTS)] | None = Field(
        None, description="reference pictures, one per segment; the last one repeats"
    )
    extend: Name | None = Field(
        None, description="video to go on with: its id, a unique prefix of it, its name, or id@k"
    )
    branch: Annotated[Name, AfterValidator(_video_at)] | None = Field(
        None, description="VIDEO@SEGMENT: a new video that shares everything up to this segment, counted from 1"
    )
    redo: Name | None = Field(
        None, description="VIDEO or VIDEO@SEGMENT: another take of its last segment, or of this one with ripple"
    )
    ripple: bool = Field(False, description="render again what follows the redone segment, each as it was asked for")
    reproduce: Name | None = Field(
        None, description="VIDEO or VIDEO@SEGMENT: render it again up to there, and fail where other segments come out"
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
    max_width: Side | None = Field(
        None, description="take the size of the start picture, scaled down to this width; instead of width and height"
    )
    frames: Annotated[int, Field(ge=5, le=MAX_FRAMES), AfterValidator(clip_length)] | None = Field(
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
    ends: Annotated[tuple[End, ...], Field(strict=False, max_length=MAX_SEGMENTS)] = Field(
        (), description="pictures that segments end with"
    )
    conditioning: Conditioning = Field(Conditioning(), description="how the conditioning is laid out")
    decode: Decode = Field(Decode(), description="from latents to frames")
    encode: Encode = Field(Encode(), description="the video file")
    options: dict[str, dict[str, Any]] = Field({}, description="a table per plugin that has options")
    drop_options: Annotated[tuple[Name, ...], Field(strict=False, max_length=64)] = Field(
        (), description="plugins whose options the video that is gone on with is not to hand on"
    )

    @property
    def base(self) -> tuple[str, str] | None:
        """The key that names the video that the job stands on, and what it says; None for a new video."""
        for key in ("extend", "branch", "redo", "reproduce"):
            written = getattr(self, key)
            if written is not None:
                return key, written
        return None

    @model_validator(mode="after")
    def _ties(self) -> Manifest:
        # `read.validate` reports these from the data itself, so that they show beside mistakes in single fields.
        faults = list(across(self.model_dump(exclude_unset=True, exclude_none=True)))
        if faults:
            text = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
            raise PydanticCustomError("across", "{text}", {"text": text})
        return self
