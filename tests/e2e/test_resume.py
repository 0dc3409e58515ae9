"""A job interrupted at a denoising step goes on there, to the same ids, with the LoRAs of the step that is next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from svid.errors import Cancelled
from svid.render.checkpoint import Pace
from svid.render.watch import Watch
from svid.store import queue
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, rows

pytestmark = pytest.mark.slow

STEPS = 4
LORAS = [{"name": "svi-2.0-pro", "steps": [1, 2]}, {"name": "svi-2.0-wan22", "high": 0.7, "low": 0.4, "steps": [3, 3]}]
"""Each interruption but the last is followed by a step with other LoRAs than the first step has, or the same."""


def manifest(name: str = "a", **more: Any) -> dict[str, Any]:
    return new(name, "one", "two", **{"loras": LORAS, "sample": {"steps": STEPS, "sampler": "unipc"}} | more)


def interrupted(bench: Workbench, at: Mapping[int, int]) -> list[tuple[str, int, int]]:
    """Do the next job, stopping it once after the step `at[index]` of each segment; returns (event, index, step)."""
    seen: list[tuple[str, int, int]] = []
    left = dict(at)
    # Without a clock every step is due.
    bench.studio.pace = Pace(0, lambda: 0.0)

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] in ("step", "resumed", "committed"):
            seen.append((event["event"], event["index"], event.get("step", event.get("after", 0))))
        if event["event"] == "step" and left.get(event["index"]) == event["step"]:
            del left[event["index"]]
            watch.stop_now = True

    for _ in range(len(at)):
        watch = Watch(tell)
        with pytest.raises(Cancelled):
            bench.work(watch)
        ((job, attempt),) = rows(bench.home, "SELECT id, attempt FROM job WHERE state = 'running'")
        queue.release(bench.store, job, attempt, "stopped")
        assert len(list(bench.home.snapshots.iterdir())) == 1
    watch = Watch(tell)
    bench.work(watch)
    return seen


def outcome(bench: Workbench) -> tuple[Any, ...]:
    video = bench.show("a")
    return [one["id"] for one in video["segments"]], [one["sha256"] for one in video["artifacts"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    bench = bench_in(tmp_path_factory.mktemp("whole") / "home")
    bench.run(manifest())
    return outcome(bench)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_resumed_job_gives_the_same_ids_and_runs_no_step_twice(
    step: int, tmp_path: Path, whole: tuple[Any, ...]
) -> None:
    bench = bench_in(tmp_path / "home")
    bench.accept(manifest())
    seen = interrupted(bench, {0: step, 1: STEPS + 1 - step})
    assert outcome(bench) == whole
    for index, stopped in ((0, step), (1, STEPS + 1 - step)):
        own = [(event, at) for event, at_index, at in seen if at_index == index]
        before = [("step", one) for one in range(1, stopped + 1)]
        after = [("step", one) for one in range(stopped + 1, STEPS + 1)]
        assert own == [*before, ("resumed", stopped), *after, ("committed", 0)]
    assert list(bench.home.snapshots.iterdir()) == [], "a committed segment needs none"
    resumed = [json.loads(env)["resumed"] for (env,) in rows(bench.home, 'SELECT env FROM segment ORDER BY "index"')]
    assert resumed == [step, STEPS + 1 - step], "its circumstances say that it went on"


def test_the_loras_of_the_step_that_is_next_are_what_decides(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    """Else the test above would show nothing of them."""
    bench = bench_in(tmp_path / "home")
    bench.run(manifest(loras=[{**LORAS[0], "steps": [1, 3]}, LORAS[1]]))
    assert outcome(bench)[0] != whole[0]


def test_a_spoilt_snapshot_costs_the_steps_and_nothing_else(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    bench = bench_in(tmp_path / "home")
    bench.accept(manifest())
    seen: list[tuple[str, int, int]] = []

    class Spoiling(Pace):
        """Spoils what is there before the job goes on."""

        def begin(self) -> None:
            super().begin()
            for file in bench.home.snapshots.glob("*.safetensors"):
                data = bytearray(file.read_bytes())
                data[-1] ^= 1
                file.write_bytes(data)

    stopping = Watch(lambda event: None)

    def stop(event: Mapping[str, Any]) -> None:
        stopping.stop_now |= event["event"] == "step" and event["step"] == 2

    stopping.tell = stop
    bench.studio.pace = Spoiling(0, lambda: 0.0)
    with pytest.raises(Cancelled):
        bench.work(stopping)
    ((job, attempt),) = rows(bench.home, "SELECT id, attempt FROM job WHERE state = 'running'")
    queue.release(bench.store, job, attempt, "stopped")
    bench.work(Watch(lambda event: seen.append((event["event"], event.get("index", 0), event.get("step", 0)))))
    assert outcome(bench) == whole
    assert ("resumed", 0, 0) not in seen
    assert [step for event, index, step in seen if event == "step" and index == 0] == list(range(1, STEPS + 1))
    assert [file.suffix for file in bench.home.snapshots.iterdir()] == [".damaged"]


def test_a_job_that_is_told_to_stop_keeps_the_step_at_which_it_ends(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    bench = bench_in(tmp_path / "home")
    assert bench.home.config.render.snapshot_seconds == 30
    bench.accept(manifest())
    told = Watch(lambda event: None)

    def stop(event: Mapping[str, Any]) -> None:
        told.stop_now |= event["event"] == "stage" and event["stage"] == "sample"

    told.tell = stop
    with pytest.raises(Cancelled):
        bench.work(told)
    assert len(list(bench.home.snapshots.iterdir())) == 1, "though no 30 seconds have passed"
    ((job, attempt),) = rows(bench.home, "SELECT id, attempt FROM job WHERE state = 'running'")
    queue.release(bench.store, job, attempt, "stopped")
    seen: list[Mapping[str, Any]] = []
    bench.work(Watch(seen.append))
    assert [(event["after"], event["of"]) for event in seen if event["event"] == "resumed"] == [(1, STEPS)]
    assert outcome(bench) == whole


def test_a_sampler_that_knows_nothing_of_checkpoints_works_as_ever(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    sampler = bench.home.root / "plugins/plain.py"
    sampler.write_text(
        "import torch\nfrom svid import hookimpl\n\n@hookimpl\n"
        "def svid_sample(segment, progress):\n"
        "    for step in (1, 2):\n        progress(step, 2)\n"
        "    return {'latents': torch.zeros(segment.latent_shape)}\n"
    )
    plain = bench_in_again(bench)
    plain.accept(new("a", "one"))
    assert [one for one in interrupted(plain, {}) if one[0] == "step"] == [("step", 0, 1), ("step", 0, 2)]
    assert list(plain.home.snapshots.iterdir()) == []


def bench_in_again(bench: Workbench) -> Workbench:
    """The same home with the plugins that it has now."""
    from svid.cli.open import desk_of

    return Workbench(bench.home, desk_of(bench.home))


def test_what_is_stopped_while_it_decodes_samples_nothing_again(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    """With steps of ten seconds and 30 between two snapshots, the last step comes too early for one of its own."""
    bench, seconds = bench_in(tmp_path / "home"), [0.0]
    bench.studio.pace = Pace(30, lambda: seconds[0])
    bench.accept(manifest())
    told: list[tuple[str, int]] = []

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "step":
            seconds[0] += 10
        if event["event"] == "stage" and event["stage"] == "decode" and not told:
            told.append(("stopped", 0))
            raise Cancelled
        if told and event["event"] in ("resumed", "step") and event["index"] == 0:
            told.append((event["event"], event.get("after", event.get("step"))))

    with pytest.raises(Cancelled):
        bench.work(Watch(tell))
    ((job, attempt),) = rows(bench.home, "SELECT id, attempt FROM job WHERE state = 'running'")
    queue.release(bench.store, job, attempt, "stopped")
    bench.work(Watch(tell))
    assert told == [("stopped", 0), ("resumed", STEPS)]
    assert outcome(bench) == whole
