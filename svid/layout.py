"""How the conditioning of a segment is laid out: what is given, what follows it, what is marked, and how strongly."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Pad = Literal["grey", "black", "reference", "zero_latent"]
Mask = Literal["first-frame", "given-frames", "all-given"]
EndMask = Literal["last-frame", "last-latent"]
Seam = Literal["head", "tail", "blend"]

TAIL_FRAMES = 9
"""Exact frames kept of every segment: as many as may be given to the next one, or blended with its first ones. SVI's
variants give up to five; nine are the overlap of two motion latents."""


def clip_length(frames: int) -> int:
    """`frames` as it is. Raises ValueError for a number that Wan's VAE has no latents for: 4m + 1 have m + 1."""
    if frames % 4 != 1:
        below = max(5, (frames - 1) // 4 * 4 + 1)
        raise ValueError(f"expected 4m + 1 frames, such as {below} or {below + 4}")
    return frames


class Layout(BaseModel):
    """The layout of y, the 20 channels beside the noise. A recipe has one, `[conditioning]` of a manifest changes it.

    "Given" are the motion frames or latents (a first segment: the start image) and, with latents, the anchor before
    them. Strengths multiply latents in the VAE's normalized space, where raw ones would shift colours (SVI spec
    section 7).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    motion_frames: int = Field(0, ge=0, le=TAIL_FRAMES, description="last frames of the segment before that are given")
    motion_latents: int = Field(0, ge=0, description="last latents of the segment before that are given")
    pad: Pad = Field("grey", description="what follows what is given, up to the segment's length")
    pad_copies: int | None = Field(None, ge=1, description="copies of the reference in the padding, grey after them")
    mask: Mask = Field("first-frame", description="what is marked as given")
    repeat_first: bool = Field(False, description="whether a first segment is given its image once per motion frame")
    anchor_strength: float = Field(1.0, description="multiplies the anchor's latent")
    reference_strength: float = Field(1.0, description="multiplies the latents of the padding")
    end_mask: EndMask = Field("last-frame", description="what of an end image is marked as given")
    motion_amplitude: float = Field(1.0, ge=1, description="multiplies what latents differ from the first by; 1 is off")
    amplitude_from: int = Field(1, ge=1, description="first latent that the motion amplitude changes, counted from 0")
    seam: Seam = Field("head", description="which side of a seam leaves out the repeated frames, or a blend")

    @property
    def overlap(self) -> int:
        """Frames at the head of a later segment that repeat the previous one: 4m + 1 for m motion latents, because a
        latent covers four frames and the first frame of a clip has one of its own (SVI issue 75), else the motion
        frames."""
        return 4 * self.motion_latents + 1 if self.motion_latents else self.motion_frames


class Seams(BaseModel):
    """What of a seam is shown, in frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    overlap: int = 0
    """Not shown at the head of the later segment."""
    parent_trim: int = 0
    """Not shown at the end of the earlier segment."""
    blend: int = 0
    """Mixed at the head of the later segment."""


def seams(layout: Layout, *, first: bool, cut: bool) -> Seams:
    """What is left out where a segment follows another. A cut that comes early in a segment would show through a blend,
    so such a segment gives up its own first frames instead (SVI spec section 8)."""
    count = 0 if first else layout.overlap
    if layout.seam == "tail":
        return Seams(parent_trim=count)
    if layout.seam == "blend" and not cut:
        return Seams(parent_trim=count, blend=count)
    return Seams(overlap=count)
