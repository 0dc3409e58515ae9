"""What a job has begun stays as it was planned, whatever recipes and svid.toml say by the time it goes on, is asked for
again or proved; in databases of older versions, which did not keep the plan, too."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.errors import Cancelled, ManifestError
from svid.home import Home
from svid.plan.again import another_seed
from svid.render.watch import Watch
from svid.store import queue
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new, rows, value

pytestmark = pytest.mark.slow

PRO = 'recipe = "svi-2.0-pro"\nmodel = "wan22-mini"\n'
WAN21 = 'recipe = "svi-2.0-wan21"\nmodel = "wan21-mini"\n'
"""Its recipe uses each prompt for two segments."""


def edited(bench: Workbench, old: str, new: str) -> Workbench:
    """The home with another svid.toml, as a daemon that is started then has it."""
    file = bench.home.root / "svid.toml"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))
    bench.store.close()
    home = Home(bench.home.root)
    return Workbench(home, desk_of(home))


def kept(bench: Workbench) -> None:
    """As this version leaves a database."""


def not_kept(bench: Workbench) -> None:
    """As older versions left it: with the settings that a job goes on from, and not those that it begins with."""
    with contextlib.closing(sqlite3.connect(bench.home.database)) as connection:
        for job, text in connection.execute("SELECT id, started_from FROM job").fetchall():
            started = json.loads(text)
            if started.pop("start", None) and started["tip"]:
                after = "SELECT settings FROM job_segment WHERE segment_id = ?"
                started["settings"] = json.loads(connection.execute(after, (started["tip"],)).fetchone()[0])
            connection.execute("UPDATE job SET started_from = ? WHERE id = ?", (json.dumps(started), job))
        connection.commit()


DATABASES = pytest.mark.parametrize("database", [kept, not_kept])


def asks(bench: Workbench, name: str) -> list[dict[str, Any]]:
    return [bench.show(one["id"])["ask"] for one in bench.show(name)["segments"]]


def ids(bench: Workbench, name: str) -> list[str]:
    return [one["id"] for one in bench.show(name)["segments"]]


def is_proved_and_redone(bench: Workbench, name: str) -> None:
    before = asks(bench, name)
    bench.run({"reproduce": name})
    bench.run({"redo": name})
    again = asks(bench, name)
    assert again == [*before[:-1], before[-1] | {"seed": another_seed(before[-1]["seed"])}]


@DATABASES
@pytest.mark.parametrize(("made", "later", "segments"), [(PRO, WAN21, 2), (WAN21, PRO, 4)], ids=["pro", "wan21"])
def test_other_defaults_change_nothing_of_what_was_made(
    tmp_path: Path, made: str, later: str, segments: int, database: Callable[[Workbench], None]
) -> None:
    bench = bench_in(tmp_path / "home")
    if made != PRO:
        bench = edited(bench, PRO, made)
    bench.run(new("a", "first", "second"))
    assert len(ids(bench, "a")) == segments
    database(bench)
    is_proved_and_redone(edited(bench, made, later), "a")


@DATABASES
def test_what_fits_no_more_was_rendered_all_the_same(tmp_path: Path, database: Callable[[Workbench], None]) -> None:
    bench = bench_in(tmp_path / "home")
    late = {"loras": [{"name": "svi-2.0-wan22", "steps": [5, 8]}]}
    bench.run({key: one for key, one in new("a", "one", **late).items() if key != "sample"})
    bench.run({"extend": "a", "prompts": ["two", "three"], **late})
    database(bench)
    bench = edited(bench, "steps = 8\nguidance = 1.5", "steps = 4\nguidance = 2.5")
    is_proved_and_redone(bench, "a")
    with pytest.raises(ManifestError, match=r"loras\[0\].steps: expected at most 4"):
        bench.run({key: one for key, one in new("b", "one", **late).items() if key != "sample"})


def cut_off(bench: Workbench) -> None:
    """Do the next job as far as its first segment."""

    def tell(event: Mapping[str, Any]) -> None:
        watch.stop_after_segment |= event["event"] == "committed"

    watch = Watch(tell)
    with pytest.raises(Cancelled):
        bench.work(watch)
    ((job, attempt),) = rows(bench.home, "SELECT id, attempt FROM job WHERE state = 'running'")
    queue.release(bench.store, job, attempt, "stopped")


@DATABASES
@pytest.mark.parametrize(("made", "later"), [(PRO, WAN21), (WAN21, PRO)], ids=["pro", "wan21"])
def test_a_job_goes_on_as_it_began(
    tmp_path: Path, made: str, later: str, database: Callable[[Workbench], None]
) -> None:
    whole, bench = bench_in(tmp_path / "whole"), bench_in(tmp_path / "home")
    if made != PRO:
        whole, bench = edited(whole, PRO, made), edited(bench, PRO, made)
    whole.run(new("a", "first", "second"))
    bench.accept(new("a", "first", "second"))
    cut_off(bench)
    database(bench)
    bench = edited(bench, made, later)
    bench.work()
    assert ids(bench, "a") == ids(whole, "a")
    is_proved_and_redone(bench, "a")


def test_a_job_that_waits_is_planned_when_it_begins(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.accept(new("a", "first", "second"))
    bench = edited(bench, PRO, WAN21)
    bench.work()
    assert [one["prompt"] for one in asks(bench, "a")] == ["first", "first", "second", "second"]


def test_what_is_kept_does_not_grow_with_the_segments(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("short", "one"))
    bench.run(new("long", "one", segments=4))
    short, long = rows(bench.home, "SELECT length(started_from) FROM job ORDER BY seq")
    assert short == long
    assert short[0] < 4096


@DATABASES
def test_a_recipe_that_uses_prompts_otherwise_now(tmp_path: Path, database: Callable[[Workbench], None]) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("a", "first", "second", recipe="svi-2.0-wan21", model="wan21-mini"))
    database(bench)
    for recipes in (bench.desk.recipes, bench.studio.recipes):
        recipes["svi-2.0-wan21"] = recipes["svi-2.0-wan21"].model_copy(update={"prompt_repeat": 1})
    if database is kept:
        is_proved_and_redone(bench, "a")
        return
    with pytest.raises(
        ManifestError, match=r"segment 3 was made when svi-2\.0-wan21 used each prompt for more segments"
    ):
        bench.run({"reproduce": "a"})


@DATABASES
def test_a_recipe_that_is_gone_is_named_before_anything_is_rendered(
    tmp_path: Path, database: Callable[[Workbench], None]
) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("a", "one"))
    bench.run({"extend": "a", "prompts": ["two"], "recipe": "svi-2.0-wan22"})
    database(bench)
    del bench.desk.recipes["svi-2.0-wan22"]
    for asked in ({"reproduce": "a"}, {"redo": "a@1", "ripple": True}, {"redo": "a"}):
        with pytest.raises(ManifestError, match=r"expected a recipe of this home, found 'svi-2\.0-wan22'"):
            bench.accept(asked)
    assert value(bench.home, "SELECT count(*) FROM job") == 2


@DATABASES
def test_another_take_may_leave_a_model_that_is_gone(tmp_path: Path, database: Callable[[Workbench], None]) -> None:
    bench = bench_in(tmp_path / "home")
    bench.run(new("a", "one"))
    database(bench)
    file = bench.home.root / "svid.toml"
    file.write_text(file.read_text().replace("[models.wan22-mini", "[models.other"))
    bench = edited(bench, PRO, PRO.replace("wan22-mini", "other"))
    with pytest.raises(ManifestError, match="expected a model of this home, found 'wan22-mini'"):
        bench.accept({"reproduce": "a"})
    bench.run({"redo": "a", "model": "other", "prompts": ["another"]})
    assert [one["prompt"] for one in asks(bench, "a")] == ["another"]
