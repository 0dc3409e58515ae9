"""What a home must hold, as plain data: which videos exist with which segments, and how every manifest was answered.

A segment is named by its chain, the seed and the takes up to it: `(5, "sea", "gulls")` is the second segment of what
was asked with seed 5. A take is its prompt, with a mark for every time that it got another seed than it had: `"sea'"`.
The same chain is the same segment, in every video and in every home.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Chain = tuple[Any, ...]
"""A seed, then takes; (): a video that has no segment."""

MARK = "'"
WAITS, DONE, FAILED, REFUSED = "waits", "done", "failed", "refused"


@dataclass(frozen=True)
class Ask:
    """A manifest: a new video, `source` extended or redone (it has the name `film` then), or branched after `k`
    segments. A redo is of segment `k`, or the last one, with one prompt or none."""

    file: str
    film: str
    prompts: tuple[str, ...]
    seed: int = 0
    source: str | None = None
    k: int | None = None
    redo: bool = False
    ripple: bool = False
    reuse: bool = True


@dataclass
class Begun:
    """A job that has begun: the chain that it goes on from, what it renders on top, and how much of that is there."""

    base: Chain
    takes: tuple[str, ...]
    reached: int = 0

    @property
    def chain(self) -> Chain:
        """What is there."""
        return self.base + self.takes[: self.reached]


def segments_of(chain: Chain) -> Iterator[Chain]:
    """The segments of a chain, from the first."""
    return (chain[:end] for end in range(2, len(chain) + 1))


def another_take(take: str, prompt: str | None) -> str:
    """What a redo makes of a take: the other prompt, or, where that is none, another seed."""
    old = take.rstrip(MARK)
    return take + MARK if prompt in (None, old) else f"{prompt}{take.removeprefix(old)}"


@dataclass
class Model:
    """A home without its daemon, its disk and its deaths."""

    films: dict[str, Chain] = field(default_factory=dict)
    forks: dict[str, str] = field(default_factory=dict)
    """By film, the one that it was forked from."""
    dropped: list[Ask] = field(default_factory=list)
    """Not taken in yet, in their order."""
    waiting: list[Ask] = field(default_factory=list)
    """Jobs in the queue, in their order."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """By file, what became of it, or that it is a job that waits."""
    begun: dict[str, Begun] = field(default_factory=dict)
    """By file, the jobs that have begun, the same at every attempt."""
    segments: set[Chain] = field(default_factory=set)
    """All that the database has, also those that nothing leads to."""
    trash: dict[str, set[Chain]] = field(default_factory=dict)

    def take(self, ask: Ask) -> None:
        """The file is answered, or becomes a job. What it says of a video with jobs is for those to make true."""
        self.dropped.remove(ask)
        changing = any(one.film == ask.source for one in self.waiting)
        refused = not changing and self._ground(ask) is None
        self.outcomes[ask.file] = REFUSED if refused else WAITS
        if not refused:
            if ask.film not in self.films and ask.source is not None:
                self.forks[ask.film] = ask.source
            self.films.setdefault(ask.film, ())
            self.waiting.append(ask)

    def _ground(self, ask: Ask) -> Begun | None:
        """What a job stands on and renders, were it to begin now; None: there is no such segment."""
        if ask.source is None:
            return Begun((ask.seed,), ask.prompts)
        chain = self.films.get(ask.source, ())
        k = len(chain) - 1 if ask.k is None else ask.k
        if not 0 < k < len(chain):
            return None
        if not ask.redo:
            return Begun(chain[: k + 1], ask.prompts)
        if k + 1 < len(chain) and not ask.ripple:
            return None
        return Begun(chain[:k], (another_take(chain[k], next(iter(ask.prompts), None)), *chain[k + 1 :]))

    def begin(self, ask: Ask) -> Begun | None:
        """What a job renders, fixed for all its attempts; None: there is no such segment, and it fails."""
        found = self.begun.get(ask.file) or self._ground(ask)
        if found is not None:
            self.begun[ask.file] = found
        return found

    def grow(self, ask: Ask, count: int) -> None:
        """The job has committed so many segments, those of earlier attempts among them."""
        begun = self.begun[ask.file]
        begun.reached = count
        self.segments |= set(segments_of(begun.chain))
        if not ask.redo:
            self.films[ask.film] = begun.chain if len(begun.chain) > 1 else ()

    def end(self, ask: Ask, outcome: str) -> None:
        """The job has its one outcome. Only a redo that is done changes its video, and the old one keeps a name."""
        self.waiting.remove(ask)
        self.outcomes[ask.file] = outcome
        if ask.redo and outcome == DONE:
            old, self.films[ask.film] = self.films[ask.film], self.begun[ask.file].chain
            if not any(of == ask.film and self.films[fork] == old for fork, of in self.forks.items()):
                kept = f"{ask.film} before {ask.file}"
                self.films[kept], self.forks[kept] = old, ask.film

    def turn(self, *, halt: str | None = None) -> None:
        """A whole turn of the daemon: everything is taken in, and one job done. With `halt` it is to end the job after
        one more segment, which stays: for good ("cancel"), or to go on later ("stop")."""
        for ask in list(self.dropped):
            self.take(ask)
        if not self.waiting:
            return
        job = self.waiting[0]
        begun = self.begin(job)
        if begun is None:
            self.end(job, FAILED)
            return
        whole = len(begun.takes)
        self.grow(job, whole if halt is None else min(whole, begun.reached + 1))
        if begun.reached == whole:
            self.end(job, DONE)
        elif halt == "cancel":
            self.end(job, FAILED)

    def crashed(self, states: Mapping[str, str], placed: Mapping[str, int]) -> None:
        """A turn that ended somewhere. How far it got is told by the home: `states` of files, and of the jobs that have
        begun, how many segments they have `placed`; that it is one of the places where it may have ended is checked
        here."""
        for ask in list(self.dropped):
            if ask.file not in states:
                break
            self.take(ask)
        assert {ask.file for ask in self.dropped}.isdisjoint(states), "files were taken out of their order"
        if not self.waiting:
            return
        job, outcome = self.waiting[0], states[self.waiting[0].file]
        assert job.file in placed or job.file not in self.begun, "a job has forgotten what it builds on"
        if job.file in placed:
            begun = self.begin(job)
            assert begun is not None, "a job has begun that can't"
            message = "a committed segment is lost, or there is one too many"
            assert begun.reached <= placed[job.file] <= len(begun.takes), message
            self.grow(job, placed[job.file])
            assert outcome == WAITS or (outcome == DONE and begun.reached == len(begun.takes)), job
        else:
            assert outcome == WAITS or (outcome == FAILED and self._ground(job) is None), job
        if outcome != WAITS:
            self.end(job, outcome)

    def dead(self) -> set[Chain]:
        """Segments that no video leads to, and no job that waits."""
        begun = [self.begun[ask.file].chain for ask in self.waiting if ask.file in self.begun]
        return self.segments - {one for chain in [*self.films.values(), *begun] for one in segments_of(chain)}

    def can_put_back(self, stamp: str) -> bool:
        """Whether what the segments in the trash stand on is there, or comes back with them."""
        there = self.segments | self.trash[stamp]
        return all(len(one) == 2 or one[:-1] in there for one in self.trash[stamp])
