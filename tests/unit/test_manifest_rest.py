"""What is left of a manifest asks for exactly the segments that are missing."""

from __future__ import annotations

from typing import Any

import pytest

from svid.inbox.pictures import named_pictures
from svid.manifest.model import Manifest
from svid.manifest.rest import rest
from svid.plan.build import Plan, build_plan
from svid.plan.settings import ClipRef, Parent, PictureRef
from tests.unit.test_plan import CONFIG, PRO

MANIFESTS: dict[str, dict[str, Any]] = {
    "prompts": {"extend": "v1", "prompts": ["one", "two", "three"], "seed": 9, "sample": {"steps": 5}},
    "the last prompt repeats": {"extend": "v1", "prompts": ["one", "two"], "segments": 6, "negative": "grey"},
    "none at all": {"branch": "v1@4", "segments": 4, "conditioning": {"motion_latents": 2}},
    "new": {"image": "i", "prompts": ["one", "two", "three", "four"], "max_width": 64, "anchors": ["i", "b", "c"]},
    "clip": {"clip": "c", "prompts": ["one", "two"], "fps": 24, "frames": 21},
    "anchor and cut": {
        "extend": "v1",
        "prompts": ["one"],
        "segments": 4,
        "anchor": "a",
        "ends": [{"image": "b"}],
        "cuts": [{"segment": 2, "prompt": "x", "anchor": "d"}, {"segment": 3, "prompt": "y", "strength": 0.5}],
    },
    "single": {
        "extend": "v1",
        "prompts": ["one"],
        "segments": 4,
        "ends": [{"image": "b", "segment": 3}],
        "loras": [
            {"name": "svi-2.0-pro", "high": 0.5},
            {"name": "svi-2.0-pro", "segments": [1, 2, 4], "low": 0.25},
            {"name": "fast", "segments": [1]},
        ],
    },
}
PARENT = Parent(
    "v1",
    4,
    build_plan(
        Manifest.model_validate({"image": "i", "prompts": ["zero"], "seed": 1}),
        CONFIG,
        {PRO.name: PRO},
        {"image": PictureRef(sha256="1" * 64, pixels="i")},
    ).settings,
)
CLIP = ClipRef(sha256="2" * 64, frames=33, fps=24, width=64, height=48)


def plan_of(written: dict[str, Any], repeat: int, parent: Parent) -> Plan:
    manifest = Manifest.model_validate(written)
    pictures = {place: PictureRef(sha256="3" * 64, pixels=name) for place, name in named_pictures(manifest)}
    recipe = PRO.model_copy(update={"prompt_repeat": repeat})
    new = {} if manifest.base else {"clip": CLIP if manifest.clip else None}
    return build_plan(manifest, CONFIG, {PRO.name: recipe}, pictures, parent if manifest.base else None, **new)


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_rest_is_planned_as_it_was_in_the_whole(name: str, repeat: int) -> None:
    written, said = MANIFESTS[name], 0
    whole = plan_of(written, repeat, PARENT)
    clips = "clip" in written
    rendered = whole.segments[clips:]
    for done in range(clips ^ 1, len(rendered)):
        left = rest(written, done, len(rendered), repeat)
        if left is None:
            assert done % repeat, "only in the middle of a prompt"
            continue
        before = whole.segments[clips + done - 1]
        found = plan_of({"extend": "v1", **left}, repeat, Parent("v1", before.index + 1, before.after))
        assert found.segments == rendered[done:], done
        assert (found.settings, found.length) == (whole.settings, whole.length)
        said += 1
    assert said


def test_in_the_middle_of_a_prompt_that_others_follow_nothing_can_be_said() -> None:
    written = {"extend": "v1", "prompts": ["one", "two"]}
    assert rest(written, 1, 4, 2) is None
    assert rest(written, 2, 4, 2) == {"segments": 2, "prompts": ["two"]}
    assert rest(written, 3, 4, 2) == {"segments": 1}


def test_what_is_the_jobs_own_stays() -> None:
    written = {"extend": "v1", "name": "v", "prompts": ["one", "two"], "priority": 3, "reuse": False, "fps": 24}
    assert rest(written, 1, 2, 1) == {"segments": 1, "prompts": ["two"], "priority": 3, "reuse": False}
