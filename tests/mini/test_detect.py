import pytest
import torch
from detect import judge, presence, strongest, track
from draw import draw
from grammar import draw_stream
from world import COLOURS, Action, Scene, Script, Subject, timeline


def truth(seed):
    scene, scripts = draw_stream(seed, 1)
    return timeline(scene, [(scripts[0], 80)])


def one(motion, colour="red", x=0.5, y=0.5, ground="gray", light=1.0, radius=0.18):
    scene = Scene((Subject("circle", colour, "", x, y, 0.0, radius),), ground, "dotted", light=light)
    return timeline(scene, [(Script((Action(motion, "slowly"),)), 80)])


def test_the_truth_is_judged_right():
    verdicts = [
        judge(draw(frames), frames, i)
        for seed in range(50_000, 50_040)
        for frames in [truth(seed)]
        for i in range(len(frames[0].subjects))
    ]
    assert all(v.present and v.kept for v in verdicts)
    told = [v.direction for v in verdicts if v.direction is not None]
    assert all(told)
    assert len(told) > 0.8 * len(verdicts)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("light", [0.0, 1.0])
def test_every_colour_is_found_on_every_background_and_no_other(colour, light):
    for ground in ("gray", "sand", "slate", "dark", "clay", "pale"):
        frames = one("still", colour, ground=ground, light=light)
        pixels = draw(frames[:1])
        assert strongest(pixels) == colour
        for other in COLOURS:
            area = float(presence(pixels, other).mean())
            assert area > 0.05 if other == colour else area < 0.004


def test_a_track_follows_the_centre():
    frames = one("right", x=0.3)
    found = track(draw(frames), "red")
    places = torch.tensor([[f.subjects[0].x, f.subjects[0].y] for f in frames])
    assert (found.centre - places).norm(dim=1).max() < 0.02


@pytest.mark.parametrize(
    ("shown", "told"), [("left", "right"), ("still", "right"), ("up", "right"), ("right", "still")]
)
def test_the_wrong_way_is_noticed(shown, told):
    assert judge(draw(one(shown)), one(told)).direction is False


def test_another_colour_or_an_empty_picture_is_not_kept():
    frames = one("still")
    for pixels in (draw(one("still", "green")), torch.full((81, 64, 64, 3), 0.5)):
        found = judge(pixels, frames)
        assert not found.present
        assert not found.kept


def test_one_that_is_elsewhere_or_grown_is_present_and_not_kept():
    for shown in (one("still", x=0.85), one("still", radius=0.3)):
        found = judge(draw(shown), one("still"))
        assert found.present
        assert not found.kept


def test_a_faded_subject_is_not_kept():
    frames = one("still")
    pixels = draw(frames)
    grey = pixels.mean(-1, keepdim=True)
    assert not judge(grey + 0.3 * (pixels - grey), frames).present
