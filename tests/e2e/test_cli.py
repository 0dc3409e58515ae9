"""The command line: stdout is data, stderr is talk, exit codes say what happened, and looking never loads torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import svid as package
from svid.canonical import digest
from svid.cli import COMMANDS, main
from svid.errors import ManifestError
from svid.home import Home
from svid.media.clips import probe
from svid.store.files import sha256_of
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, drop, new, rows


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A home with a video of three segments, a fork of it, and a manifest that was refused."""
    made = bench_in(tmp_path_factory.mktemp("cli") / "home")
    made.run(new("harbour at dawn", "boats", "gulls", "sun"))
    made.run({"branch": "harbour at dawn@1", "name": "in fog", "prompts": ["fog"]})
    return made


@pytest.fixture
def home(bench: Workbench) -> Home:
    """The home of the bench, its inbox as it was."""
    for file in bench.home.inbox.iterdir():
        if file.suffix in (".json", ".toml"):
            file.unlink()
    return bench.home


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is no home."""
    monkeypatch.chdir(tmp_path)
    for name in ("SVID_PLUGINS", "SVID_TRACE", "SVID_HOME"):
        monkeypatch.delenv(name, raising=False)


def run(home: Home | None, *arguments: str, code: int = 0, stdin: str | bytes | None = None) -> Result:
    given = ["--home", str(home.root)] if home else []
    result = CliRunner().invoke(main, [*given, *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def data(home: Home, *arguments: str) -> Any:
    """The JSON that a command prints, and nothing but that."""
    result = run(home, *arguments, "--json")
    assert result.stderr == ""
    return json.loads(result.stdout)


def manifests(home: Home) -> list[Path]:
    return sorted(file for file in home.inbox.iterdir() if file.suffix in (".json", ".toml"))


# A home


def test_init_makes_a_home_once(tmp_path: Path) -> None:
    folder = tmp_path / "studio"
    assert run(None, "init", str(folder)).stdout == f"{folder}\n"
    for place in ("svid.toml", "plugins", "watch/inbox", "watch/examples/new.toml", "watch/schema", "db/README.md"):
        assert (folder / place).exists(), place
    (folder / "svid.toml").write_text("[daemon]\npoll = 9\n")
    assert "is a svid home already" in run(None, "init", str(folder), code=2).stderr
    assert (folder / "svid.toml").read_text() == "[daemon]\npoll = 9\n"


def test_the_home_is_named_or_found_upwards(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no svid.toml here or in a folder above" in run(None, "status", code=2).stderr
    assert "is not a svid home" in run(Home(tmp_path), "status", code=2).stderr
    monkeypatch.chdir(home.root / "watch/inbox")
    assert json.loads(run(None, "status", "--json").stdout)["home"] == str(home.root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVID_HOME", str(home.root))
    assert json.loads(run(None, "status", "--json").stdout)["home"] == str(home.root)


def test_a_mistake_in_svid_toml_is_named_with_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "svid.toml").write_text("[daemon]\npol = 2\n")
    said = run(Home(tmp_path), "recipes", code=2).stderr
    assert said == "svid: svid.toml: daemon.pol: unknown key (did you mean 'poll'?)\n"


# Making work


GOOD = """\
name = "harbour"
image = "harbour.png"
prompts = ["boats", "gulls"]
segments = 3
frames = 9
width = 32
height = 48
seed = 1
sample = { steps = 4, guidance = { high = 2.0, low = 1.0 } }

[[cuts]]
segment = 2
prompt = "a hard cut"
"""
BAD = """\
image = "nowhere.png"
prompts = ["x"]
framse = 9
seed = -1
"""


@pytest.fixture
def good(home: Home, tmp_path: Path) -> Path:
    """A good manifest outside of the home, with its picture."""
    shutil.copyfile(home.inbox / "harbour.png", tmp_path / "harbour.png")
    (tmp_path / "good.toml").write_text(GOOD)
    return tmp_path / "good.toml"


def test_check_prints_the_plan(home: Home, good: Path) -> None:
    plan = data(home, "check", str(good))
    assert (plan["recipe"], plan["model"], plan["size"]) == ("svi-2.0-pro", "wan22-mini", "32x48")
    assert (plan["new_frames"], plan["length"], plan["continues"]) == (17, 3, None)
    segments = plan["segments"]
    assert [one["number"] for one in segments] == [1, 2, 3]
    assert [one["prompt"] for one in segments] == ["boats", "a hard cut", "gulls"]
    assert [one["seed"] for one in segments] == [1, 43, 85]
    assert [(one["frames"], one["shown"]) for one in segments] == [(9, 9), (9, 4), (9, 4)]
    assert [one["cut"] is not None for one in segments] == [False, True, False]
    on = [one["conditioned_on"] for one in segments]
    assert on[0] == "the start image"
    assert on[1].startswith(
        f"the last 1 latents of segment 1, anchor: picture {sha256_of(good.parent / 'harbour.png')[:12]}"
    )
    assert on[2] == "the last 1 latents of segment 2, anchor: the last frame of segment 2"
    for one in segments:
        assert one["steps_high"] + one["steps_low"] == one["steps"] == 4
        # Guidance 2 takes two passes a step on the high-noise expert, guidance 1 takes one on the other.
        assert one["passes"] == 2 * one["steps_high"] + one["steps_low"]
    assert plan["steps"] == 12
    memory = plan["memory_mib"]
    assert memory["total"] >= memory["weights"] > 1
    text = run(home, "check", str(good)).stdout
    for part in ("32x48", "segment 3", "the start image", "seed 85", "hard-cut at 1.0", "17 new frames", "MiB"):
        assert part in text, part
    assert manifests(home) == []


def test_check_of_an_extension_says_what_it_continues(home: Home, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('extend = "harbour at dawn"\nprompts = ["x"]\n')
    plan = data(home, "check", str(tmp_path / "more.toml"))
    video = data(home, "show", "harbour at dawn")
    assert plan["continues"] == f"{video['id']}@3"
    assert [one["number"] for one in plan["segments"]] == [4]
    assert plan["segments"][0]["seed"] == 5 + 3 * 42
    assert (plan["new_frames"], plan["length"]) == (4, 4)


@pytest.mark.parametrize("verb", ["check", "submit"])
def test_everything_that_is_wrong_comes_at_once(home: Home, tmp_path: Path, verb: str) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    result = run(home, verb, str(tmp_path / "bad.toml"), code=3)
    assert result.stdout == ""
    assert "bad.toml: framse: unknown key (did you mean frames?)" in result.stderr
    assert "bad.toml: seed: expected at least 0, found -1" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    (tmp_path / "bad.toml").write_text('image = "nowhere.png"\nanchor = "neither.png"\nprompts = ["x"]\n')
    said = run(home, verb, str(tmp_path / "bad.toml"), code=3).stderr
    assert "image: nowhere.png: there is no such file" in said
    assert "anchor: neither.png: there is no such file" in said
    assert manifests(home) == []


def test_submit_takes_the_pictures_along(home: Home, good: Path) -> None:
    named = run(home, "submit", str(good))
    assert named.stderr == ""
    (file,) = manifests(home)
    assert named.stdout == f"{file}\n"
    written = json.loads(file.read_text())
    sha256 = sha256_of(good.parent / "harbour.png")
    assert written["image"] == f"asset:{sha256}"
    assert written["name"] == "harbour"
    assert written["cuts"] == [{"segment": 2, "prompt": "a hard cut"}]
    # It asks for the same as the file did, though the picture is gone.
    plan = data(home, "check", str(good))
    (good.parent / "harbour.png").unlink()
    again = data(home, "check", str(file))
    assert {**again, "file": ""} == {**plan, "file": ""}


def test_submit_never_writes_over_another_manifest(home: Home, good: Path) -> None:
    files = {run(home, "submit", str(good)).stdout.strip() for _ in range(3)}
    assert {Path(file).name for file in files} == {"good.json", "good-2.json", "good-3.json"}
    assert len(manifests(home)) == 3
    assert [file.name for file in home.inbox.iterdir() if file.name.startswith(".")] == []


def test_submit_reads_standard_input(home: Home, good: Path) -> None:
    file = Path(run(home, "submit", "-", stdin=GOOD).stdout.strip())
    assert json.loads(file.read_text())["segments"] == 3
    assert "prompts: expected at least one" in run(home, "submit", "-", stdin='image = "harbour.png"', code=3).stderr


def test_extend_and_branch_write_manifests(home: Home) -> None:
    run(home, "extend", "harbour at dawn", "--prompt", "one", "--prompt", "two", "--segments", "3", "--seed", "9")
    (file,) = manifests(home)
    expected = {"extend": "harbour at dawn", "prompts": ["one", "two"], "segments": 3, "seed": 9}
    assert json.loads(file.read_text()) == expected
    file.unlink()
    run(home, "branch", "harbour at dawn@2", "--name", "another", "--prompt", "fog")
    (file,) = manifests(home)
    assert json.loads(file.read_text()) == {"branch": "harbour at dawn@2", "name": "another", "prompts": ["fog"]}
    file.unlink()
    assert "did you mean 'harbour at dawn'" in run(home, "extend", "harbour at down", code=3).stderr
    assert "there is no segment 7" in run(home, "branch", "harbour at dawn@7", code=3).stderr
    assert "VIDEO@SEGMENT" in run(home, "branch", "harbour at dawn", code=3).stderr
    assert manifests(home) == []


def test_what_the_verbs_write_is_rendered(bench: Workbench, home: Home) -> None:
    from svid.inbox.accept import accept
    from svid.inbox.claim import claim

    run(home, "branch", "harbour at dawn@1", "--name", "by verb", "--prompt", "rain")
    claimed = claim(manifests(home)[0], home.claimed, "bench")
    assert claimed is not None
    accept(bench.desk, claimed)
    bench.work()
    assert len(data(home, "show", "by verb")["segments"]) == 2


# Looking


def test_show_has_the_keys_of_the_contract(home: Home) -> None:
    video = data(home, "show", "harbour at dawn")
    assert video["name"] == "harbour at dawn"
    assert video["parent"] is None
    assert video["tip"] == video["segments"][-1]["id"]
    assert len(video["segments"]) == 3
    parents = [None, *(one["id"] for one in video["segments"][:-1])]
    for one, parent in zip(video["segments"], parents, strict=True):
        assert {"id", "parent", "seed", "latents", "frames", "seconds"} <= one.keys()
        assert one["parent"] == parent
        assert len(one["id"]) == len(one["latents"]) == 64
        assert one["seconds"] > 0
    assert [one["seed"] for one in video["segments"]] == [5, 47, 89]
    (artifact,) = video["artifacts"]
    assert {"path", "sha256", "frames", "fps"} <= artifact.keys()
    file = Path(artifact["path"])
    assert sha256_of(file) == artifact["sha256"]
    assert probe(file)[:2] == (artifact["frames"], artifact["fps"])
    assert artifact["frames"] == sum(one["frames"] for one in video["segments"]) == 17
    result = json.loads((file.parent / "result.json").read_text())
    assert result == {
        "job": video["jobs"][0]["id"],
        "video": video["id"],
        "artifact": {key: value for key, value in artifact.items() if key != "tip"},
        "segments": video["segments"],
    }
    fork = data(home, "show", "in fog")
    assert fork["parent"] == video["id"]


def test_show_finds_by_any_unique_name(home: Home) -> None:
    video = data(home, "show", "harbour at dawn")
    for written in (video["id"], video["id"][:8]):
        assert data(home, "show", written) == video
    job = data(home, "show", video["jobs"][0]["id"])
    assert (job["kind"], job["state"], job["video"]) == ("job", "done", video["id"])
    assert [one["outcome"] for one in job["attempts"]] == ["done"]
    segment = data(home, "show", video["tip"][:16])
    assert (segment["kind"], segment["id"], segment["index"]) == ("segment", video["tip"], 2)
    assert segment["ask"]["parent"] == video["segments"][1]["id"]
    (key,) = rows(home, "SELECT ask_key FROM segment WHERE id = ?", video["tip"])[0]
    assert digest(segment["ask"]) == key, "what is shown is what the id stands on"
    assert {"svid", "libraries", "device", "stages", "loras", "plugins"} <= segment["env"].keys()
    text = run(home, "show", "harbour at dawn").stdout
    for part in (video["id"], "harbour at dawn", video["tip"][:12], "seed 89", ".mp4"):
        assert part in text, part


def test_show_of_what_is_not_there_names_what_is_near(home: Home) -> None:
    result = run(home, "show", "harbour at dwan", "--json", code=4)
    assert result.stdout == ""
    assert result.stderr == ("svid: harbour at dwan: no video has this id or name (did you mean 'harbour at dawn'?)\n")
    assert "no video has this id" in run(home, "tree", "nothing like it", code=4).stderr


def test_status_says_what_waits_and_what_has_ended(home: Home, bench: Workbench) -> None:
    with pytest.raises(ManifestError):
        bench.accept({"image": "harbour.png"})
    for left in home.claimed.iterdir():
        left.unlink()
    drop(home, "waits.json", new("waits", "x"))
    (home.inbox / "notes.txt").write_text("x")
    status = data(home, "status")
    assert status["daemons"] == []
    assert status["inbox"] == {"manifests": ["waits.json"], "not_manifests": ["notes.txt"]}
    assert status["counts"]["videos"] >= 2
    assert status["counts"]["done"] == len(status["jobs"])
    assert {"id", "video", "state", "file", "progress", "errors"} <= status["jobs"][0].keys()
    assert len(data(home, "status", "--ended", "1")["jobs"]) == 1
    text = run(home, "status").stdout
    assert "no daemon runs (svid up)" in text
    assert "notes.txt" in text
    assert all(job["id"] in text for job in status["jobs"])
    (home.inbox / "notes.txt").unlink()


def test_tree_draws_every_segment_under_the_one_it_follows(home: Home) -> None:
    video, fork = data(home, "show", "harbour at dawn"), data(home, "show", "in fog")
    (root,) = data(home, "tree")
    assert data(home, "tree", "in fog") == [root]
    assert (root["id"], root["number"], root["prompt"]) == (video["segments"][0]["id"], 1, "boats")
    assert {one["id"] for one in root["children"]} >= {video["segments"][1]["id"], fork["tip"]}
    (second,) = [one for one in root["children"] if one["id"] == video["segments"][1]["id"]]
    assert [one["id"] for one in second["children"]] == [video["tip"]]
    assert second["children"][0]["videos"] == [{"id": video["id"], "name": "harbour at dawn"}]
    lines = run(home, "tree").stdout.splitlines()
    depth = {
        one["id"]: len(line) - len(line.lstrip(" │├└─"))
        for one in [*video["segments"], *fork["segments"]]
        for line in lines
        if one["id"][:12] in line
    }
    assert len(depth) == 4
    assert depth[root["id"]] < depth[second["id"]] <= depth[video["tip"]]
    assert sum(one["id"][:12] in line for one in video["segments"] for line in lines) == 3


def test_text_of_manifests_is_shown_and_not_interpreted(bench: Workbench, home: Home) -> None:
    name = "[bold]x[/nonsense] :boat:"
    bench.run(new(name, "[red]y[/blue]", seed=77))
    assert name in run(home, "show", name).stdout
    drawn = run(home, "tree", name).stdout
    assert name in drawn
    assert "[red]y[/blue]" in drawn


def test_recipes_and_schema(home: Home) -> None:
    names = {recipe["name"] for recipe in data(home, "recipes")}
    assert {"svi-2.0-pro", "i2v"} <= names
    assert all(line.split(":")[0] in names for line in run(home, "recipes").stdout.splitlines())
    (pro,) = data(home, "recipes", "svi-2.0-pro")
    assert (pro["motion_latents"], pro["boundary"]) == (1, 0.875)
    assert "svi-2.0-pro" in json.dumps(pro["loras"])
    assert "motion_latents: 1" in run(home, "recipes", "svi-2.0-pro").stdout
    assert "known: " in run(home, "recipes", "svi", code=4).stderr
    schema = json.loads(run(home, "schema").stdout)
    assert {"image", "extend", "branch", "prompts", "cuts"} <= schema["properties"].keys()


def test_doctor_says_what_is_in_force_and_what_is_amiss(home: Home, tmp_path: Path) -> None:
    fine = run(home, "doctor").stdout
    for part in ("device cpu", "dtype float32", "database ", "model wan22-mini"):
        assert part in fine, part
    root = tmp_path / "ill"
    run(None, "init", str(root))
    config = root / "svid.toml"
    config.write_text(config.read_text() + '\n[models.gone]\npath = "/nowhere/at/all"\n')
    found = run(Home(root), "doctor", code=1).stdout
    assert any(line.startswith("error") and "gone" in line for line in found.splitlines())
    assert any(line.startswith("ok") and "wan22-mini" in line for line in found.splitlines())


def test_an_unknown_command_and_option_are_usage_with_a_suggestion(home: Home) -> None:
    assert "Did you mean 'status'?" in run(home, "statsu", code=2).stderr
    assert "--json" in run(home, "status", "--jsn", code=2).stderr
    assert "Missing argument" in run(home, "show", code=2).stderr


def test_help_lists_every_command_with_a_sentence() -> None:
    text = run(None, "--help").stdout
    listed = {
        line.split()[0]: line.split(None, 1)[1:] for line in text.split("Commands:")[1].splitlines() if line.strip()
    }
    assert set(COMMANDS) <= set(listed)
    assert all(listed[command] for command in COMMANDS)
    assert run(None, "--version").stdout.strip().endswith(package.__version__)


WITHOUT_TORCH = """\
import sys
from svid.cli import main

try:
    main(sys.argv[1:])
finally:
    heavy = sorted({"torch", "diffusers", "transformers"} & set(sys.modules))
    print("heavy:", *heavy, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["status"], ["show", "harbour at dawn"], ["tree"], ["--help"], ["recipes"]])
def test_looking_does_not_load_torch(home: Home, arguments: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "--home", str(home.root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "heavy:"
