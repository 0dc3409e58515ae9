"""A training run that may be killed at any time: checkpoints, a log of JSON lines, steps that depend on their number.

Every batch is drawn from a seed made of the stage and the step, so no generator's state is part of a checkpoint.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from optim import schedule

SAVE_EVERY = 120.0
"""Seconds between two checkpoints."""


@dataclass
class Run:
    """One stage: what is trained and where it is kept. `parts` have state_dict and load_state_dict."""

    name: str
    folder: Path
    steps: int
    parts: dict[str, Any]
    optimizers: list[torch.optim.Optimizer]
    seed: int = 0
    warm: float = 0.01
    hold: float = 0.4
    log_every: int = 50
    step: int = 0
    seconds: float = 0.0
    _totals: dict[str, list[float]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / f"{self.name}.pt"

    def log(self, **values: Any) -> None:
        """Print one line and append it to the log."""
        line = json.dumps({"stage": self.name, "step": self.step, "seconds": round(self.seconds, 1), **values})
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def save(self) -> None:
        """Write the checkpoint beside the old one and put it in its place, so that one of them is always whole."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {f"optimizer{i}": o.state_dict() for i, o in enumerate(self.optimizers)}
        state |= {"step": self.step, "seconds": self.seconds}
        draft = self.path.with_suffix(".tmp")
        torch.save(state, draft)
        draft.replace(self.path)

    def resume(self) -> None:
        """Go on from the checkpoint where there is one."""
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state[f"optimizer{i}"])
        self.step, self.seconds = state["step"], state["seconds"]

    def note(self, **values: float) -> None:
        """Add to the means that the next log line shows."""
        for name, value in values.items():
            self._totals.setdefault(name, []).append(value)

    def _rates(self) -> list[tuple[dict[str, Any], float]]:
        """Every optimizer's groups and the rates that they were made with, which a checkpoint keeps."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in groups:
            group.setdefault("base", group["lr"])
        return [(group, group["base"]) for group in groups]

    def _update(self, step: Callable[[int, float], torch.Tensor], rates: list[tuple[dict[str, Any], float]]) -> float:
        """One step; returns the factor on the rates."""
        progress = self.step / self.steps
        factor = schedule(progress, self.warm, self.hold)
        for group, base in rates:
            group["lr"] = base * factor
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        step(self.step, progress).backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return factor

    def train(
        self,
        step: Callable[[int, float], torch.Tensor],
        after: Callable[[int], None] | None = None,
        evaluate: Callable[[], dict[str, float]] | None = None,
        evaluate_every: int = 1000,
    ) -> None:
        """Run from where it stands to the end. `step(number, progress)` returns the loss, `after` follows an update.

        SIGTERM and SIGINT save and stop; after a SIGKILL the last checkpoint is at most SAVE_EVERY old."""
        self.resume()
        rates = self._rates()
        self.log(event="start", steps=self.steps, **machine())
        saved = began = time.monotonic()
        before = self.seconds
        with caught() as stops:
            while self.step < self.steps:
                factor = self._update(step, rates)
                if after is not None:
                    after(self.step)
                now = time.monotonic()
                self.seconds = before + now - began
                if self.step % self.log_every == 0:
                    self._log_means(factor)
                last = self.step == self.steps
                if last or stops or now - saved > SAVE_EVERY:
                    self.save()
                    saved = now
                if evaluate is not None and (last or self.step % evaluate_every == 0):
                    self.log(**{k: round(v, 4) for k, v in evaluate().items()})
                if stops:
                    self.log(event="stopped")
                    sys.exit(128 + stops[0])
        self.log(event="end")

    def _log_means(self, factor: float) -> None:
        self.log(lr=round(factor, 4), **{k: round(sum(v) / len(v), 5) for k, v in sorted(self._totals.items())})
        self._totals.clear()


@contextmanager
def caught() -> Iterator[list[int]]:
    """A list that the signals appear in which ask for an end, for as long as this lasts: what comes after a run in the
    same process ends by them as ever."""
    stops: list[int] = []
    before = {one: signal.signal(one, lambda got, _: stops.append(got)) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stops
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def machine() -> dict[str, Any]:
    """What a run ran on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
