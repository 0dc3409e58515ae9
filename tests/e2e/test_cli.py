"""The command line that makes homes and work: stdout is data, stderr is talk, exit codes say what happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from svid.home import Home
from svid.store.files import sha256_of
from svid.workbench import Workbench
from tests.conftest import quick_home, svid
from tests.e2e.tools import data, run

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def home(cli_home: Home) -> Home:
    """The home of the bench."""
    return cli_home


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
    file = folder / "svid.toml"
    assert f"{file}: expected a folder, found a file" in run(None, "init", str(file), code=2).stderr
    assert f"{file / 'x'}: can't be made: Not a directory" in run(None, "init", str(file / "x"), code=2).stderr
    assert (folder / "svid.toml").read_text() == "[daemon]\npoll = 9\n"


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    mine = tmp_path / "watch/examples/new.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    run(None, "init", str(tmp_path))
    assert mine.read_text() == "mine"
    assert (mine.parent / "star.toml").exists()


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


def test_a_name_with_a_dot_needs_quotes(tmp_path: Path) -> None:
    (tmp_path / "svid.toml").write_text('[loras.svi-2.0-pro]\npath = "a"\n[models.m]\npath = "b"\n[models.m.lora.a]\n')
    said = run(Home(tmp_path), "recipes", code=2).stderr
    assert (
        'loras.svi-2.0-pro: unknown key (a name with a dot in it stands in quotes, as in [loras."svi-2.0-pro"])' in said
    )
    assert "models.m.lora: unknown key (did you mean 'loras'?)" in said


# Making work


def configured(home: Home, was: str, now: str) -> Home:
    """The home with something else in its svid.toml."""
    file = home.root / "svid.toml"
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, now))
    return Home(home.root)


@pytest.mark.parametrize("verb", ["check", "submit"])
def test_a_default_that_is_not_there_is_named(tmp_path: Path, good: Path, verb: str) -> None:
    home = configured(quick_home(tmp_path / "home"), 'model = "wan22-mini"', 'model = "wan22-mino"')
    said = run(home, verb, str(good), code=3).stderr
    assert said.startswith(
        "svid: svid.toml: defaults.model: expected a model of this home, found 'wan22-mino' (did you"
    )
    assert "svid.toml: defaults.model: there is no model 'wan22-mino'" in run(home, "doctor", code=1).stdout


def test_a_lora_whose_file_is_not_there_is_named_before_anything_is_rendered(tmp_path: Path, good: Path) -> None:
    home = quick_home(tmp_path / "home")
    with (home.root / "svid.toml").open("a") as file:
        file.write('[loras.gone]\nhigh = "nowhere/a.safetensors"\n')
    good.write_text(f"{good.read_text()}[[loras]]\nname = 'gone'\n")
    where = f"there is no file {home.root}/nowhere/a.safetensors"
    assert run(Home(home.root), "check", str(good), code=3).stderr == f"svid: svid.toml: loras.gone: {where}\n"
    assert f"LoRA gone: {where}" in run(Home(home.root), "doctor", code=1).stdout


def test_a_device_that_torch_does_not_find_is_named(tmp_path: Path, good: Path) -> None:
    home = configured(quick_home(tmp_path / "home"), 'device = "auto"', 'device = "cuda:77"')
    expected = "svid.toml: render.device: expected a device that torch finds, found 'cuda:77'"
    assert expected in run(home, "check", str(good), code=2).stderr
    assert expected in run(home, "doctor", code=1).stdout


def test_a_prompt_whose_end_the_model_would_not_see_is_refused(home: Home, tmp_path: Path, good: Path) -> None:
    long = good.with_name("long.toml")
    long.write_text(
        good.read_text().replace("the camera makes a hard cut", f"{'a red star ' * 300}the camera makes a hard cut")
    )
    said = run(home, "check", str(long), code=3).stderr
    assert "long.toml: cuts[0].prompt: expected at most 512 tokens, found " in said
    assert said.endswith("(the model would not see the rest)\n")


@pytest.mark.parametrize("name", [".hidden", "~$harbour", "a.sync-conflict-1", "…", "x" * 250, "港" * 83])
def test_what_is_submitted_is_looked_at_whatever_it_is_called(home: Home, good: Path, name: str) -> None:
    odd = good.with_name(f"{name}.toml")
    good.rename(odd)
    for _ in range(2):
        run(home, "submit", str(odd))
    waiting = manifests(home)
    assert len(waiting) == 2
    found = data(home, "status")["inbox"]
    assert found == {"manifests": sorted(file.name for file in waiting), "not_manifests": []}


def test_status_says_what_waits_in_the_inbox(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    (home.inbox / "\x1b]0;x\x07.txt").touch()
    for number in range(12):
        (home.inbox / f"job{number:02}.toml").touch()
    said = run(home, "status").stdout
    assert "in the inbox: job00.toml, job01.toml" in said
    assert "job09.toml and 2 more\n" in said
    assert "in the inbox, but no manifests: _]0;x_.txt" in said


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
prompt = "the camera makes a hard cut"
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
    assert [one["prompt"] for one in segments] == ["boats", "the camera makes a hard cut", "gulls"]
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
    assert written["cuts"] == [{"segment": 2, "prompt": "the camera makes a hard cut"}]
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
    marked = b"\xef\xbb\xbf" + json.dumps({"image": "harbour.png", "prompts": ["one"]}).encode()
    assert Path(run(home, "submit", "-", stdin=marked).stdout.strip()).suffix == ".json"


@pytest.mark.parametrize("number", ["²", "--1", "9" * 20, "1.5", ""])
def test_what_is_no_number_of_a_segment_is_no_reference(home: Home, number: str) -> None:
    assert "no video has this id or name" in run(home, "extend", f"harbour at dawn@{number}", code=4).stderr


def test_zero_is_said_and_not_left_out(home: Home) -> None:
    run(home, "extend", "harbour at dawn", "--seed", "0")
    run(home, "branch", "harbour at dawn@1", "--segments", "0", "--name", "shore")
    run(home, "redo", "harbour at dawn", "--seed", "0")
    written = [json.loads(file.read_text()) for file in manifests(home)]
    assert sorted(written, key=str) == [
        {"branch": "harbour at dawn@1", "name": "shore", "segments": 0},
        {"extend": "harbour at dawn", "seed": 0},
        {"redo": "harbour at dawn", "seed": 0},
    ]


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
    assert "did you mean 'harbour at dawn'" in run(home, "extend", "harbour at down", code=4).stderr
    assert "there is no segment 7" in run(home, "branch", "harbour at dawn@7", code=4).stderr
    assert "VIDEO@SEGMENT" in run(home, "branch", "harbour at dawn", code=3).stderr
    assert manifests(home) == []


def test_what_the_verbs_write_is_rendered(cli_bench: Workbench, home: Home) -> None:
    from svid.inbox.accept import accept
    from svid.inbox.claim import claim

    run(home, "branch", "harbour at dawn@1", "--name", "by verb", "--prompt", "rain")
    claimed = claim(manifests(home)[0], home.claimed, "bench")
    assert claimed is not None
    accept(cli_bench.desk, claimed)
    cli_bench.work()
    assert len(data(home, "show", "by verb")["segments"]) == 2


def test_a_path_that_can_not_be_written_is_one_line(home: Home, tmp_path: Path) -> None:
    nowhere = tmp_path / "file" / "x"
    nowhere.parent.write_text("no folder")
    assert run(home, "backup", str(nowhere), code=2).stderr == f"svid: {nowhere}: Not a directory\n"


def test_what_stdout_has_no_letters_for_is_escaped(home: Home) -> None:
    segment = data(home, "show", "harbour at dawn")["segments"][0]["id"]  # with the Chinese negative prompt
    assert "\\u" in svid(home, "show", segment, PYTHONIOENCODING="ascii").stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("asked", ["status", "--help"])
def test_a_full_stdout_is_not_the_database(home: Home, asked: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "svid", "--home", str(home.root), asked]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (75, "svid: No space left on device (free some space)\n")
