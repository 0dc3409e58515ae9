"""A daemon that runs goes by what svid.toml and the home's plugins say now."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from svid.cli.open import desk_of
from svid.daemon.loop import Daemon
from svid.daemon.renewal import Renewal
from svid.home import Home
from svid.inbox.arrivals import Arrivals
from svid.store import queue
from tests.e2e.tools import drop, new, start, value, wait_for
from tests.unit.test_daemon_passes import Talker, Told

WARM = """
import svid
from pydantic import BaseModel

class Options(BaseModel):
    levels: int = 0

@svid.hookimpl
def svid_options():
    return Options

@svid.hookimpl
def svid_ask(job, segment):
    return {} if job.options["warm"].levels else None

@svid.hookimpl(wrapper=True)
def svid_decode(job):
    frames = yield
    return (some + job.options["warm"].levels for some in frames)
"""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def daemon(home: Home, told: Told) -> Iterator[Daemon]:
    desk = desk_of(home)
    made = Daemon(home, desk.store, desk, told)
    made.intake.arrivals = Arrivals(settle=0.0)
    yield made
    made.lock.release()


def add_model(home: Home, name: str) -> None:
    text = (home.root / "svid.toml").read_text()
    (home.root / "svid.toml").write_text(
        f'{text}\n[models.{name}]\npath = "embedded:wan22-mini"\nwidth = 32\nheight = 32\n'
    )


def test_a_saved_plugin_and_an_added_model_are_known_to_the_next_manifest(daemon: Daemon, told: Told) -> None:
    home = daemon.home
    (home.plugins / "warm.py").write_text(WARM)
    add_model(home, "another")
    daemon._renew()
    assert told.events == [], "it may still be being written"
    daemon._renew()
    assert told.events == [{"event": "renewed", "changed": ["plugins/warm.py", "svid.toml"]}]
    drop(home, "a.json", new("a", "one", recipe="i2v", model="another", options={"warm": {"levels": 3}}))
    daemon.intake.take()
    assert told.events[-1]["event"] == "accepted"


def test_a_mistake_is_told_once_and_what_was_read_before_holds(daemon: Daemon, told: Told) -> None:
    home = daemon.home
    desk = daemon.intake.desk
    (home.plugins / "broken.py").write_text("def svid_sample(:\n")
    for _ in range(4):
        daemon._renew()
    (found,) = told.events
    assert (found["event"], found["changed"]) == ("not-renewed", ["plugins/broken.py"])
    assert found["errors"][0]["file"] == "plugins/broken.py"
    assert daemon.intake.desk is desk
    (home.plugins / "broken.py").unlink()
    daemon._renew()
    daemon._renew()
    assert told.events[-1] == {"event": "renewed", "changed": ["plugins/broken.py"]}


def test_another_store_is_not_taken_up(daemon: Daemon, told: Told) -> None:
    file = daemon.home.root / "svid.toml"
    file.write_text(file.read_text() + '\n[store]\npath = "elsewhere"\n')
    daemon._renew()
    daemon._renew()
    (problem,) = told.events[-1]["errors"]
    assert (problem["file"], problem["where"]) == ("svid.toml", "store.path")
    assert "expected the folder that this daemon began with" in problem["message"]


def test_a_chain_that_lacks_a_stage_is_not_taken_up(daemon: Daemon, told: Told) -> None:
    file, desk = daemon.home.root / "svid.toml", daemon.intake.desk
    file.write_text(file.read_text().replace('"encode", ', ""))
    daemon._renew()
    daemon._renew()
    (problem,) = told.events[-1]["errors"]
    assert (problem["file"], problem["where"]) == ("svid.toml", "chain.stages")
    assert daemon.intake.desk is desk


def test_the_job_in_hand_ends_as_it_began_and_the_next_has_a_new_process(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Old(Talker):
        def end(self) -> None:
            ended.append("old")

    class Fresh(Talker):
        def __init__(self, *_: object) -> None:
            super().__init__(None, [])

        def render(self, job: str, attempt: int, plans: object) -> None:
            self.job = job

    drop(daemon.home, "a.json", new("a", "one"))
    daemon.intake.take()
    old = Old("busy", [])
    daemon.child = old  # type: ignore[assignment]
    monkeypatch.setattr("svid.daemon.loop.Child", Fresh)
    add_model(daemon.home, "another")
    daemon._renew()
    daemon._renew()
    daemon._start_job()
    assert (daemon.child, ended) == (old, [])
    old.job = None
    daemon._start_job()
    assert isinstance(daemon.child, Fresh)
    assert ended == ["old"]
    assert queue.state_of(daemon.store, daemon.child.job or "") == "running"


def test_nothing_is_read_again_where_nothing_has_changed(home: Home, told: Told) -> None:
    desk = desk_of(home)
    renewal = Renewal(home, desk.store, told.show)
    (home.plugins / "notes.txt").write_text("not a plugin")
    (home.plugins / "_helper.py").write_text("not one either")
    assert [renewal.look() for _ in range(3)] == [None] * 3
    assert told.events == []


def test_a_daemon_that_runs_renders_with_a_plugin_that_was_saved_meanwhile(home: Home) -> None:
    desk_of(home).store.close()
    daemon = start(home, "up")
    assert daemon.stderr is not None
    try:
        drop(home, "before.json", new("before", "one", recipe="i2v"))
        wait_for(lambda: value(home, "select count(*) from job where state = 'done'") == 1, daemon)
        (home.plugins / "warm.py").write_text(WARM)
        assert any("read again: plugins/warm.py" in line for line in daemon.stderr)
        drop(home, "after.json", new("after", "one", recipe="i2v", options={"warm": {"levels": 9}}))
        wait_for(lambda: value(home, "select count(*) from job where state = 'done'") == 2, daemon)
        ask = json.loads(value(home, "select ask from segment order by rowid desc limit 1"))
        assert ask["plugins"]["warm"]["options"] == {"levels": 9}
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
