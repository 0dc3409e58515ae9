"""Mask, pixels, paddings: the tables of the SVI spec, sections 1.2, 1.3 and 13."""

from __future__ import annotations

import pytest
import torch

from svid.errors import Refused
from svid.wan.conditioning import first_frame_mask, grey_padded, masked, pro_latents, reference_padded, to_pixels


@pytest.mark.parametrize(("latents", "height", "width"), [(21, 60, 104), (1, 2, 4), (5, 8, 8)])
def test_mask_is_one_on_the_first_latent_only(latents, height, width):
    mask = first_frame_mask(latents, height, width)
    assert mask.shape == (1, 4, latents, height, width)
    assert mask.sum() == 4 * height * width
    assert mask[:, :, 0].eq(1).all()


def test_mask_is_that_of_the_pixel_rule():
    """One given frame, repeated four times, then viewed as groups of four (V1 svi_video.py:319-326)."""
    frames = torch.zeros(81)
    frames[0] = 1
    rows = torch.cat([frames[:1].repeat(4), frames[1:]]).view(21, 4).T
    assert torch.equal(first_frame_mask(21, 1, 1)[0, :, :, 0, 0], rows)


def test_pixels_are_scaled_exactly():
    frames = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 3, 1, 16, 16)
    assert pixels.min() == -1
    assert pixels.max() == pytest.approx(1, abs=1e-6)


def test_grey_padding_is_zero_in_pixels():
    padded = grey_padded(torch.full((2, 8, 8, 3), 255, dtype=torch.uint8), 9)
    assert padded.shape == (1, 3, 9, 8, 8)
    assert padded[:, :, 2:].eq(0).all()
    assert padded[:, :, :2].gt(0.99).all()
    with pytest.raises(Refused, match="motion_frames"):
        grey_padded(torch.zeros(9, 8, 8, 3, dtype=torch.uint8), 5)


def test_reference_padding_is_copies_of_the_reference():
    frames, reference = torch.full((2, 8, 8, 3), 255, dtype=torch.uint8), torch.zeros(8, 8, 3, dtype=torch.uint8)
    padded = reference_padded(frames, reference, 9)
    assert padded.shape == (1, 3, 9, 8, 8)
    assert padded[:, :, :2].gt(0.99).all()
    assert padded[:, :, 2:].eq(-1).all()
    assert torch.equal(reference_padded(frames, reference, 2), to_pixels(frames))
    with pytest.raises(Refused, match="motion_frames"):
        reference_padded(frames, reference, 1)


def test_pro_latents_are_anchor_motion_zeros():
    anchor, motion = torch.full((1, 16, 1, 2, 2), 3.0), torch.full((1, 16, 2, 2, 2), 5.0)
    latents = pro_latents(anchor, motion, 6)
    assert [latents[0, 0, t, 0, 0].item() for t in range(6)] == [3, 5, 5, 0, 0, 0]
    assert pro_latents(anchor, None, 6)[:, :, 1:].eq(0).all()
    y = masked(latents)
    assert y.shape == (1, 20, 6, 2, 2)
    assert y[0, :4].sum() == 4 * 4
    with pytest.raises(Refused, match="at most 1 motion latents"):
        pro_latents(anchor, motion, 2)
