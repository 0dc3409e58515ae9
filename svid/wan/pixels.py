"""What the variants that hand over frames share: motion frames, then padding, in one VAE encode."""

from __future__ import annotations

import torch

from svid.api import Carry, Conditioning, Picture, Segment
from svid.errors import Problem, Refused
from svid.layout import Layout
from svid.media.images import open_picture, resized
from svid.wan.conditioning import (
    amplified,
    behind_mask,
    fitting,
    marked_frames,
    padding,
    strengthened,
    to_pixels,
    zero_padded,
)
from svid.wan.model import WanModel
from svid.wan.vae import encode_normalized


def pixel_conditioning(model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning:
    """The conditioning of plain I2V and of SVI 1.0 and 2.0.

    y: the mask; the motion frames, then the layout's padding up to the segment's length, in one encode. With an end
    image grey stands between, and the anchor is left out, as in the authors' code and in Wan's own first-last-frame
    conditioning (V22 wan_video_svi.py:461-464). On Wan 2.1 also the embedding of the oldest motion frame, neither of
    the newest nor of the anchor (V1 svi_video.py:316-317).

    Raises:
        Refused: no start image, a shorter tail than the motion frames, an anchor that is not a picture yet, a segment
            that is too short.
        MediaError: a picture that can't be read.
    """
    layout, frames = segment.layout, start_frames(segment, carry)
    given, end = frames.shape[0], segment.end_image
    fitting("motion_frames", segment.frames - (end is not None), given)
    z = _latents(model, segment, frames).cpu()
    after = (given - 1) // 4 + 1
    if layout.reference_strength != 1 and end is None:
        z = strengthened(z, after, layout.reference_strength)
    if layout.motion_amplitude > 1:
        z = amplified(z, layout.motion_amplitude, layout.amplitude_from, keep_last=end is not None)
    y = behind_mask(z, marked_frames(layout, given, segment.frames, end=end is not None), segment.frames)
    return Conditioning(y, None if model.image is None else model.image.embed(frames[0]))


def _latents(model: WanModel, segment: Segment, frames: torch.Tensor) -> torch.Tensor:
    """[1, 16, T, h, w], normalized: the given frames, padded to the segment's length."""
    layout, pixels, rest = segment.layout, to_pixels(frames), segment.frames - frames.shape[0]
    if segment.end_image is not None:
        end = to_pixels(picture_frame(segment.end_image, segment)[None])
        between = padding(Layout(pad="grey"), rest - 1, None, pixels)
        return encode_normalized(model.vae, torch.cat([pixels, between, end], dim=2))
    if layout.pad == "zero_latent":
        return zero_padded(encode_normalized(model.vae, pixels), segment.latent_shape[2])
    return encode_normalized(model.vae, torch.cat([pixels, padding_of(segment, rest, pixels)], dim=2))


def padding_of(segment: Segment, count: int, like: torch.Tensor) -> torch.Tensor:
    """`count` frames of the segment's padding, [1, 3, count, H, W] in [-1, 1]. Raises Refused and MediaError."""
    reference = picture_frame(anchor_picture(segment), segment) if segment.layout.pad == "reference" else None
    return padding(segment.layout, count, reference, like)


def start_frames(segment: Segment, carry: Carry | None) -> torch.Tensor:
    """uint8 [n, H, W, 3]: the image of a first segment, once or once per motion frame, else the last `motion_frames`
    (at least one) of the tail."""
    wanted = max(segment.layout.motion_frames, 1)
    if carry is not None:
        if carry.tail.shape[0] < wanted:
            message = f"expected {wanted} frames of the segment before, found {carry.tail.shape[0]}"
            raise Refused(Problem("the segment", "motion_frames", message))
        return carry.tail[-wanted:]
    if segment.image is None:
        raise Refused(Problem("the manifest", "image", "expected a start image for the first segment, found none"))
    image = picture_frame(segment.image, segment)[None]
    return image.repeat(wanted, 1, 1, 1) if segment.layout.repeat_first else image


def anchor_picture(segment: Segment) -> Picture:
    """The anchor, which must be a picture by now. Raises Refused."""
    if not isinstance(segment.anchor, Picture):
        message = f"expected a picture, found {segment.anchor}"
        raise Refused(Problem("the segment", "anchor", message, "the core resolves a tail frame to a picture"))
    return segment.anchor


def picture_frame(picture: Picture, segment: Segment) -> torch.Tensor:
    """A picture stretched to the segment's size, uint8 [H, W, 3]. Raises MediaError."""
    return resized(open_picture(picture.path), segment.width, segment.height)
