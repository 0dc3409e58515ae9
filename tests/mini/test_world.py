import random
from dataclasses import replace

import pytest
import torch
from draw import draw, draw_shot, quantized, shots
from grammar import caption, draw_scene, draw_script, draw_stream
from world import (
    CELL,
    COLOURS,
    CUT_FRAME,
    DOING,
    GROUNDS,
    SHAPES,
    SPEEDS,
    Action,
    Scene,
    Script,
    Subject,
    advance,
    apart,
    fold,
    timeline,
    walls,
)


def scene_of(shape="star", colour="red", x=0.3, y=0.5, **more):
    return Scene((Subject(shape, colour, "", x, y, 0.0, 0.18),), "gray", "striped", **more)


def test_a_seed_gives_the_same_video_every_time():
    first, second = (draw_stream(7, 3, cuts=True) for _ in range(2))
    assert first == second
    frames = timeline(first[0], [(script, 80) for script in first[1]])
    assert torch.equal(draw(frames[:90]), draw(frames[:90]))


@pytest.mark.parametrize("seed", range(20))
def test_what_happens_is_over_when_the_shortest_segment_ends_and_all_stand_on_the_grid(seed):
    scene, scripts = draw_stream(seed, 4)
    for script in scripts:
        later = advance(scene, script, DOING)
        assert later == advance(scene, script, 76) == advance(scene, script, 80)
        for before, subject in zip(scene.subjects, later.subjects, strict=True):
            assert (subject.x / CELL, subject.y / CELL) == (round(subject.x / CELL), round(subject.y / CELL))
            # as it lay in the tokens of a latent frame, which are two cells wide
            assert (subject.x - before.x) / CELL % 2 == (subject.y - before.y) / CELL % 2 == 0
            assert subject.angle == 0
        scene = later


@pytest.mark.parametrize("shape", SHAPES)
def test_what_has_spun_looks_as_before(shape):
    scene = scene_of(shape)
    spin = Script((Action("still", "", True),))
    half, before, after = (draw([advance(scene, spin, n)])[0] for n in (DOING // 2, 0, DOING))
    almost = draw([advance(scene, spin, DOING - 1)])[0]
    assert torch.equal(before, after)
    assert (almost - after).abs().mean() < 0.004
    if shape != "circle":
        assert (half - before).abs().mean() > 2 * (almost - after).abs().mean()


@pytest.mark.parametrize("seed", range(40))
def test_two_subjects_never_touch(seed):
    rng = random.Random(seed)
    scene = next(s for s in (draw_scene(rng) for _ in range(1000)) if len(s.subjects) == 2)
    for _ in range(3):
        script = draw_script(rng, scene)
        frames = [advance(scene, script, n) for n in range(81)]
        masks = draw_shot(frames, 64, 64)[1]
        assert float((masks[:, 0] * masks[:, 1]).max()) == 0
        scene = frames[-1]


def test_what_goes_somewhere_mostly_has_room_and_sometimes_turns():
    whole = []
    for seed in range(600):
        scene, (script,) = draw_stream(seed, 1)
        (before, action), after = (scene.subjects[0], script.actions[0]), advance(scene, script, DOING).subjects[0]
        if action.motion not in ("still", "bounce"):
            way = abs(after.x - before.x) + abs(after.y - before.y)
            whole.append(way == pytest.approx(CELL * SPEEDS[action.speed]))
    assert 0.9 < sum(whole) / len(whole) < 1


def test_subjects_that_meet_are_not_apart():
    first = scene_of(x=0.25).subjects[0]
    both = scene_of(x=0.25, shape="circle")
    both = replace(both, subjects=(first, replace(first, x=0.75)))
    assert apart(both, Script((Action(), Action())))
    assert not apart(both, Script((Action("right", "quickly"), Action())))


@pytest.mark.parametrize(("radius", "length", "expected"), [(0.17, 1, (0.25, 0.75)), (0.28, 1.5, (0.375, 1.125))])
def test_walls_leave_a_subject_whole(radius, length, expected):
    assert walls(radius, length) == expected


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
