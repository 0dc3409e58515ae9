"""What the experts are conditioned on: the mask, the image latents, the paddings. Pure functions on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from svid.errors import Problem, Refused
from svid.layout import Layout


def given_mask(frames: Sequence[int], length: int, height: int, width: int) -> torch.Tensor:
    """Wan's mask of a clip of `length` frames in which `frames` (counted from 0) are given: [1, 4, T, h, w] fp32.

    Frame 0 stands for all four sub-channels of latent 0; frame 4(t - 1) + 1 + c for sub-channel c of latent t (V1
    svi_video.py:319-326, WAN22 wan/image2video.py:289-296).
    """
    marked = torch.zeros(length)
    marked[list(frames)] = 1
    marks = torch.cat([marked[:1].repeat(4), marked[1:]]).view(-1, 4).T
    return marks[None, :, :, None, None].expand(1, *marks.shape, height, width).contiguous()


def frames_of_latents(latents: Sequence[int]) -> list[int]:
    """The frames that latents stand for: 0 for latent 0, 4t - 3 to 4t for latent t."""
    return [frame for t in latents for frame in ([0] if t == 0 else range(4 * t - 3, 4 * t + 1))]


def marked_frames(layout: Layout, given: int, length: int, *, end: bool) -> list[int]:
    """Which frames of a clip of `length` are marked as given, where the first `given` are and, with `end`, the last.

    `first-frame`: the first one only, as every SVI variant was trained, also where five motion frames or a motion
    latent are given (V1 svi_video.py:319-326, V22 wan_video_svi_pro.py:525-529). `given-frames`: every given frame (V1
    with `ref_pad_cfg`). `all-given`: the first (n - 1) // 4 + 1 latents, whole (ComfyUI comfy_extras/nodes_wan.py:44).
    Of an end, `last-frame` marks one frame, which is one of four sub-channels (V22 wan_video_svi.py:461-464, Wan2GP
    any2video.py:747-752), `last-latent` the whole latent (ComfyUI-Wan-SVI2Pro-FLF nodes.py:196-230).
    """
    rules = {
        "first-frame": [0],
        "given-frames": list(range(given)),
        "all-given": frames_of_latents(range((given - 1) // 4 + 1)),
    }
    ends = {"last-frame": [length - 1], "last-latent": frames_of_latents([(length - 1) // 4])}
    return rules[layout.mask] + (ends[layout.end_mask] if end else [])


def to_pixels(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [n, H, W, 3] to [1, 3, n, H, W] fp32 in [-1, 1]: x * 2/255 - 1."""
    return (frames.to(torch.float32) * (2.0 / 255.0) - 1.0).permute(3, 0, 1, 2)[None].contiguous()


def padding(layout: Layout, count: int, reference: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """`count` frames of what follows the given ones: [1, 3, count, H, W] fp32 in [-1, 1], sized as the pixels `like`.

    Grey is 0, which is encoded (WAN22 wan/image2video.py:319, V1 svi_video.py:336-338); black is -1 (Wan2GP
    any2video.py:668). The reference, uint8 [H, W, 3], fills everything, or its `pad_copies` first frames with grey
    after them (V1 svi_video.py:336-347, `ref_pad_num`).
    """
    frames = like.new_full((1, 3, count, *like.shape[3:]), -1.0 if layout.pad == "black" else 0.0)
    if layout.pad == "reference" and reference is not None:
        copies = count if layout.pad_copies is None else min(layout.pad_copies, count)
        frames[:, :, :copies] = to_pixels(reference[None])
    return frames


def zero_padded(given: torch.Tensor, latents: int) -> torch.Tensor:
    """Given latents [1, 16, n, h, w], then zeros up to `latents`, in normalized space.

    Zero after normalization, which is neither encoded grey nor a raw zero (V22 wan_video_svi_pro.py:505-522).
    """
    padded = given.new_zeros(1, given.shape[1], latents, *given.shape[3:])
    padded[:, :, : given.shape[2]] = given
    return padded


def strengthened(z: torch.Tensor, first: int, strength: float, end: int | None = None) -> torch.Tensor:
    """Latents `first` to `end` of z [1, 16, T, h, w] multiplied by `strength`, the others as they are.

    Of the reference: everything after the (overlap - 1) // 4 + 1 latents of the motion frames (drozbay's "SVI ref
    strength"). That graph multiplies raw latents, which shifts colours by (k - 1) mean / std; z is normalized.
    """
    scaled = z.clone()
    scaled[:, :, first:end] *= strength
    return scaled


def amplified(z: torch.Tensor, amplitude: float, first: int, *, keep_last: bool) -> torch.Tensor:
    """Latents z [1, 16, T, h, w] with what they differ from latent 0 by multiplied by `amplitude`, as of `first`.

    b = z[0]; d = z[t] - b; the mean of d over channels and pixels stays, the rest grows; limited to -6 ... 6. With
    `keep_last` the last latent, which holds an end image, stays. Source: Wan2GP any2video.py:761-772, where `first` is
    a number of frames used as an index of latents.
    """
    base, later = z[:, :, :1], z[:, :, first:]
    apart = later - base
    mean = apart.mean(dim=(1, 3, 4), keepdim=True)
    changed = z.clone()
    changed[:, :, first:] = (base + (apart - mean) * amplitude + mean).clamp(-6, 6)
    if keep_last:
        changed[:, :, -1:] = z[:, :, -1:]
    return changed


def behind_mask(z: torch.Tensor, frames: Sequence[int], length: int) -> torch.Tensor:
    """y, [1, 20, T, h, w]: latents z [1, 16, T, h, w] behind the mask in which these frames of `length` are given."""
    return torch.cat([given_mask(frames, length, *z.shape[3:]).to(z), z], dim=1)


def fitting(where: str, most: int, found: int) -> None:
    """Refuse a segment that is too short for what it is given. Raises Refused."""
    if found > most:
        message = f"expected at most {most}, found {found}"
        raise Refused(Problem("the segment", where, message, "make the segment longer"))
