"""What the variants that hand over frames share: motion frames, then padding, in one VAE encode."""

from __future__ import annotations

import torch

from svid.api import Carry, Conditioning, Picture, Segment
from svid.errors import Problem, Refused
from svid.media.images import open_picture, resized
from svid.wan.conditioning import grey_padded, masked, reference_padded
from svid.wan.model import WanModel
from svid.wan.vae import encode_normalized


def pixel_conditioning(model: WanModel, segment: Segment, carry: Carry | None) -> Conditioning:
    """The conditioning of plain I2V and of SVI 1.0 and 2.0.

    y: mask on latent 0; the motion frames, then grey or copies of the anchor up to the segment's length. On Wan 2.1
    also the embedding of the oldest motion frame, neither of the newest nor of the anchor (V1 svi_video.py:316-317).

    Raises:
        Refused: no start image, a shorter tail than the motion frames, a padding that is none of pixels, an anchor that
            is not a picture yet.
        MediaError: a picture that can't be read.
    """
    frames = start_frames(segment, carry)
    if segment.pad == "grey":
        video = grey_padded(frames, segment.frames)
    elif segment.pad == "reference":
        video = reference_padded(frames, picture_frame(anchor_picture(segment), segment), segment.frames)
    else:
        raise Refused(Problem("the segment", "pad", f"expected grey or reference, found {segment.pad}"))
    y = masked(encode_normalized(model.vae, video)).cpu()
    return Conditioning(y, None if model.image is None else model.image.embed(frames[0]))


def start_frames(segment: Segment, carry: Carry | None) -> torch.Tensor:
    """uint8 [n, H, W, 3]: the image of a first segment, else the last `motion_frames` (at least one) of the tail."""
    if carry is not None:
        wanted = max(segment.motion_frames, 1)
        if carry.tail.shape[0] < wanted:
            message = f"expected {wanted} frames of the segment before, found {carry.tail.shape[0]}"
            raise Refused(Problem("the segment", "motion_frames", message))
        return carry.tail[-wanted:]
    if segment.image is None:
        raise Refused(Problem("the manifest", "image", "expected a start image for the first segment, found none"))
    return picture_frame(segment.image, segment)[None]


def anchor_picture(segment: Segment) -> Picture:
    """The anchor, which must be a picture by now. Raises Refused."""
    if not isinstance(segment.anchor, Picture):
        message = f"expected a picture, found {segment.anchor}"
        raise Refused(Problem("the segment", "anchor", message, "the core resolves a tail frame to a picture"))
    return segment.anchor


def picture_frame(picture: Picture, segment: Segment) -> torch.Tensor:
    """A picture stretched to the segment's size, uint8 [H, W, 3]. Raises MediaError."""
    return resized(open_picture(picture.path), segment.width, segment.height)
