import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import Run
from torch import nn

MINI = Path(__file__).resolve().parents[2] / "mini"


def whole_run(folder, steps):
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    run = Run("toy", folder, steps, {"model": layer}, [torch.optim.AdamW(layer.parameters(), 0.01)], log_every=5)
    return layer, run


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    def step_of(layer):
        return lambda number, progress: (layer(torch.randn(8, 4)) - 1).square().mean()

    layer, run = whole_run(tmp_path / "a", 20)
    (tmp_path / "a").mkdir()
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    run.train(step_of(layer))
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    (tmp_path / "b").mkdir()
    other, begun = whole_run(tmp_path / "b", 20)
    begun.steps = 20
    step = step_of(other)

    def stopping(number, progress):
        if number == 8:
            signal.raise_signal(signal.SIGTERM)
        return step(number, progress)

    with pytest.raises(SystemExit):
        begun.train(stopping)
    again, resumed = whole_run(tmp_path / "b", 20)
    resumed.train(step_of(again))
    assert resumed.step == 20
    assert torch.equal(layer.weight, again.weight)
    events = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if "event" in e] == ["start", "stopped", "start", "end"]
    assert events[0]["torch"] == torch.__version__


@pytest.mark.slow
def test_the_command_trains_and_is_killed_and_goes_on(tmp_path):
    command = [sys.executable, str(MINI / "train.py"), "vae", "--out", str(tmp_path), "--steps", "3", "--base", "4"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 3
    assert last["event"] == "end"
