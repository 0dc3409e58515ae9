"""The state machine can fail: with a fault in svid that somebody might well make, it finds it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from svid.plan import ground
from svid.render import job, video
from svid.store import backup, gc
from svid.store.models import Segment, Video
from tests.e2e.tools import bench_in
from tests.stateful.test_stateful import Games

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def template(tmp_path: Path) -> None:
    bench_in(tmp_path / "home").store.close()
    Games.template = tmp_path / "home"


def a_redo_moves_the_tip_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    def place(*facts: Any, grows: bool) -> Any:
        return real(*facts, grows=True)

    real = job.Place
    patch.setattr(job, "Place", place)


def a_redo_keeps_no_name_for_the_old_one(patch: pytest.MonkeyPatch) -> None:
    def move(session: Session, video_id: str, tip: str, job: str) -> None:
        session.get_one(Video, video_id).tip_id = tip

    patch.setattr(video, "move_tip", move)


def gc_does_not_look_at_jobs_that_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gc, "LIVE", ())


def gc_takes_a_segment_that_a_film_needs(patch: pytest.MonkeyPatch) -> None:
    def dead(session: Session, *more: Any) -> list[str]:
        found = real(session, *more)
        return found or [one for (one,) in session.query(Video.tip_id).filter(Video.name.contains(" before "))][:1]

    real = gc._dead_segments
    patch.setattr(gc, "_dead_segments", dead)


def an_extension_goes_on_from_the_segment_before_the_last(patch: pytest.MonkeyPatch) -> None:
    def at(session: Session, film: Video, length: int) -> Segment:
        return real(session, film, max(1, length - 1))

    real = ground.segment_at
    patch.setattr(ground, "segment_at", at)


def a_backup_lacks_the_last_segment(patch: pytest.MonkeyPatch) -> None:
    def copy(source: Path, target: Path) -> None:
        real(source, target)
        with closing(sqlite3.connect(target)) as database, database:
            database.execute("UPDATE video SET tip_id = (SELECT parent_id FROM segment WHERE segment.id = tip_id)")

    real = backup.copy_database
    patch.setattr(backup, "copy_database", copy)


def play() -> Games:
    """A game whose moves are not drawn, with the rules and the looks of any other."""
    game = Games()

    def at(film: str) -> int:
        return next(number for number in range(9) if game._film(number) == film)

    moves: list[Callable[[], None]] = [
        game.begin,
        lambda: game.redo(("gulls",), at("film 1"), 1, True),
        lambda: game.daemon_turns("stop"),
        game.collect_garbage,
        lambda: game.daemon_turns(None),
        game.collect_garbage,
        lambda: game.extend(("sea",), at("film 1")),
        lambda: game.daemon_turns(None),
        lambda: game.back_up(False),
        lambda: game.redo((), at("film 1"), 2, True),
        lambda: game.daemon_turns("cancel"),
        game.collect_garbage,
        lambda: game.put_garbage_back(0),
        lambda: game.restore(0),
    ]
    try:
        for move in moves:
            move()
            game.the_home_is_as_the_model_says()
        game.at_last()
    finally:
        game.rig.bench.store.close()
        shutil.rmtree(game.folder)
    return game


def test_the_game_that_is_to_find_faults_finds_none_and_is_played_to_its_end() -> None:
    before = Games.met.copy()
    game = play()
    assert {name: len(chain) - 1 for name, chain in game.model.films.items()} == {
        "film 1": 3,
        "film 1 before 2.json": 2,
    }
    met = Games.met - before
    assert [met[one] for one in ("garbage with segments", "put back", "restored")] == [1, 1, 1]


HOME, GARBAGE = "the_home_is_as_the_model_says", "collect_garbage"
FOUND = {
    a_redo_moves_the_tip_before_it_is_done: HOME,
    a_redo_keeps_no_name_for_the_old_one: HOME,
    gc_does_not_look_at_jobs_that_wait: GARBAGE,
    gc_takes_a_segment_that_a_film_needs: GARBAGE,
    an_extension_goes_on_from_the_segment_before_the_last: HOME,
    a_backup_lacks_the_last_segment: HOME,
}
"""The faults, and the look at the home that is to find each."""


@pytest.mark.parametrize("fault", FOUND, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError) as found:
        play()
    assert FOUND[fault] in [entry.name for entry in found.traceback]
