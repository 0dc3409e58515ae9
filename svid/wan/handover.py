"""What a variant that hands over latents is conditioned on: the anchor, motion latents, padding."""

from __future__ import annotations

import torch

from svid.api import Carry, Conditioning, Picture, Segment
from svid.errors import Problem, Refused
from svid.wan.conditioning import (
    amplified,
    behind_mask,
    fitting,
    frames_of_latents,
    marked_frames,
    strengthened,
    to_pixels,
    zero_padded,
)
from svid.wan.model import WanModel
from svid.wan.pixels import anchor_picture, padding_of, picture_frame
from svid.wan.vae import encode_normalized


def latent_conditioning(model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning:
    """The conditioning of SVI 2.0 Pro.

    y: the mask; [the anchor's latent, the last m latents of the segment before, zeros] (V22 wan_video_svi_pro.py:505-
    531). Another padding than zeros is encoded as a clip of the segment's length, of which what follows the given
    latents is taken. An end image is encoded alone and takes the place of the last latent (Wan2GP any2video.py:729).

    Raises:
        Refused: no motion latents of the right size in `carry`, a segment that is too short.
        MediaError: a picture that can't be read.
    """
    layout, latents = segment.layout, segment.latent_shape[2]
    anchor = _alone(model, segment, anchor_picture(segment))
    motion, end = _motion_latents(segment, carry, anchor), segment.end_image
    given = torch.cat([anchor, *([] if motion is None else [motion.to(anchor)])], dim=2)
    count = given.shape[2]
    fitting("motion_latents", latents - 1 - (end is not None), count - 1)
    z = strengthened(zero_padded(given, latents), 0, layout.anchor_strength, 1)
    if layout.pad != "zero_latent":
        pixels = torch.empty(1, 3, 0, segment.height, segment.width)
        filled = encode_normalized(model.vae, padding_of(segment, segment.frames, pixels)).cpu()
        z[:, :, count:] = filled[:, :, count:] * layout.reference_strength
    if end is not None:
        z[:, :, -1:] = _alone(model, segment, end)
    if layout.motion_amplitude > 1:
        z = amplified(z, layout.motion_amplitude, layout.amplitude_from, keep_last=end is not None)
    frames = len(frames_of_latents(range(count)))
    return Conditioning(
        y=behind_mask(z, marked_frames(layout, frames, segment.frames, end=end is not None), segment.frames)
    )


def _alone(model: WanModel, segment: Segment, picture: Picture) -> torch.Tensor:
    """[1, 16, 1, h, w] fp32 on the CPU: a picture encoded as a clip of one frame, once for the whole video."""
    key = (picture.pixels, segment.width, segment.height)
    latent = model.anchors.get(key)
    if latent is None:
        latent = encode_normalized(model.vae, to_pixels(picture_frame(picture, segment)[None])).cpu()
        model.anchors.put(key, latent)
    return latent


def _motion_latents(segment: Segment, carry: Carry | None, anchor: torch.Tensor) -> torch.Tensor | None:
    """[1, 16, m, h, w] from the end of the segment before, or None for a first segment or for m = 0."""
    count = segment.layout.motion_latents
    if carry is None or not count:
        return None
    latents = carry.state.get("latents")
    if latents is None:
        message = f"expected latents of the segment before, found {sorted(carry.state) or 'nothing'}"
        raise Refused(Problem("the segment", "carry", message, "was it made with another backend?"))
    if latents.shape[2] < count or latents.shape[3:] != anchor.shape[3:]:
        expected = f"expected {count} latents or more of {list(anchor.shape[3:])}"
        message = f"{expected}, found {latents.shape[2]} of {list(latents.shape[3:])}"
        raise Refused(Problem("the segment", "carry", message, "keep the size of the video that is continued"))
    return latents[:, :, -count:]
