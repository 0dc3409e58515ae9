import random
from dataclasses import replace

import pytest
import torch
from draw import draw, draw_shot, quantized, shots
from grammar import caption, draw_scene, draw_script, draw_stream
from world import COLOURS, CUT_FRAME, GROUNDS, SHAPES, Action, Scene, Script, Subject, advance, fold, timeline


def scene_of(shape="star", colour="red", x=0.3, y=0.5, **more):
    return Scene((Subject(shape, colour, "", x, y, 0.0, 0.18),), "gray", "striped", **more)


def test_a_seed_gives_the_same_video_every_time():
    first, second = (draw_stream(7, 3, cuts=True) for _ in range(2))
    assert first == second
    frames = timeline(first[0], [(script, 80) for script in first[1]])
    assert torch.equal(draw(frames[:90]), draw(frames[:90]))


@pytest.mark.parametrize("seed", range(20))
def test_a_continuation_is_exact_where_nothing_turns_round(seed):
    rng = random.Random(seed)
    scene = draw_scene(rng)
    script = replace(
        draw_script(rng, scene), camera="", actions=tuple(Action("still", "", True) for _ in scene.subjects)
    )
    at_once, in_two = advance(scene, script, 50), advance(advance(scene, script, 20), script, 30)
    for one, other in zip(at_once.subjects, in_two.subjects, strict=True):
        assert (one.x, one.y, one.angle) == pytest.approx((other.x, other.y, other.angle))
    assert at_once.light == pytest.approx(in_two.light)


def test_a_timeline_starts_every_section_where_the_one_before_ended():
    scene, scripts = draw_stream(3, 3)
    frames = timeline(scene, [(scripts[0], 80), (scripts[1], 80)])
    assert len(frames) == 161
    assert frames[80] == advance(scene, scripts[0], 80)
    assert frames[160] == advance(frames[80], scripts[1], 80)


def test_a_pan_moves_the_background_and_not_the_subject():
    scene = scene_of()
    later = advance(scene, Script((Action(),), camera="pan left"), 40)
    assert later.subjects[0].x == scene.subjects[0].x
    assert later.shift_x < scene.shift_x


def test_zooming_out_undoes_zooming_in():
    scene = scene_of()
    near = advance(scene, Script((Action(),), camera="zoom in"), 80)
    assert near.zoom == pytest.approx(1.3)
    assert advance(near, Script((Action(),), camera="zoom out"), 80).zoom == pytest.approx(1.0)


def test_night_falls_within_a_segment_and_day_comes_back():
    scene = scene_of()
    night = advance(scene, Script((Action(),), light="night"), 80)
    assert night.light == 0
    assert advance(night, Script((Action(),), light="day"), 80).light == 1
    dark, bright = (draw([s])[0].mean() for s in (night, scene))
    assert dark < 0.6 * bright


def test_a_hard_cut_changes_everything_between_two_frames():
    scene, scripts = draw_stream(11, 2, cuts=True)
    start = advance(scene, scripts[0], 80)
    frames = timeline(start, [(scripts[1], 80)])
    groups = shots(frames)
    assert [len(g) for g in groups] == [CUT_FRAME, 81 - CUT_FRAME]
    pixels = draw(frames)
    jumps = (pixels[1:] - pixels[:-1]).abs().mean((1, 2, 3))
    assert int(jumps.argmax()) == CUT_FRAME - 1
    assert jumps.max() > 5 * jumps.median()
    assert "the camera makes a hard cut, to a close up of" in caption(start, scripts[1])


def test_subjects_never_leave_the_frame():
    for seed in range(30):
        scene, scripts = draw_stream(seed, 4)
        for frame in timeline(scene, [(script, 80) for script in scripts]):
            for subject in frame.subjects:
                assert 0 < subject.x < 1
                assert 0 < subject.y < 1


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (1.2, 0.8), (-0.3, 0.3), (2.25, 0.25)])
def test_fold_reflects(value, expected):
    assert fold(value, 0, 1) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_anti_aliased_and_of_the_size_they_say(shape):
    pixels, masks = draw_shot([scene_of(shape, x=0.5)], 64, 64)
    mask = masks[0, 0]
    between = ((mask > 0.02) & (mask < 0.98)).sum()
    assert between > 20
    rows, columns = (mask > 0.5).any(1).sum(), (mask > 0.5).any(0).sum()
    assert 14 <= int(rows) <= 24
    assert 14 <= int(columns) <= 24
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_shapes_differ():
    masks = [draw_shot([scene_of(shape, x=0.5)], 64, 64)[1][0, 0] for shape in SHAPES]
    for i, one in enumerate(masks):
        for other in masks[i + 1 :]:
            assert (one - other).abs().sum() > 0.15 * one.sum()


def test_frames_may_have_another_size_and_shape():
    scene = scene_of(aspect=1.5, x=1.2)
    pixels, masks = draw_shot([scene], 32, 48)
    assert pixels.shape == (1, 32, 48, 3)
    where = masks[0, 0].nonzero().float().mean(0)
    assert where[1] / 32 == pytest.approx(1.2, abs=0.05)


def test_quantized_rounds():
    assert quantized(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]


def test_subjects_are_saturated_and_backgrounds_are_not():
    def saturation(colour):
        return (max(colour) - min(colour)) / max(colour)

    assert min(map(saturation, COLOURS.values())) > 0.6
    assert max(map(saturation, GROUNDS.values())) < 0.3
