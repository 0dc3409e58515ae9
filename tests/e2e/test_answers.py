"""Promises 1 and 7: a dropped file is always answered and never deleted, and a bad manifest, picture, checkpoint or
plugin fails its own job, not the daemon. All of it at once, in one inbox and one run of the daemon."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from svid.config import EMBEDDED
from svid.home import Home
from svid.inbox.scan import LARGEST
from svid.store.files import sha256_of
from tests.conftest import quick_home, svid
from tests.e2e.tools import frames_of, rows

pytestmark = pytest.mark.slow

MAX_ATTEMPTS = 2

CONFIG = """
[loras.unused]
high = "bad/unused.safetensors"

[loras.nothing]
high = "bad/nothing.safetensors"

[models.truncated]
path = "bad/truncated"

[models.lacking]
path = "bad/lacking"
"""

MOODY = '''"""Fails at what some prompts ask for."""

import os
import signal

import svid


@svid.hookimpl(wrapper=True)
def svid_decode(segment):
    if segment.prompt == "raise":
        raise ValueError("not in the mood")
    if segment.prompt == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return (yield)
'''

BASE = """\
image = "{image}"
prompts = ["{prompt}"]
frames = 9
width = 32
height = 32
"""
END = "\n[sample]\nsteps = 2\n"


def small(prompt: str = "boats", image: str = "harbour.png", head: str = "", tail: str = "") -> bytes:
    """A good small manifest, with something of a case's own at the top or in tables at the end."""
    return (head + BASE.format(image=image, prompt=prompt) + END + tail).encode()


@dataclass(frozen=True)
class Bad:
    """A manifest that must be refused, and what its error.json must say: parts of (file, where, message, hint)."""

    data: bytes
    says: tuple[tuple[str, str, str, str], ...]


TYPES = b"""\
image = 3
prompts = ["", "x"]
frames = 10
width = "wide"
seed = -1
segments = 1.5

[sample]
steps = 0
"""

BAD: Mapping[str, Bad] = {
    "syntax.toml": Bad(b'image = "harbour.png"\nprompts = ["x\n', (("", "line 2", "", ""),)),
    "bytes.toml": Bad(b'image = "caf\xe9.png"\n', (("", "", "UTF-8", ""),)),
    "array.json": Bad(b"[1, 2]", (("", "", "a list", ""),)),
    "types.toml": Bad(
        TYPES,
        (
            ("", "image", "expected text, found 3", ""),
            ("", "prompts[0]", "found", ""),
            ("", "frames", "such as 9 or 13", ""),
            ("", "width", 'expected a whole number, found "wide"', ""),
            ("", "seed", "expected at least 0, found -1", ""),
            ("", "segments", "expected a whole number, found 1.5", ""),
            ("", "sample.steps", "expected at least 1, found 0", ""),
        ),
    ),
    "keys.toml": Bad(
        small(head='promts = ["x"]\n', tail="step = 3\n"),
        (("", "promts", "unknown key", "prompts"), ("", "sample.step", "unknown key", "steps")),
    ),
    "names.toml": Bad(
        small(head='recipe = "svi-2.0-por"\n', tail='sampler = "eular"\n'),
        (("", "recipe", "", "svi-2.0-pro"), ("", "sample.sampler", "", "euler")),
    ),
    "empty.toml": Bad(b"", (("", "", "is empty", ""),)),
    "big.toml": Bad(b"#" * (LARGEST + 1), (("", "", f"{LARGEST + 1} bytes", ""),)),
    "nowhere.toml": Bad(small(image="nowhere.png"), (("", "image", "nowhere.png: there is no such file", "relative"),)),
    "upwards.toml": Bad(small(image="../../secret.png"), (("", "image", "outside", "[media] roots"),)),
    "absolute.toml": Bad(small(image="@HOME@/secret.png"), (("", "image", "outside", "[media] roots"),)),
    "door.toml": Bad(small(image="door.png"), (("", "image", "outside", "[media] roots"),)),
    "pickle.toml": Bad(small(image="pickle.png"), (("", "image", "pickle.png", ""),)),
    "stranger.toml": Bad(b'extend = "nobody"\n', (("", "extend", "'nobody'", ""),)),
    "past-the-end.toml": Bad(
        small(tail='\n[[cuts]]\nsegment = 2\nprompt = "the camera makes a hard cut"\n'),
        (("", "cuts[0].segment", "1", ""),),
    ),
    "overlap.toml": Bad(
        small(head="segments = 2\n").replace(b"frames = 9", b"frames = 5"), (("", "frames", "more than 5", ""),)
    ),
    "lora.toml": Bad(
        small(tail='\n[[loras]]\nname = "svi-2.0-por"\n'), (("", "loras[0].name", "", "did you mean svi-2.0-pro"),)
    ),
    "unused.toml": Bad(
        small(tail='\n[[loras]]\nname = "unused"\n'),
        (("unused.safetensors", "blocks.99.self_attn.q.lora_A.default.weight", "the high-noise expert", ""),),
    ),
    "nothing.toml": Bad(
        small(tail='\n[[loras]]\nname = "nothing"\n'), (("nothing.safetensors", "", "only zeros", "never trained"),)
    ),
    "truncated.toml": Bad(
        small(head='recipe = "i2v"\nmodel = "truncated"\n'),
        (("truncated/vae/diffusion_pytorch_model.safetensors", "", "", ""),),
    ),
    "lacking.toml": Bad(
        small(head='recipe = "i2v"\nmodel = "lacking"\n'), (("lacking/transformer", "blocks.0.attn1", "", ""),)
    ),
    "raises.toml": Bad(
        small("raise", head='name = "moody"\n'),
        (("moody.py", "line 12", "plugin moody raised ValueError: not in the mood", ""),),
    ),
    # Dropped together with the one above, which is accepted and then fails.
    "follows.toml": Bad(b'extend = "moody"\nprompts = ["x"]\n', (("", "extend", "no segment", ""),)),
    "dies.toml": Bad(small("die"), (("", "", f"died {MAX_ATTEMPTS} times in a row", ""),)),
}
GOOD = {"good.toml": small(), "last.toml": small("gulls")}
ORDER = [*list(BAD)[:10], "good.toml", *list(BAD)[10:], "last.toml"]


@dataclass(frozen=True)
class Answered:
    """What is there after the run."""

    home: Home
    done: subprocess.CompletedProcess[str]
    dropped: Mapping[str, bytes]
    beside: Mapping[str, bytes]

    def answers(self, folder: Path) -> dict[bytes, Path]:
        """The folders of one kind of answer by the manifest in them."""
        return {file.read_bytes(): file.parent for file in folder.glob("*/manifest.*") if not file.is_symlink()}

    def errors(self, name: str) -> list[dict[str, str]]:
        """The errors that a manifest was answered with."""
        folder = self.answers(self.home.failed)[self.dropped[name]]
        errors: list[dict[str, str]] = json.loads((folder / "error.json").read_text())["errors"]
        return errors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    home = quick_home(tmp_path_factory.mktemp("answers") / "home")
    config = home.root / "svid.toml"
    text = config.read_text().replace("settle = 0.2", f"settle = 0.2\nmax_attempts = {MAX_ATTEMPTS}")
    config.write_text(text + CONFIG)
    (home.plugins / "moody.py").write_text(MOODY)
    bad_files(home.root / "bad")
    shutil.copyfile(home.inbox / "harbour.png", home.root / "secret.png")
    (home.root / "elsewhere.toml").write_bytes(small())
    dropped = {name: bad.data.replace(b"@HOME@", str(home.root).encode()) for name, bad in BAD.items()} | GOOD
    (home.inbox / "pickle.png").write_bytes(pickle.dumps({"code": print}))
    (home.inbox / "door.png").symlink_to(home.root / "secret.png")
    (home.inbox / "notes.txt").write_text("not a manifest")
    (home.inbox / "folder.toml").mkdir()
    beside = {file.name: file.read_bytes() for file in home.inbox.iterdir() if file.is_file()}
    for age, name in enumerate(ORDER):
        file = home.inbox / name
        file.write_bytes(dropped[name])
        os.utime(file, (1_700_000_000 + age,) * 2)
    (home.inbox / "link.toml").symlink_to(home.root / "elsewhere.toml")
    return Answered(home, svid(Home(home.root), "up", "--once", check=False), dropped, beside)


def bad_files(folder: Path) -> None:
    """LoRAs and model folders with something wrong in each."""
    lora = load_file(EMBEDDED / "wan22-mini-loras/svi-2.0-pro_high.safetensors")
    folder.mkdir()
    stray = {f"blocks.99.self_attn.q.lora_{half}.default.weight": torch.ones(4, 4) for half in "AB"}
    save_file({**lora, **stray}, folder / "unused.safetensors")
    save_file({key: torch.zeros_like(tensor) for key, tensor in lora.items()}, folder / "nothing.safetensors")
    for name in ("truncated", "lacking"):
        shutil.copytree(EMBEDDED / "wan22-mini", folder / name)
    cut = folder / "truncated/vae/diffusion_pytorch_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    lacking = folder / "lacking/transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(lacking)
    del tensors[next(key for key in sorted(tensors) if key.startswith("blocks.0.attn1"))]
    save_file(tensors, lacking)


def test_one_daemon_saw_it_all_and_says_that_jobs_failed(run: Answered) -> None:
    assert run.done.returncode == 1, run.done.stderr
    assert run.done.stderr.count("watching ") == 1
    assert len(rows(run.home, "SELECT DISTINCT worker FROM attempt")) == 1
    assert run.done.stdout == ""
    assert "unforeseen" not in run.done.stderr
    assert "fault of svid" not in run.done.stderr


def test_every_file_is_answered_as_it_was_dropped(run: Answered) -> None:
    done, failed = run.answers(run.home.done), run.answers(run.home.failed)
    assert set(done) == set(GOOD.values())
    assert set(failed) == set(run.dropped.values()) - set(GOOD.values())
    assert list(run.home.claimed.iterdir()) == []


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_are_done_among_the_bad(run: Answered, name: str) -> None:
    folder = run.answers(run.home.done)[GOOD[name]]
    result = json.loads((folder / "result.json").read_text())
    assert {"job", "video", "artifact", "segments"} <= result.keys()
    assert folder.name == result["job"]
    file = Path(result["artifact"]["path"])
    assert file.parent == folder
    assert sha256_of(file) == result["artifact"]["sha256"]
    assert frames_of(file).shape == (9, 32, 32, 3)
    assert result["artifact"]["frames"] == 9


@pytest.mark.parametrize("name", BAD)
def test_every_reason_is_named_at_its_place(run: Answered, name: str) -> None:
    errors = run.errors(name)
    for error in errors:
        assert error.keys() == {"file", "where", "message", "hint"}
        assert error["file"]
        assert error["message"]
    for file, where, message, hint in BAD[name].says:
        expected = {"file": file or name, "where": where, "message": message, "hint": hint}
        assert any(all(part in error[key] for key, part in expected.items()) for error in errors), (expected, errors)
    assert len(errors) == len(BAD[name].says), errors
    folder = run.answers(run.home.failed)[run.dropped[name]]
    for error in errors:
        assert error["message"] in (folder / "error.txt").read_text()


def test_a_link_is_answered_and_not_followed(run: Answered) -> None:
    (link,) = [file for file in run.home.failed.glob("*/manifest.*") if file.is_symlink()]
    assert link.readlink() == run.home.root / "elsewhere.toml"
    (error,) = json.loads((link.parent / "error.json").read_text())["errors"]
    assert (error["file"], "symbolic link" in error["message"]) == ("link.toml", True)
    assert (run.home.root / "elsewhere.toml").read_bytes() == small()


def test_nothing_else_is_touched(run: Answered) -> None:
    left = {file.name: file.read_bytes() for file in run.home.inbox.iterdir() if file.is_file()}
    assert left == run.beside
    assert (run.home.inbox / "folder.toml").is_dir()
    assert (run.home.inbox / "door.png").is_symlink()
    assert sha256_of(run.home.root / "secret.png") == sha256_of(run.home.inbox / "harbour.png")


def test_a_plugin_that_kills_its_process_costs_its_attempts_and_its_job_only(run: Answered) -> None:
    attempts = (
        "SELECT a.n, a.outcome, a.committed FROM attempt a JOIN job j ON j.id = a.job_id WHERE j.file = ? ORDER BY a.n"
    )
    assert rows(run.home, attempts, "dies.toml") == [(n, "crashed", 0) for n in range(1, MAX_ATTEMPTS + 1)]
    assert rows(run.home, attempts, "last.toml") == [(1, "done", 1)]
    (error,) = run.errors("dies.toml")
    assert "signal 9 (SIGKILL" in error["message"]


def test_work_that_failed_leaves_no_segment(run: Answered) -> None:
    videos: list[tuple[Any, ...]] = rows(run.home, "SELECT name FROM video WHERE tip_id IS NOT NULL ORDER BY name")
    assert videos == [("good",), ("last",)]
    assert rows(run.home, "SELECT count(*) FROM segment") == [(2,)]
