"""Memory plans: their order, what counts as running out, and that what computes is on the device and little else is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from pydantic import ValidationError

from svid.cli.open import desk_of
from svid.config import RenderTable
from svid.daemon.ladder import Ladder
from svid.errors import StageError, WeightsError
from svid.home import Home
from svid.memory import ANY, PLANS, first_plan, ran_out, smaller
from svid.render.env import circumstances, deciding_bits
from svid.wan.memory import AWAY, Placement, at_hand
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import bench_in, new, rows

NAMES = [plan.name for plan in PLANS]


def test_every_plan_has_a_smaller_one_but_the_last() -> None:
    assert [smaller(name) for name in NAMES] == [*NAMES[1:], None]
    assert first_plan("auto") == NAMES[0]
    assert [first_plan(name) for name in NAMES] == NAMES


def test_svid_toml_takes_the_plans_and_auto_and_nothing_else() -> None:
    for name in ("auto", *NAMES):
        assert RenderTable(memory=name).memory == name
    with pytest.raises(ValidationError):
        RenderTable(memory="small")


def test_the_ladder_remembers_what_each_model_needs() -> None:
    ladder = Ladder("auto")
    out = {"outcome": "out of memory", "detail": "full"}
    first = ladder.met({"model": "a", "memory": "resident", "size": "8 x 8"}, out)
    assert first == {**out, "model": "a", "memory": "resident", "next": "one-expert", "size": "8 x 8"}
    assert ladder.met({"model": "a", "memory": "streamed"}, out)["next"] is None
    assert ladder.plans == {"a": "one-expert"}


def test_before_a_model_was_named_every_model_steps_down() -> None:
    ladder, out = Ladder("auto"), {"outcome": "out of memory", "detail": "full"}
    met = [ladder.met({}, out) for _ in NAMES]
    assert [(one["memory"], one["next"]) for one in met] == list(zip(NAMES, [*NAMES[1:], None], strict=True))
    assert {one["model"] for one in met} == {ANY}
    assert ladder.plans == {ANY: NAMES[-1]}


def test_a_plan_that_was_written_down_is_kept_to() -> None:
    ladder = Ladder("resident")
    assert ladder.met({"model": "a", "memory": "resident"}, {})["next"] is None
    assert ladder.met({}, {})["next"] is None
    assert ladder.plans == {}


def torch_on_a_cpu() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize("make", [torch_on_a_cpu, lambda: torch.OutOfMemoryError("CUDA"), MemoryError])
def test_memory_that_ran_out_is_found_behind_other_errors(make: Callable[[], Exception]) -> None:
    error = make()
    assert ran_out(error)
    with pytest.raises(StageError) as caught:
        raise StageError("x") from error
    assert ran_out(caught.value)


def test_other_errors_have_nothing_to_do_with_memory() -> None:
    assert not any(map(ran_out, (RuntimeError("a shape"), WeightsError("x"), OSError(12, "no"), None)))


class Fake:
    """A part that tells where it is moved."""

    def __init__(self, name: str, moves: list[tuple[str, str]]) -> None:
        self.name, self.moves = name, moves

    def to(self, device: torch.device) -> None:
        self.moves.append((self.name, device.type))


def test_one_part_is_on_the_device_at_a_time() -> None:
    moves: list[tuple[str, str]] = []
    placement = Placement(torch.device("meta"))
    one, two = Fake("one", moves), Fake("two", moves)
    for part in (one, one, two, one):
        part.svid_placement = placement  # type: ignore[attr-defined]
        assert at_hand(part) is part
    here, away = "meta", AWAY.type
    assert moves == [("one", here), ("one", away), ("two", here), ("two", away), ("one", here)]


def test_what_is_not_placed_stays_where_it_is() -> None:
    part = Fake("one", [])
    assert at_hand(part) is part
    assert part.moves == []


def test_a_model_that_is_let_go_of_goes_at_once() -> None:
    placement, part = Placement(AWAY), torch.nn.Linear(2, 2)
    part.svid_placement = placement  # type: ignore[assignment]
    seen = weakref.ref(at_hand(part))
    del part
    assert seen() is None


def test_the_plan_is_none_of_what_decides_bits() -> None:
    found = circumstances("cpu")
    assert deciding_bits(found | {"memory": "resident"}) == deciding_bits(found | {"memory": "streamed"})


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The ids of the segments of a chain, everything on the device."""
    bench = bench_in(tmp_path_factory.mktemp("resident") / "home")
    return [one["id"] for one in bench.run(new("a", "one", "two"))["segments"]]


@pytest.mark.parametrize("plan", NAMES)
def test_every_plan_gives_the_same_segments(
    plan: str, resident: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[str] = []
    blocks: list[str] = []
    bring, onload = Placement.bring, ModuleGroup.onload_

    def heard(self: Placement, part: torch.nn.Module) -> None:
        brought.append(type(part).__name__)
        bring(self, part)

    def loaded(self: Any) -> None:
        blocks.extend(type(module).__name__ for module in self.modules)
        onload(self)

    monkeypatch.setattr(Placement, "bring", heard)
    monkeypatch.setattr(ModuleGroup, "onload_", loaded)
    home = quick_home(tmp_path / "home")
    text = (home.root / "svid.toml").read_text()
    (home.root / "svid.toml").write_text(text.replace('memory = "auto"', f'memory = "{plan}"'))
    home = Home(home.root)
    bench = Workbench(home, desk_of(home))
    assert [one["id"] for one in bench.run(new("a", "one", "two"))["segments"]] == resident
    one_at_a_time = {"UMT5EncoderModel", "AutoencoderKLWan", "WanTransformer3DModel"}
    assert set(brought) == (set() if plan == "resident" else one_at_a_time)
    assert ("WanTransformerBlock" in blocks) == (plan == "streamed")
    assert rows(home, "SELECT memory FROM attempt") == [(plan,)]
    assert rows(home, "SELECT DISTINCT json_extract(env, '$.memory') FROM segment") == [(plan,)]
