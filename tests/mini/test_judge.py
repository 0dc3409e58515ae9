import torch
from cuts import cut_happens, stays
from draw import draw
from grammar import draw_stream
from judge import sheet
from PIL import Image
from samples import draw_sample
from world import timeline


def test_cuts_of_the_truth_are_found_and_motion_is_none():
    cut = [draw(draw_sample(seed, kind="cut").frames) for seed in range(1000, 1030)]
    assert all(map(cut_happens, cut))
    for seed in range(30):
        scene, scripts = draw_stream(seed, 1)
        assert not cut_happens(draw(timeline(scene, [(scripts[0], 80)])))


def test_a_cut_in_the_wrong_place_is_none():
    frames = draw(draw_sample(1000, kind="cut").frames)
    assert not cut_happens(torch.cat([frames[20:], frames[-20:-10]]))


def test_the_truth_stays_in_the_new_shot_and_the_old_one_does_not():
    frames = draw_sample(1000, kind="cut").frames
    assert stays(draw([frames[-1]] * 81), frames[-1])
    assert not stays(draw([frames[0]] * 81), frames[-1])


def test_a_sheet_has_the_truth_above_each_video(tmp_path):
    samples = [draw_sample(seed) for seed in (1, 2)]
    videos = torch.stack([draw(s.frames, 32, 32) for s in samples])
    sheet(videos, samples, tmp_path / "sheet.png", columns=5)
    assert Image.open(tmp_path / "sheet.png").size == (2 * 5 * 32, 2 * 4 * 32)
