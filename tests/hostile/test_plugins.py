"""Plugins that raise, hang, leak, exit, write where they should not, or change weights."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from svid.daemon.child import Child
from svid.daemon.wire import Wire
from svid.errors import MAX_PROBLEMS, ManifestError, Problem, Refused, StageError
from svid.home import Home
from svid.manifest.read import Known, validate
from svid.plugin.quiet import stdout_aside
from svid.render.weights import changed, fingerprint
from tests.conftest import quick_home, svid
from tests.e2e.tools import bench_in, new

PYTHON = sys.executable
HOSTILE = """
import os, sys
import svid

print("import")

@svid.hookimpl
def svid_recipes():
    print("recipes")
    os.system("echo from a program")
    sys.__stdout__.write("by name")
    return []

@svid.hookimpl(wrapper=True)
def svid_sample(job, segment, model, conditioning, progress):
    if segment.prompt == "exit":
        sys.exit(3)
    if segment.prompt == "surrogate":
        raise ValueError("\\ud800 \\x1b[2J " + "x" * 100_000)
    answer = yield
    if segment.prompt == "weights":
        for parameter in model.experts["low"].parameters():
            parameter.data.mul_(1.01)
    return answer

@svid.hookimpl
def svid_event(event):
    raise RuntimeError("an event")
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bench_in(tmp_path_factory.mktemp("hostile") / "home", hostile=HOSTILE)


def _errors(bench: Any) -> str:
    newest = max(bench.home.failed.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    text = (newest / "error.json").read_text(encoding="utf-8")
    assert len(text) < 20_000
    return json.loads(text)["errors"][0]["message"]


def test_what_a_plugin_raises_is_told_in_text_that_can_be_shown(bench: Any) -> None:
    with pytest.raises(StageError, match="plugin hostile raised ValueError"):
        bench.run(new("a", "surrogate"))
    assert _errors(bench).isprintable()
    with pytest.raises(StageError, match="raised SystemExit: 3"):
        bench.run(new("b", "exit"))


def test_a_plugin_that_changes_weights_fails_its_job_alone(bench: Any) -> None:
    before = bench.run(new("before", "fine"))
    with pytest.raises(StageError, match=r"expected weights that stay as they are, found .* parameters changed"):
        bench.run(new("c", "weights"))
    assert "experts.low." in _errors(bench)
    after = bench.run(new("after", "fine", reuse=False))
    keys = [shown["segments"][0]["latents"] for shown in (before, after)]
    assert keys[0] == keys[1], "the model is a fresh one"


def test_the_fingerprint_sees_tensors_and_passes_over_what_was_moved() -> None:
    class Model:
        def __init__(self) -> None:
            self.experts = {"high": torch.nn.Linear(8, 8), "low": torch.nn.Linear(8, 8)}
            self.other = 5

    model = Model()
    before = fingerprint(model)
    assert sorted(name.partition(" ")[0] for name in before)[0] == "experts.high.bias"
    assert changed(before, fingerprint(model)) == []
    model.experts["low"].bias.data.add_(1)
    model.experts["high"] = model.experts["high"].to(torch.bfloat16)
    assert changed(before, fingerprint(model)) == ["experts.low.bias"]
    assert fingerprint(object()) == fingerprint(None) == {}


def test_stdout_is_svid_s_own(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    (home.plugins / "hostile.py").write_text(HOSTILE)
    done = svid(home, "recipes", "--json")
    json.loads(done.stdout)
    for words in ("import", "recipes", "from a program", "by name"):
        assert words in done.stderr


def test_stdout_comes_back() -> None:
    code = (
        "import os, sys\nfrom svid.plugin.quiet import stdout_aside\nprint('one')\n"
        "with stdout_aside():\n  print('two'); os.write(1, b'three\\n')\n"
        "  with stdout_aside(): print('four')\nprint('five')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["one", "five"]
    assert sorted(done.stderr.split()) == ["four", "three", "two"]
    with stdout_aside(), stdout_aside():
        pass


def test_options_whose_validator_raises_are_the_plugin_s_fault() -> None:
    from pydantic import BaseModel, field_validator

    class Options(BaseModel):
        level: int = 0

        @field_validator("level")
        @classmethod
        def _check(cls, value: int) -> int:
            raise RuntimeError("oh \x1b[2J")

    data = {"image": "a.png", "prompts": ["a"], "options": {"bad": {"level": 3}}}
    with pytest.raises(ManifestError, match=r"options\.bad: the plugin bad failed to check its options: RuntimeError"):
        validate(data, "m", {"bad": Options}, Known())


@pytest.mark.parametrize("rubbish", [b"hello\n", b"[1]\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n"])
def test_rubbish_on_the_wire_is_the_end_of_the_child(rubbish: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire, data = Wire(ours), b'{"event": "step"}\n' + rubbish
        theirs.sendall(data)
        found: Any = []
        while found is not None:
            found = wire.receive()
            if found:
                assert found == [{"event": "step"}]
        wire.close()


@pytest.fixture
def child(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(script: str) -> Child:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr("svid.daemon.child.sys.executable", str(file))
        with (tmp_path / "lock").open("w") as lock:
            return Child(home, lock.fileno())

    return start


def test_a_silent_child_is_ended_and_the_reason_said(child: Any) -> None:
    silent = child("exec sleep 60")
    assert not silent.lost(0.01, 60), "it has no job"
    silent.render("j1", 1, {})
    assert not silent.lost(0.0, 60), "0 is never"
    assert not silent.lost(60.0, 60)
    time.sleep(0.05)
    assert silent.lost(0.05, 60)
    assert silent.bury() == "it said nothing for 0.05 seconds ([daemon] hang_seconds) and was ended"


def test_a_child_that_left_its_wire_to_another_is_missed(child: Any) -> None:
    forked = child("sleep 20 & exit 7")
    forked.render("j1", 1, {})
    forked.process.wait(10)
    assert forked.lost(0.0, 60)
    assert forked.bury() == "it exited with status 7"


def test_last_words_are_heard_before_a_child_is_buried(child: Any) -> None:
    spoke = child(f"""exec {PYTHON} -c 'import os, sys; os.write(int(sys.argv[1]), b"{{\\"event\\": 1}}\\n")' "$4" """)
    spoke.process.wait(10)
    assert not spoke.lost(0.0, 60)
    assert spoke.wire.receive() == [{"event": 1}]
    spoke.bury()


def test_a_plugin_that_broke_since_the_daemon_began_fails_the_job(home: Home) -> None:
    from svid.daemon.worker import serve

    (home.plugins / "broken.py").write_text("raise ImportError('gone')\n")
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    wire.send({"do": "render", "job": "j1", "attempt": 1})
    serve(home, Wire(theirs))
    (outcome,) = wire.receive() or []
    assert (outcome["outcome"], outcome["job"]) == ("failed", "j1")
    assert "can't be imported: ImportError: gone" in outcome["errors"][0]["message"]
    wire.close()
    theirs.close()


def test_errors_are_of_bounded_length_and_of_plain_text() -> None:
    error = Refused([Problem("a\nb", "\x1b]0;x\x07", "y" * 10**6, "\u202e\udc80")] * 5000)
    assert len(error.problems) == MAX_PROBLEMS + 1
    assert len(str(error)) < 600_000
    assert str(error.problems[0]).startswith("a b: \\u001b]0;x\\u0007: yyy")
    assert str(error).encode()
    assert error.problems[-1].message == "and 4800 more; these are the first 200"
