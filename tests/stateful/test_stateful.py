"""Whatever is asked in whatever order, with deaths, restarts, gc, backups and restores in between: a home holds what
the plain model in tests/stateful/model.py says.

What is shown: the rules of the lineage and the queue hold for sequences that nobody thought of, and what is on the disk
and in the database when a named point of svid/crash.py is passed is enough to go on from. A death here is an exception
that nothing catches, raised at that point, after which everything in memory is dropped and the home opened anew.

What is not: `finally` still runs at such a death, so scratch files are removed that a kill would leave; there is one
process, so nobody else works in the home meanwhile; and deaths are at named points only. Real kills, at any instant,
of real daemons are tests/crash; what a power failure does is tests/e2e/test_order.py.

`SVID_STATEFUL=200 python -m pytest tests/stateful` plays so many games, longer ones and others each time. What it finds
it does not make smaller, which takes long, but prints the blob that plays it again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from svid.crash import POINTS
from svid.errors import NotFound
from tests.e2e.tools import SMALL, bench_in
from tests.stateful.model import FAILED, WAITS, Ask, Chain, Model, segments_of
from tests.stateful.rig import Died, Rig, dies_at

pytestmark = pytest.mark.slow

GAMES = int(os.environ.get("SVID_STATEFUL", "0"))
"""How many games of the long form; 0: the short one, which is the same every time."""

prompts = st.lists(st.sampled_from(("sea", "gulls")), min_size=1, max_size=2).map(tuple)
ANY = 5
takes = st.sampled_from(((), ("sea",), ("gulls",)))
"""The prompt of a redo, if it has one."""
which = st.integers(0, ANY)
"""One of several things that are there, by its place from the last one, as far as there are so many."""


class Games(RuleBasedStateMachine):
    """A user, a daemon that dies, and an administrator."""

    template: Path
    met: ClassVar[Counter[str]] = Counter()
    """What happened in all games."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="svid-stateful-"))
        self.model = Model()
        self.ids: dict[Chain, str] = {}
        self.backups: list[tuple[Path, Model]] = []
        self.number = self.homes = 0

    @initialize()
    def begin(self) -> None:
        shutil.copytree(self.template, self.folder / "home0")
        self.rig = Rig(self.folder / "home0")
        self.submit(("sea", "gulls"), 1, True)
        self.daemon_turns(None)

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.at_last()
                self.rig.bench.store.close()
        finally:
            shutil.rmtree(self.folder)

    def at_last(self) -> None:
        """Everything is answered in the end, and proves itself."""
        self.daemon_turns(None)
        while self.model.dropped or self.model.waiting:
            self.daemon_turns(None)
        self.the_home_is_as_the_model_says()
        self.met.update(self.model.outcomes.values())
        self.met["redone"] += sum(" before " in film for film in self.model.films)
        assert WAITS not in self.model.outcomes.values()
        assert [file.name for file in self.rig.home.inbox.iterdir()] == ["harbour.png"]
        assert not [file for file in self.rig.home.claimed.iterdir() if file.suffix == ".json"]
        assert self.rig.broken() == []

    # What a user does.

    def _drop(self, film: str, prompts: tuple[str, ...], manifest: dict[str, Any], **more: Any) -> None:
        self.number += 1
        ask = Ask(f"{self.number}.json", film, prompts, **more)
        if not ask.reuse:
            manifest["reuse"] = False
        if prompts:
            manifest["prompts"] = list(prompts)
        self.rig.drop(ask.file, manifest)
        self.model.dropped.append(ask)

    def _film(self, number: int) -> str:
        """One of the videos, also one that a redo has left; at times a name that may be of none, or not yet."""
        names = self.model.films.keys() if number < ANY else {f"film {one}" for one in range(1, self.number + 1)}
        ordered = sorted(names, key=lambda name: (int(name.split()[1]), name))
        return ordered[-1 - number % len(ordered)]

    @precondition(lambda self: len(self.model.dropped) < 2)
    @rule(prompts=prompts, seed=st.sampled_from((1, 2)), reuse=st.sampled_from((True, True, False)))
    def submit(self, prompts: tuple[str, ...], seed: int, reuse: bool) -> None:
        film = f"film {self.number + 1}"
        self._drop(film, prompts, {"name": film, "image": "harbour.png", "seed": seed, **SMALL}, seed=seed, reuse=reuse)

    @precondition(lambda self: len(self.model.dropped) < 3)
    @rule(prompts=prompts, film=which)
    def extend(self, prompts: tuple[str, ...], film: int) -> None:
        name = self._film(film)
        self._drop(name, prompts, {"extend": self.rig.name_of(name)}, source=name)

    @precondition(lambda self: len(self.model.dropped) < 3)
    @rule(prompts=prompts, film=which, k=st.sampled_from((1, 2, 3)))
    def branch(self, prompts: tuple[str, ...], film: int, k: int) -> None:
        source, name = self._film(film), f"film {self.number + 1}"
        manifest = {"branch": f"{self.rig.name_of(source)}@{k}", "name": name}
        self._drop(name, prompts, manifest, source=source, k=k)

    @precondition(lambda self: len(self.model.dropped) < 3)
    @rule(prompt=takes, film=which, k=st.sampled_from((1, 1, None, 2, 3)), ripple=st.sampled_from((True, True, False)))
    def redo(self, prompt: tuple[str, ...], film: int, k: int | None, ripple: bool) -> None:
        name = self._film(film)
        manifest = {"redo": self.rig.name_of(name) + (f"@{k}" if k else ""), "ripple": ripple}
        self._drop(name, prompt, manifest, source=name, k=k, redo=True, ripple=ripple)

    @precondition(lambda self: self.model.waiting)
    @rule(number=which)
    def cancel(self, number: int) -> None:
        ask = self.model.waiting[number % len(self.model.waiting)]
        assert self.rig.cancel(ask.file)
        self.model.end(ask, FAILED)

    # What the daemon does.

    @precondition(lambda self: self.model.dropped or self.model.waiting)
    @rule(halt=st.sampled_from((None, "cancel", "stop")))
    def daemon_turns(self, halt: str | None) -> None:
        self.rig.turn(halt)
        self.model.turn(halt=halt)
        assert self.rig.unanswered() == []

    @precondition(lambda self: self.model.dropped or self.model.waiting)
    @rule(point=st.sampled_from(list(POINTS)))
    def daemon_dies(self, point: str) -> None:
        try:
            with dies_at(point):
                self.rig.turn()
        except Died:
            self.met[f"died: {point}"] += 1
            self.rig.open(self.rig.home.root)
            placed = {file: len(ids) for file, ids in self.rig.placed().items()}
            self.model.crashed(self.rig.states(), placed)
        else:
            self.model.turn()  # it never came there

    # What an administrator does.

    @precondition(lambda self: self.model.dead() or self.rig.orphans())
    @rule()
    def collect_garbage(self) -> None:
        dead = self.model.dead()
        assert self.rig.garbage() == {self.ids[one] for one in dead}
        self.the_home_is_as_the_model_says()  # looking has changed nothing
        found, stamp = self.rig.collect()
        assert found == {self.ids[one] for one in dead}
        self.model.segments -= dead
        if stamp is not None:
            self.met["garbage with segments" if dead else "garbage of files"] += 1
            assert stamp not in self.model.trash, "a run of gc never goes over an earlier one"
            self.model.trash[stamp] = dead

    @precondition(lambda self: self.model.trash)
    @rule(number=which)
    def put_garbage_back(self, number: int) -> None:
        stamp = sorted(self.model.trash)[-1 - number % len(self.model.trash)]
        if self.model.can_put_back(stamp):
            self.rig.put_back(stamp)
            self.met["put back"] += 1
            self.model.segments |= self.model.trash.pop(stamp)
        else:
            self.met["not put back"] += 1
            with pytest.raises(NotFound):
                self.rig.put_back(stamp)

    @precondition(lambda self: len(self.backups) < 3)
    @rule(copy=st.booleans())
    def back_up(self, copy: bool) -> None:
        made = self.rig.back_up(self.folder / f"backup{len(self.backups)}", copy=copy)
        model = deepcopy(self.model)
        model.dropped, model.trash = [], {}  # files that no job was made of, and the trash, are not in it
        self.backups.append((made, model))

    @precondition(lambda self: self.homes < 3 and any(model != self.model for _, model in self.backups))
    @rule(number=which)
    def restore(self, number: int) -> None:
        """The home is lost, and a backup takes its place: what came after it is as if it had never been."""
        backup, model = self.backups[-1 - number % len(self.backups)]
        shutil.rmtree(self.rig.home.root)
        self.homes += 1
        self.rig.restore(backup, self.folder / f"home{self.homes}")
        self.model = deepcopy(model)
        self.met["restored"] += 1

    # What is true at any time.

    @invariant()
    def the_home_is_as_the_model_says(self) -> None:
        if not hasattr(self, "rig"):
            return
        found = self.rig.films()
        assert {name: len(ids) for name, ids in found.items()} == {
            name: max(0, len(chain) - 1) for name, chain in self.model.films.items()
        }
        for name, chain in self.model.films.items():
            for one, id_ in zip(segments_of(chain), found[name], strict=True):
                self._learn(one, id_)
        placed = self.rig.placed()
        assert placed.keys() == self.model.begun.keys(), "what has begun is known, and nothing else has"
        for file, begun in self.model.begun.items():
            if self.model.outcomes[file] == WAITS:
                assert len(placed[file]) == begun.reached
            for index, id_ in placed[file].items():  # of those that have ended some may be gone
                self._learn(begun.chain[: index + 2], id_)
        assert len(set(self.ids.values())) == len(self.ids), "another chain is another segment"
        assert self.rig.states() == self.model.outcomes
        assert self.rig.segments() == {self.ids[one] for one in self.model.segments}

    def _learn(self, chain: Chain, id_: str) -> None:
        assert self.ids.setdefault(chain, id_) == id_, "the same chain is the same segment, whenever and wherever"


@pytest.mark.timeout(0 if GAMES else 900)  # cut off, a long form would look like a fault
def test_a_home_holds_what_the_model_says(tmp_path: Path) -> None:
    bench_in(tmp_path / "home").store.close()
    Games.template = tmp_path / "home"
    short = {"max_examples": 3, "stateful_step_count": 12, "derandomize": True, "phases": [Phase.generate]}
    long = {"max_examples": GAMES, "stateful_step_count": 40, "print_blob": True, "phases": [Phase.generate]}
    form: dict[str, Any] = {**(long if GAMES else short), "deadline": None, "database": None}
    run_state_machine_as_test(Games, settings=settings(**form, suppress_health_check=list(HealthCheck)))
    assert Games.met["done"] > 1, "nothing was played"
