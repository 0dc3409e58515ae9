"""What the experts are conditioned on: the mask, the image latents, the paddings. Pure functions on tensors."""

from __future__ import annotations

import torch

from svid.errors import Problem, Refused


def first_frame_mask(latents: int, height: int, width: int) -> torch.Tensor:
    """The mask of every SVI variant and of Wan I2V with one image: [1, 4, T, h, w] fp32, 1 in latent 0 and 0 after it.

    Also where five motion frames or a motion latent are given: the authors mark the first latent only (V1
    svi_video.py:319-326, V22 wan_video_svi_pro.py:525-529).
    """
    mask = torch.zeros(1, 4, latents, height, width)
    mask[:, :, 0] = 1
    return mask


def to_pixels(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [n, H, W, 3] to [1, 3, n, H, W] fp32 in [-1, 1]: x * 2/255 - 1."""
    return (frames.to(torch.float32) * (2.0 / 255.0) - 1.0).permute(3, 0, 1, 2)[None].contiguous()


def grey_padded(frames: torch.Tensor, length: int) -> torch.Tensor:
    """uint8 frames [n, H, W, 3], then mid grey (0 in [-1, 1]) up to `length` frames: [1, 3, length, H, W] fp32.

    Source: WAN22 wan/image2video.py:319, V1 svi_video.py:336-338.
    """
    given = to_pixels(_fitting(frames, length))
    padded = given.new_zeros(1, 3, length, *given.shape[3:])
    padded[:, :, : given.shape[2]] = given
    return padded


def reference_padded(frames: torch.Tensor, reference: torch.Tensor, length: int) -> torch.Tensor:
    """uint8 frames [n, H, W, 3], then copies of `reference` [H, W, 3] up to `length`: [1, 3, length, H, W] fp32.

    Source: V1 svi_video.py:336-347 with ref_pad_num -1, V22 wan_video_svi.py:454-480.
    """
    copies = reference[None].expand(length - _fitting(frames, length).shape[0], *reference.shape)
    return to_pixels(torch.cat([frames, copies]))


def pro_latents(anchor: torch.Tensor, motion: torch.Tensor | None, latents: int) -> torch.Tensor:
    """The image latents of SVI 2.0 Pro, [1, 16, T, h, w] fp32, all in normalized space.

    The anchor's latent [1, 16, 1, h, w], the last m latents of the previous segment [1, 16, m, h, w] (none for a first
    segment), then zeros. Zero after normalization, which is neither encoded grey nor a raw zero (V22
    wan_video_svi_pro.py:505-522).
    """
    given = anchor if motion is None else torch.cat([anchor, motion.to(anchor)], dim=2)
    if given.shape[2] > latents:
        raise _too_many("motion_latents", f"at most {latents - 1} motion latents", given.shape[2] - 1)
    padded = given.new_zeros(1, given.shape[1], latents, *given.shape[3:])
    padded[:, :, : given.shape[2]] = given
    return padded


def masked(latents: torch.Tensor) -> torch.Tensor:
    """`latents` [1, 16, T, h, w] behind the first-frame mask: y, [1, 20, T, h, w]."""
    mask = first_frame_mask(latents.shape[2], *latents.shape[3:])
    return torch.cat([mask.to(latents), latents], dim=1)


def _fitting(frames: torch.Tensor, length: int) -> torch.Tensor:
    if frames.shape[0] > length:
        raise _too_many("motion_frames", f"at most {length} frames", frames.shape[0])
    return frames


def _too_many(where: str, expected: str, found: int) -> Refused:
    return Refused(Problem("the segment", where, f"expected {expected}, found {found}", "make the segment longer"))
