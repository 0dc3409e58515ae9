"""What a manifest may not say: every rule, every suggestion, and all mistakes at once."""

from __future__ import annotations

from typing import Any

import pytest

from svid.errors import ManifestError
from svid.manifest.read import Known, validate
from tests.unit.manifests import NEW, one, problems

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "name", "some text"),
    ({"name": " "}, "name", "one line of text"),
    ({"name": "a\nb"}, "name", "without control characters"),
    ({"name": "a" * 201}, "name", "at most 200 characters, found 201"),
    ({"name": 5}, "name", "expected text, found 5"),
    ({"image": "a\tb.png"}, "image", "without control characters"),
    ({"prompts": []}, "prompts", "at least one entry, found 0"),
    ({"prompts": "one"}, "prompts", 'expected a list, found "one"'),
    ({"prompts": ["a", " "], "segments": 2}, "prompts[1]", "says something"),
    ({"prompts": [True]}, "prompts[0]", "expected text, found true"),
    ({"prompts": ["a" * 20_001]}, "prompts[0]", "at most 20000 characters, found 20001"),
    ({"segments": 0}, "segments", "at least 1, found 0"),
    ({"segments": 0, "cuts": [{"segment": 1, "prompt": "x"}]}, "segments", "at least 1, found 0"),
    ({"segments": 0, "anchors": ["a.png"], "ends": [{"image": "a.png", "segment": 1}]}, "segments", "at least 1"),
    ({"segments": 0, "loras": [{"name": "hard-cut", "segments": [1]}]}, "segments", "at least 1, found 0"),
    ({"segments": -1}, "segments", "at least 0, found -1"),
    ({"segments": -1, "cuts": [{"segment": 1, "prompt": "x"}]}, "segments", "at least 0, found -1"),
    ({"segments": 100_001}, "segments", "at most 100000"),
    ({"segments": True}, "segments", "expected a whole number, found true"),
    ({"segments": 2.0}, "segments", "expected a whole number, found 2.0"),
    ({"segments": "2"}, "segments", 'expected a whole number, found "2"'),
    ({"seed": -1}, "seed", "at least 0"),
    ({"seed": 2**63}, "seed", "at most"),
    ({"width": 100}, "width", "multiple of 16, found 100"),
    ({"height": 8208}, "height", "at most 8192"),
    ({"width": 0}, "width", "at least 16"),
    ({"frames": 80}, "frames", "such as 77 or 81, found 80"),
    ({"frames": 6}, "frames", "such as 5 or 9"),
    ({"frames": 1}, "frames", "at least 5"),
    ({"frames": 1005}, "frames", "at most 1001"),
    ({"fps": 0.5}, "fps", "at least 1"),
    ({"fps": 241}, "fps", "at most 240"),
    ({"fps": float("nan")}, "fps", "finite"),
    ({"fps": float("inf")}, "fps", "finite"),
    ({"fps": True}, "fps", "expected a number, found true"),
    ({"priority": 10}, "priority", "at most 9"),
    ({"reuse": 1}, "reuse", "expected true or false, found 1"),
    ({"sample": 5}, "sample", "expected a table, found 5"),
    ({"sample": {"steps": 0}}, "sample.steps", "at least 1"),
    ({"sample": {"shift": 0}}, "sample.shift", "at least 0.01"),
    ({"sample": {"guidance": 101}}, "sample.guidance", "at most 100, found 101"),
    ({"sample": {"guidance": True}}, "sample.guidance", "expected a table, found true"),
    ({"sample": {"guidance": {"high": 1}}}, "sample.guidance.low", "expected a value, found none"),
    ({"sample": {"boundary": 1.1}}, "sample.boundary", "at most 1"),
    ({"sample": {"sigmas": []}}, "sample.sigmas", "at least one entry"),
    ({"sample": {"sigmas": [1, 0]}}, "sample.sigmas[1]", "more than 0"),
    ({"sample": {"sigmas": [1.5, 1]}}, "sample.sigmas[0]", "at most 1"),
    ({"sample": {"sigmas": [1, 0.5, 0.5]}}, "sample.sigmas[2]", "less than the sigma before it (0.5), found 0.5"),
    ({"sample": {"sigmas": [1, 0.5], "steps": 2}}, "sample.steps", "either steps or sigmas"),
    ({"sample": {"sigmas": [1, 0.5], "shift": 5}}, "sample.shift", "either shift or sigmas"),
    ({"loras": [{"name": "hard-cut", "high": 11}]}, "loras[0].high", "at most 10"),
    ({"loras": [{"name": "hard-cut", "high": 0, "low": 0.0}]}, "loras[0]", "would change nothing"),
    ({"loras": [{"name": "hard-cut"}, {"name": "hard-cut"}]}, "loras[1].name", "each LoRA once"),
    ({"loras": [{}]}, "loras[0].name", "expected a value, found none"),
    ({"loras": {"name": "hard-cut"}}, "loras", "expected a list, found a table"),
    ({"cuts": [{"segment": 1}]}, "cuts[0].prompt", "expected a value"),
    (
        {"segments": 1, "cuts": [{"segment": 2, "prompt": "x"}]},
        "cuts[0].segment",
        "at most 1, the segments of this manifest, found 2",
    ),
    ({"cuts": [{"segment": 0, "prompt": "x"}]}, "cuts[0].segment", "at least 1"),
    ({"cuts": [{"segment": 1, "prompt": "x"}] * 2}, "cuts[1].segment", "one cut per segment"),
    ({"cuts": [{"segment": 1, "prompt": "x", "strength": 0}]}, "cuts[0].strength", "would change nothing"),
    ({"segments": 1, "loras": [{"name": "hard-cut", "segments": [2]}]}, "loras[0].segments[0]", "at most 1, the segm"),
    ({"loras": [{"name": "hard-cut", "segments": [0]}]}, "loras[0].segments[0]", "at least 1"),
    ({"loras": [{"name": "hard-cut", "segments": []}]}, "loras[0].segments", "at least one entry"),
    ({"loras": [{"name": "hard-cut", "steps": [3, 2]}]}, "loras[0].steps", "the first step and then the last"),
    ({"loras": [{"name": "hard-cut", "steps": [0, 2]}]}, "loras[0].steps[0]", "at least 1"),
    ({"loras": [{"name": "hard-cut", "steps": s} for s in ([1, 3], [3, 4])]}, "loras[1].name", "for a segment and a"),
    ({"loras": [{"name": "hard-cut", "segments": [1]}] * 2}, "loras[1].name", "each LoRA once"),
    ({"anchor": "a.png", "anchors": ["b.png"]}, "anchors", "either anchor or anchors"),
    ({"segments": 1, "anchors": ["a.png", "b.png"]}, "anchors", "at most 1, one per segment, found 2"),
    (
        {"segments": 1, "ends": [{"image": "a.png", "segment": 2}]},
        "ends[0].segment",
        "at most 1, the segments of this manifest",
    ),
    (
        {"ends": [{"image": "a.png"}, {"image": "a.png", "segment": 1}]},
        "ends[1].segment",
        "one end picture per segment",
    ),
    (
        {"cuts": [{"segment": 1, "prompt": "x", "end_image": "a.png"}], "ends": [{"image": "b.png"}]},
        "ends[0].segment",
        "found 1 in cuts[0].end_image too",
    ),
    ({"max_width": 64, "width": 64}, "max_width", "either max_width or width and height, found width too"),
    ({"max_width": 65}, "max_width", "a multiple of 16"),
    ({"conditioning": {"motion_frames": 10}}, "conditioning.motion_frames", "at most 9"),
    ({"conditioning": {"motion_latents": -1}}, "conditioning.motion_latents", "at least 0"),
    ({"conditioning": {"pad": "gray"}}, "conditioning.pad", "'grey', 'black', 'reference' or 'zero_latent'"),
    ({"conditioning": {"mask": "all"}}, "conditioning.mask", "'first-frame', 'given-frames' or 'all-given'"),
    ({"conditioning": {"motion_amplitude": 0.9}}, "conditioning.motion_amplitude", "at least 1"),
    ({"conditioning": {"anchor_strength": float("nan")}}, "conditioning.anchor_strength", "finite"),
    ({"conditioning": {"seam": "cut"}}, "conditioning.seam", "'head', 'tail' or 'blend'"),
    ({"decode": {"stream": 1}}, "decode.stream", "expected true or false, found 1"),
    ({"encode": {"quality": -1}}, "encode.quality", "at least 0"),
    ({"options": {"tint": 5}}, "options.tint", "expected a table, found 5"),
    ({"options": {"tint": {"amount": 2}}}, "options.tint.amount", "at most 1, found 2"),
    ({"options": {"tint": {"amount": "1"}}}, "options.tint.amount", 'expected a number, found "1"'),
    ({"options": {"tint": {"amount": True}}}, "options.tint.amount", "expected a number, found true"),
    ({"options": {"tint": {"colours": ["plaid"]}}}, "options.tint.colours", "not patterns, found a list of 1"),
    ({"extend": "harbour"}, "extend", "found image and extend"),
    ({"prompts": ["a", "b"], "segments": 1}, "prompts", "at most 1, one per segment, found 2: the last 1 would never"),
]


@pytest.mark.parametrize(("change", "where", "message"), WRONG)
def test_one_mistake_gives_one_error_in_its_place(change: dict[str, Any], where: str, message: str) -> None:
    problem = one(NEW | change)
    assert (problem.file, problem.where) == ("m.toml", where)
    assert message in problem.message


def test_a_branch_without_segments_has_none_for_a_cut() -> None:
    problem = one({"branch": "harbour@1", "segments": 0, "cuts": [{"segment": 1, "prompt": "x"}]})
    assert (problem.where, problem.message) == (
        "cuts[0].segment",
        "expected at most 0, the segments of this manifest, found 1",
    )


@pytest.mark.parametrize(
    ("change", "where", "hint"),
    [
        ({"segmnts": 3}, "segmnts", "did you mean segments?"),
        ({"Seed": 3}, "Seed", "did you mean seed?"),
        ({"prompt": "x"}, "prompt", "did you mean prompts?"),
        ({"lora": []}, "lora", "did you mean loras?"),
        ({"cuts": [{"segment": 1, "prompt": "x", "prompts": ["y"]}]}, "cuts[0].prompts", "prompts belongs at the top"),
        ({"steps": 3}, "steps", "steps belongs into [sample]"),
        ({"codec": "h264"}, "codec", "codec belongs into [encode]"),
        ({"pad": "grey"}, "pad", "pad belongs into [conditioning]"),
        ({"end_image": "a.png"}, "end_image", "end_image belongs into [[cuts]]"),
        ({"sample": {"seed": 3}}, "sample.seed", "seed belongs at the top, above the first [table]"),
        ({"sample": {"stesp": 3}}, "sample.stesp", "did you mean steps?"),
        ({"sample": {"guidance": {"high": 1, "low": 1, "hihg": 1}}}, "sample.guidance.hihg", "did you mean high?"),
        ({"loras": [{"name": "hard-cut", "hgih": 1}]}, "loras[0].hgih", "did you mean high?"),
        ({"encode": {"qualty": 1}}, "encode.qualty", "did you mean quality?"),
        ({"recipe": "svi-2.0-por"}, "recipe", "did you mean svi-2.0-pro?"),
        ({"recipe": "SVI-FILM"}, "recipe", "did you mean svi-film?"),
        ({"recipe": "zzz"}, "recipe", "known: i2v, svi-2.0-pro, svi-film"),
        ({"model": "wan22mini"}, "model", "did you mean wan22-mini?"),
        ({"sample": {"sampler": "eular"}}, "sample.sampler", "did you mean euler?"),
        ({"encode": {"codec": "h265"}}, "encode.codec", "did you mean h264?"),
        ({"loras": [{"name": "lightx2v"}]}, "loras[0].name", "did you mean lightx2v-1022?"),
        ({"cuts": [{"segment": 1, "prompt": "x", "lora": "hardcut"}]}, "cuts[0].lora", "did you mean hard-cut?"),
        ({"options": {"tnit": {}}}, "options.tnit", "did you mean tint?"),
        ({"options": {"tint": {"amuont": 1}}}, "options.tint.amuont", "did you mean amount?"),
        ({"odd key": 1}, '"odd key"', "known: "),
    ],
)
def test_suggestions(change: dict[str, Any], where: str, hint: str) -> None:
    problem = one(NEW | change)
    assert problem.where == where
    assert problem.hint.startswith(hint)


def test_the_cuts_own_lora_must_be_there_too() -> None:
    with pytest.raises(ManifestError) as caught:
        validate(NEW | {"cuts": [{"segment": 1, "prompt": "x"}]}, "m", {}, Known(loras=["other"]))
    assert [problem.where for problem in caught.value.problems] == ["cuts[0].lora"]


def test_all_mistakes_come_at_once() -> None:
    found = problems(
        {
            "image": "a.png",
            "extend": "b",
            "recipe": "svi-filn",
            "prompts": ["a", "b", ""],
            "segments": 2,
            "seed": True,
            "sede": 1,
            "sample": {"steps": 0, "sigmas": [0.5, 1], "shift": "x", "sampler": "uler"},
            "loras": [{"name": "nope", "high": 0, "low": 0}],
            "cuts": [{"segment": 9, "prompt": "x"}],
            "options": {"tint": {"amount": 3, "x": 1}, "tnt": {}},
        }
    )
    assert {problem.where for problem in found} == {
        "extend",
        "recipe",
        "prompts",
        "prompts[2]",
        "seed",
        "sede",
        "sample.steps",
        "sample.shift",
        "sample.sampler",
        "sample.sigmas[1]",
        "loras[0]",
        "loras[0].name",
        "cuts[0].segment",
        "options.tint.amount",
        "options.tint.x",
        "options.tnt",
    }
    assert len(found) == len(set(found))


def test_a_hundred_mistakes_are_enough() -> None:
    found = problems(NEW | {f"key{index}": 1 for index in range(10_000)})
    assert len(found) == 101
    assert "the first 100" in found[-1].message


def test_long_values_are_cut() -> None:
    assert len(one(NEW | {"seed": "x" * 10_000}).message) < 200
    assert len(one(NEW | {"k" * 10_000: 1}).where) < 100


def test_control_characters_are_shown_escaped() -> None:
    assert "\x1b" not in str(one(NEW | {"name": "a\x1b[31m"}))
