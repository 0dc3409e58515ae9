"""Shapes are told apart by what is seen of them: checked on the truth, on shapes that are others, and on blobs."""

from dataclasses import replace

import pytest
import torch
from draw import draw, masks
from samples import draw_sample
from score import held_out
from shapes import area, fits, shape_kept
from world import SEGMENT, SHAPES, Action, Scene, Script, Subject, timeline


def alone(shape, x=0.5, size=0.22, spin=False):
    subject = Subject(shape, "red", "", x, 0.5, 0.3, size)
    return timeline(Scene((subject,), "clay", "plain"), [(Script((Action("still", "", spin),)), SEGMENT - 1)])


def as_another(frames, shape):
    return [replace(f, subjects=tuple(replace(s, shape=shape) for s in f.subjects)) for f in frames]


def test_every_subject_that_the_truth_shows_whole_has_its_own_shape():
    found = [
        shape_kept(draw(one.frames), one.frames, index)
        for one in held_out(48, 1.0, first=77)
        for index in range(len(one.frames[0].subjects))
    ]
    told = [shape for shape in found if shape is not None]
    assert len(told) > 30
    assert all(told)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shown", SHAPES)
@pytest.mark.parametrize("size", [0.17, 0.28])
def test_a_shape_is_that_one_and_no_other(shape, shown, size):
    frames = alone(shape, size=size, spin=True)
    assert shape_kept(draw(as_another(frames, shown)), frames) is (shape == shown)


@pytest.mark.parametrize("shape", ["star", "triangle", "square"])
def test_what_has_melted_is_another_shape(shape):
    frames = alone(shape)
    blurred = torch.nn.functional.avg_pool2d(draw(frames).permute(0, 3, 1, 2), 25, 1, 12, count_include_pad=False)
    away = (blurred - blurred.amax(1, keepdim=True)).abs().sum(1)
    blob = (away > away.amax((1, 2), keepdim=True) * 0.6)[..., None]
    video = torch.where(blob, torch.tensor([0.9, 0.15, 0.17]), torch.tensor([0.7, 0.8, 0.75]))
    assert shape_kept(video, frames) is False


def test_what_is_gone_has_no_shape():
    frames = alone("circle")
    nothing = draw([replace(f, subjects=()) for f in frames])
    assert set(fits(torch.zeros(64, 64)).values()) == {0.0}
    assert shape_kept(nothing, frames) is False


def test_nothing_is_said_of_one_that_is_cut_off_or_covered():
    assert shape_kept(draw(alone("star", x=0.02)), alone("star", x=0.02)) is None
    frames = [replace(f, subjects=(replace(f.subjects[0], colour="blue"), *f.subjects)) for f in alone("star")]
    assert shape_kept(draw(frames), frames, 1) is None
    assert shape_kept(draw(frames), frames, 0) is True


@pytest.mark.parametrize("shape", SHAPES)
def test_the_area_of_a_shape_is_what_is_drawn_of_it(shape):
    (frame, *_) = alone(shape)
    assert float(masks([frame], 256, 256).mean()) == pytest.approx(area(shape) * 0.22**2, rel=0.03)


def test_a_sample_with_a_zoom_is_judged_by_what_it_shows_then():
    one = next(s for s in (draw_sample(i, 1.0, "plain") for i in range(400)) if "zooms in" in s.caption)
    kept = [shape_kept(draw(one.frames), one.frames, i) for i in range(len(one.frames[0].subjects))]
    assert False not in kept
