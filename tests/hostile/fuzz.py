"""Mutated inputs against everything that reads what strangers write: `python -m tests.hostile.fuzz` is the long form.

A reader may refuse an input with an error of svid's own, or accept it; what it accepts is then checked (see `kinds`).
Everything else is unclean: another exception, a crash of the process, more than LIMIT seconds of processor time, more
than MEMORY of it. Each kind runs in a process of its own, which is started again behind the input that killed it.

An input is made from the seed, its kind, its number and, where the kind is guided, the inputs before it that reached a
line of svid first: the same seed gives the same inputs, in the same order, also across processes that died. Unclean
inputs are written to --keep; those of the past lie in tests/hostile/finds and are fed again by the tests.

Guided are the kinds that reach more lines for it, guided against blind: renders (2649 to 2622 after 210 inputs, 2751 to
2732 after 1600) and clips (1942 to 1928 and, with another seed, 1953 to 1946 after 600; level after 2000, 1948 to
1950). The others have makers that reach as much alone: manifests 597 to 601 and 602 to 599 after 4000, headers 85 to 84
and 83 to 84 after 3500, LoRAs 710 to 707 and 711 to 711 after 2000, pictures 1859 to 1857 and 1857 to 1859 after 900.
What a manifest's schema allows, instead of bytes alone, brought manifests from 970 lines to 1043.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from svid.errors import MAX_TEXT, Refused, StageError, plain
from tests.hostile.reach import Corpus

LIMIT = 5.0
MEMORY = 8 << 30
"""Bytes of address space, most of which torch only reserves."""
LONG = {"manifest": 9000, "header": 7000, "lora": 4000, "picture": 3000, "clip": 2000, "render": 1600}
"""How many inputs of each kind the long form feeds."""
SHARE = 0.5
"""Of the inputs of a guided kind are made from one that reached something new."""


def feed(kind: str, data: bytes, folder: Path) -> tuple[str, str]:
    """Feed one input; returns accepted, refused or unclean, and what is to be said of it."""
    from tests.hostile.kinds import KINDS

    KINDS[kind].ready()
    began = time.process_time()
    try:
        KINDS[kind].feed(data, folder)
    except Refused as error:
        said = [str(problem) for problem in error.problems]
        if any(len(text) <= MAX_TEXT and plain(text) != text for text in said):
            return "unclean", f"the error can't be shown: {said[:5]!r}"
        if isinstance(error, StageError) and error.__cause__ is not None:  # a stage of ours stumbled
            return "unclean", "".join(traceback.format_exception(error, limit=-4))
        outcome, said_ = "refused", said[0] if said else ""
    except BaseException:
        return "unclean", traceback.format_exc(limit=-4)
    else:
        outcome, said_ = "accepted", ""
    if time.process_time() - began > LIMIT:
        return "unclean", f"took {time.process_time() - began:.1f} s"
    return outcome, said_


def make(kind: str, seed: int, number: int, corpus: Corpus) -> bytes:
    """The input of a kind with this number. Those that `corpus` holds are passed over where the kind is not guided."""
    from tests.hostile.kinds import KINDS

    dice = random.Random(f"{seed} {kind} {number}")
    again = KINDS[kind].again
    if again is not None and corpus.inputs and dice.random() < SHARE:
        return again(corpus.choose(dice), dice, corpus.inputs)
    return KINDS[kind].make(dice)


@dataclass(frozen=True)
class Way:
    """Where a run of one kind writes to: the input that is being fed, those that were unclean, those that were new."""

    kind: str
    keep: Path

    @property
    def at(self) -> Path:
        """The number and the bytes of the input that is being fed."""
        return self.keep / f"{self.kind}.at"

    @property
    def journal(self) -> Path:
        """The corpus."""
        return self.keep / f"{self.kind}.corpus"

    def find(self, seed: int, number: int) -> Path:
        """An unclean input."""
        return self.keep / f"{self.kind}-{seed}-{number}"


def run(kind: str, seed: int, first: int, last: int, keep: Path, blind: bool = False) -> Counter[str]:
    """Feed the inputs `first` to `last`, and go on with the corpus that lies in `keep`."""
    from tests.hostile.kinds import KINDS

    KINDS[kind].ready()
    counts, way = Counter[str](), Way(kind, keep)
    corpus = Corpus(way.journal)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            way.at.write_bytes(b"%d\n" % number)  # whatever happens, the next process goes on behind it
            data = make(kind, seed, number, Corpus() if blind else corpus)
            way.at.write_bytes(b"%d\n" % number + data)
            with corpus.reach.watching() as lines:
                outcome, said = feed(kind, data, Path(folder))
            corpus.keep(number, data, lines, outcome == "accepted")
            counts[outcome] += 1
            if outcome == "unclean":
                sys.stderr.write(f"{kind} {number}: {said}\n")
                way.find(seed, number).write_bytes(data)
    way.at.unlink(missing_ok=True)
    return counts


def _in_process(kind: str, seed: int, count: int, keep: Path, blind: bool) -> Counter[str]:
    """`run` in processes of their own, as many as it takes."""
    total, first, way = Counter[str](), 0, Way(kind, keep)
    while first < count:
        command = [sys.executable, "-m", "tests.hostile.fuzz", "--child", kind, "--seed", str(seed)]
        command += ["--from", str(first), "--inputs", str(count), "--keep", str(keep), *(["--blind"] if blind else [])]
        # The order of sets decides which lines run, and so what is kept.
        env = os.environ | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env)
        if done.returncode == 0:
            return total + Counter(json.loads(done.stdout.splitlines()[-1]))
        number, _, data = way.at.read_bytes().partition(b"\n")
        if done.returncode == 1 and not data:
            raise RuntimeError(f"{kind} {int(number)}: this input can't be made")
        sys.stderr.write(f"{kind} {int(number)}: the process ended with {done.returncode}\n")
        way.find(seed, int(number)).write_bytes(data)
        total += Counter(unclean=1, unknown=int(number) - first)  # those before it were clean, or have been written of
        first = int(number) + 1
    return total


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where anything was unclean."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description="Fuzz svid's readers.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many inputs")
    parser.add_argument("--kind", choices=list(LONG), action="append", help="only this kind")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for unclean inputs")
    parser.add_argument("--blind", action="store_true", help="no kind is guided by the lines that are reached")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        logging.disable(logging.WARNING)  # hundreds of LoRAs with keys that are set aside, each of which is told
        counts = run(given.child, given.seed, given.first, given.inputs, given.keep, given.blind)
        sys.stdout.write(json.dumps(counts) + "\n")
        return 0
    keep = given.keep or Path(tempfile.mkdtemp(prefix="svid-fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    found = _all(given.kind or list(LONG), given.seed, given.scale, keep, given.blind)
    with contextlib.suppress(OSError):
        keep.rmdir()  # it stays where something is in it
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["unclean"] else 0


def _all(kinds: list[str], seed: int, scale: float, keep: Path, blind: bool) -> dict[str, object]:
    """Feed every kind; returns the summary."""
    began, inputs, lines, total = time.monotonic(), {}, {}, Counter[str]()
    for kind in kinds:
        journal = Way(kind, keep).journal
        journal.unlink(missing_ok=True)  # of a run before
        counts = _in_process(kind, seed, round(LONG[kind] * scale), keep, blind)
        inputs[kind], lines[kind], total = sum(counts.values()), len(Corpus(journal).reach.lines), total + counts
        journal.unlink(missing_ok=True)
        sys.stderr.write(f"{kind}: {dict(counts)}\n")
    outcomes = {name: total[name] for name in ("refused", "accepted", "unclean")}
    seconds = round(time.monotonic() - began, 1)
    return {"inputs": inputs, "lines": lines, **outcomes, "seed": seed, "seconds": seconds}


if __name__ == "__main__":
    raise SystemExit(main())
