import math

import pytest
import torch
from errors import CLEARER, CONTRAST, FAINT, MOST, even, mass, tint, weighted


def test_weighted_is_the_mean_where_there_is_no_subject():
    errors = torch.rand(2, 16, 3, 2, 2)
    assert torch.allclose(weighted(errors, torch.zeros(2, 1, 3, 2, 2)), errors.mean((1, 2, 3, 4)))


def test_a_background_has_the_right_colour_whatever_its_texture_and_subjects_are():
    texture = torch.randn(2, 16, 3, 8, 8)
    texture -= texture.mean((3, 4), keepdim=True)
    where, wrong = torch.zeros(2, 1, 3, 8, 8), FAINT * math.log1p(0.01 / FAINT)
    assert tint(texture, where).max() < 1e-12
    assert tint(texture + 0.1, where).tolist() == pytest.approx([wrong] * 2)
    where[:, :, :, 2:5, 2:5] = 1
    subject = torch.where(where > 0, 100.0, 0.1).expand(2, 16, 3, 8, 8)
    assert tint(subject, where).tolist() == pytest.approx([wrong] * 2)
    assert tint(subject, where * 3.5).tolist() == pytest.approx([wrong] * 2)


def test_a_subject_as_a_whole_weighs_by_what_is_wrong_with_all_of_it():
    where = torch.zeros(2, 1, 5, 8, 8)
    where[:, :, :, 2:4, 2:4] = 1.0
    larger, moved = torch.zeros(2, 16, 5, 8, 8)
    larger[..., 1:5, 1:5] = 0.5
    moved[..., 1:5, 1:3], moved[..., 1:5, 3:5] = 0.5, -0.5
    found = mass(torch.stack([larger, moved]), where)
    assert found.tolist() == pytest.approx([0.25, 0.0])


def test_what_is_small_or_hardly_seen_in_latents_weighs_more():
    large, small = torch.zeros(2, 1, 5, 8, 8)
    large[..., :4, :4], small[..., :2, :4] = 1.0, 1.0
    where = torch.stack([large, large, small, small])
    z = torch.randn(4, 16, 1, 1, 1) + where * torch.tensor([1.3, 1.0, 1.3, 0.1])[:, None, None, None, None]
    clear, faint, little, hidden = (even(where, z) / where.clamp(min=1e-9)).amax((1, 2, 3, 4)).tolist()
    assert clear == pytest.approx(CONTRAST / 1.3**2, rel=1e-3)
    assert faint == pytest.approx(CONTRAST, rel=1e-3)
    assert little == pytest.approx(clear * 4 / 3, rel=1e-3)
    assert hidden == pytest.approx(CLEARER * 4 / 3, rel=1e-3)
    assert even(where / 100, z).max() <= MOST * CLEARER / 100
