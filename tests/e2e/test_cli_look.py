"""The command line that looks: what it shows, in words and as JSON; it never loads torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import svid as package
from svid.canonical import digest
from svid.cli import COMMANDS
from svid.errors import ManifestError
from svid.home import Home
from svid.media.clips import probe
from svid.store.files import sha256_of
from svid.workbench import Workbench
from tests.e2e.tools import data, drop, new, rows, run

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def home(cli_home: Home) -> Home:
    """The home of the bench."""
    return cli_home


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
    assert [data(home, "show", f"harbour at dawn@{k}") for k in ("3", "-1")] == [segment] * 2
    assert "there is no segment 4" in run(home, "show", "harbour at dawn@4", code=4).stderr
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
    assert "(svid tree shows the videos)" in run(home, "show", "nothing like it", code=4).stderr
    assert {"harbour at dawn", "in fog"} <= set(re.findall(r"<- \w+ (.+)", run(home, "tree").stdout)), "as it says"


def test_status_says_what_waits_and_what_has_ended(home: Home, cli_bench: Workbench) -> None:
    with pytest.raises(ManifestError):
        cli_bench.accept({"image": "harbour.png"})
    for left in home.claimed.iterdir():
        left.unlink()
    drop(home, "waits.json", new("waits", "x"))
    (home.inbox / "notes.txt").write_text("x")
    (home.inbox / "clip.mp4").write_text("lies beside a manifest")
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


def test_text_of_manifests_is_shown_and_not_interpreted(cli_bench: Workbench, home: Home) -> None:
    name = "[bold]x[/nonsense] :boat:"
    cli_bench.run(new(name, "[red]y[/blue]", seed=77))
    assert name in run(home, "show", name).stdout
    drawn = run(home, "tree", name).stdout
    assert name in drawn
    assert "[red]y[/blue]" in drawn


def test_recipes_and_schema(home: Home) -> None:
    names = {recipe["name"] for recipe in data(home, "recipes")}
    assert {"svi-2.0-pro", "i2v"} <= names
    assert all(line.split(":")[0] in names for line in run(home, "recipes").stdout.splitlines())
    pro = data(home, "recipes", "show", "svi-2.0-pro")
    assert (pro["layout"]["motion_latents"], pro["boundary"]) == (1, 0.875)
    assert "svi-2.0-pro" in json.dumps(pro["loras"])
    shown = run(home, "recipes", "show", "svi-2.0-pro").stdout
    assert re.search(r"layout\.motion_latents +1 +V22 README\.md", shown)
    assert re.search(r"boundary +0\.875 +V22 .*never overridden; Wan's own is 0\.9", shown)
    assert "known: " in run(home, "recipes", "show", "svi", code=4).stderr
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
@pytest.mark.parametrize(
    "arguments",
    [["status"], ["show", "harbour at dawn"], ["tree"], ["sheet", "harbour at dawn"], ["--help"], ["recipes"]],
)
def test_looking_does_not_load_torch(home: Home, arguments: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "--home", str(home.root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "heavy:"
