"""Mask, pixels, paddings, strengths: the tables of the SVI spec, sections 1.2, 1.3, 7, 10 and 13."""

from __future__ import annotations

import pytest
import torch

from svid.errors import Refused
from svid.layout import Layout
from svid.wan.conditioning import (
    amplified,
    behind_mask,
    fitting,
    frames_of_latents,
    given_mask,
    marked_frames,
    padding,
    strengthened,
    to_pixels,
    zero_padded,
)


@pytest.mark.parametrize(("latents", "height", "width"), [(21, 60, 104), (1, 2, 4), (5, 8, 8)])
def test_mask_is_one_on_the_first_latent_only(latents, height, width):
    length = 4 * latents - 3
    mask = given_mask(marked_frames(Layout(), 5, length, end=False), length, height, width)
    assert mask.shape == (1, 4, latents, height, width)
    assert mask.sum() == 4 * height * width
    assert mask[:, :, 0].eq(1).all()


@pytest.mark.parametrize(
    ("mask", "given", "marks"),
    [
        ("first-frame", 5, [4, 0, 0, 0, 0]),
        ("given-frames", 5, [4, 4, 0, 0, 0]),
        ("given-frames", 3, [4, 2, 0, 0, 0]),  # frames 1 and 2 are two of latent 1's four sub-channels
        ("all-given", 3, [4, 0, 0, 0, 0]),  # (n - 1) // 4 + 1 latents, and 3 frames are not two of them
        ("all-given", 5, [4, 4, 0, 0, 0]),
        ("all-given", 9, [4, 4, 4, 0, 0]),
    ],
)
def test_the_three_mask_rules(mask, given, marks):
    """Marks per latent, of four."""
    found = given_mask(marked_frames(Layout(mask=mask), given, 17, end=False), 17, 1, 1)
    assert found.sum(dim=(0, 1, 3, 4)).tolist() == marks


def test_the_two_published_masks_of_an_end_image():
    one = given_mask(marked_frames(Layout(), 1, 17, end=True), 17, 1, 1)[0, :, :, 0, 0]
    assert one[:, -1].tolist() == [0, 0, 0, 1]
    whole = given_mask(marked_frames(Layout(end_mask="last-latent"), 1, 17, end=True), 17, 1, 1)[0, :, :, 0, 0]
    assert whole[:, -1].tolist() == [1, 1, 1, 1]
    for mask in (one, whole):
        assert mask[:, 0].tolist() == [1, 1, 1, 1]
        assert mask[:, 1:-1].eq(0).all()


def test_frames_of_latents():
    assert frames_of_latents([0, 2]) == [0, 5, 6, 7, 8]


def test_pixels_are_scaled_exactly():
    frames = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 3, 1, 16, 16)
    assert pixels.min() == -1
    assert pixels.max() == pytest.approx(1, abs=1e-6)


LIKE = torch.zeros(1, 3, 2, 8, 8)
REFERENCE = torch.full((8, 8, 3), 255, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("layout", "values"),
    [
        (Layout(pad="grey"), [0, 0, 0, 0]),
        (Layout(pad="black"), [-1, -1, -1, -1]),
        (Layout(pad="reference"), [1, 1, 1, 1]),
        (Layout(pad="reference", pad_copies=3), [1, 1, 1, 0]),
        (Layout(pad="reference", pad_copies=9), [1, 1, 1, 1]),
    ],
)
def test_paddings(layout, values):
    padded = padding(layout, 4, REFERENCE, LIKE)
    assert padded.shape == (1, 3, 4, 8, 8)
    assert padded.amax(dim=(0, 1, 3, 4)).tolist() == pytest.approx(values, abs=1e-6)
    assert padded.amin(dim=(0, 1, 3, 4)).tolist() == pytest.approx(values, abs=1e-6)


def test_zero_padding_is_zero_in_normalized_space():
    padded = zero_padded(torch.full((1, 16, 2, 2, 2), 3.0), 6)
    assert padded[0, 0, :, 0, 0].tolist() == [3, 3, 0, 0, 0, 0]


def test_strengths_multiply_a_part_and_leave_what_they_were_given():
    z = torch.ones(1, 16, 5, 2, 2)
    assert strengthened(z, 2, 0.5)[0, 0, :, 0, 0].tolist() == [1, 1, 0.5, 0.5, 0.5]
    assert strengthened(z, 0, 2.0, 1)[0, 0, :, 0, 0].tolist() == [2, 1, 1, 1, 1]
    assert z.eq(1).all()


def test_motion_amplitude_keeps_the_mean_and_limits_what_grows():
    z = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    more = amplified(z, 1.5, 1, keep_last=False)
    apart, grown = z[:, :, 1:] - z[:, :, :1], more[:, :, 1:] - z[:, :, :1]
    assert torch.equal(more[:, :, :1], z[:, :, :1])
    assert more.abs().max() <= 6
    assert torch.allclose(apart.mean(dim=(1, 3, 4)), grown.mean(dim=(1, 3, 4)), atol=1e-5)
    assert torch.allclose(amplified(z, 1.0, 1, keep_last=False), z, atol=1e-6)
    kept = amplified(z, 2.0, 3, keep_last=True)
    assert torch.equal(kept[:, :, :3], z[:, :, :3])
    assert torch.equal(kept[:, :, -1], z[:, :, -1])
    assert not torch.equal(kept[:, :, 3], z[:, :, 3])


def test_y_is_mask_then_latents():
    y = behind_mask(torch.full((1, 16, 5, 2, 2), 7.0), [0], 17)
    assert y.shape == (1, 20, 5, 2, 2)
    assert y[:, :4].sum() == 4 * 4
    assert y[:, 4:].eq(7).all()


def test_a_segment_that_is_too_short_is_refused():
    fitting("motion_latents", 1, 1)
    with pytest.raises(Refused, match=r"motion_latents.*: expected at most 1, found 2 \(make the segment longer"):
        fitting("motion_latents", 1, 2)
