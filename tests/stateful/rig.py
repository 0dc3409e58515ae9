"""A home and a daemon in this process, which can die at a named point and be started again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from svid.cli.open import desk_of
from svid.crash import crashpoint
from svid.errors import Cancelled, SvidError
from svid.home import Home, bundled_dir
from svid.inbox.accept import accept
from svid.inbox.answer import answer_finished, refuse
from svid.inbox.claim import adopt, claim
from svid.render.checkpoint import Pace
from svid.render.job import render_job
from svid.render.watch import Watch
from svid.store import gc, queue
from svid.store.backup import back_up
from svid.store.engine import open_store
from svid.store.scratch import sweep_own
from svid.store.verify import verify
from svid.workbench import Workbench
from tests.e2e.tools import drop, rows


class Died(BaseException):
    """Stands for SIGKILL: nothing in svid catches it."""


@contextlib.contextmanager
def dies_at(point: str) -> Any:
    """Whoever passes `point` in here dies there."""
    real = os.kill

    def kill(process: int, number: int) -> None:
        if (process, number) == (os.getpid(), signal.SIGKILL):
            raise Died
        real(process, number)

    with mock.patch.dict(os.environ, SVID_CRASH=point), mock.patch.object(os, "kill", kill):
        yield


class Rig:
    """One home and whoever works in it; `open` makes another one of both, as a new process would find them."""

    def __init__(self, root: Path) -> None:
        self.daemons = 0
        self.open(root)

    def open(self, root: Path) -> None:
        """Forget everything that is in memory, and begin with what is on the disk."""
        if self.daemons:
            self.bench.store.close()
        self.daemons += 1
        self.worker = f"daemon{self.daemons}"
        self.home = Home(root)
        self.bench = Workbench(self.home, desk_of(self.home))
        self.bench.studio.pace = Pace(0, lambda: 0.0)  # a snapshot at every step
        sweep_own(self.home.tmp)
        queue.recover(self.bench.store, self.home.id, self._alive)

    def _alive(self, worker: str) -> bool:
        return worker == self.worker

    def drop(self, file: str, manifest: Mapping[str, Any]) -> None:
        """Put a manifest into the inbox."""
        drop(self.home, file, dict(manifest))

    def turn(self, halt: str | None = None) -> None:
        """What a daemon does in a turn of its loop, with the render process's part done here."""
        answer_finished(self.home, self.bench.store)
        self._take_files()
        self._work(halt)
        answer_finished(self.home, self.bench.store)

    def _take_files(self) -> None:
        for file in sorted(self.home.inbox.glob("*.json"), key=lambda file: int(file.stem)):
            claim(file, self.home.claimed, self.worker)
        for claimed in adopt(self.home.claimed, self.worker, self._alive, self._has_job):
            try:
                accept(self.bench.desk, claimed)
            except SvidError as error:
                refuse(self.home, self.bench.store, claimed, error.problems)

    def _has_job(self, name: str) -> bool:
        return bool(rows(self.home, "SELECT 1 FROM job WHERE claimed = ?", name))

    def _work(self, halt: str | None) -> None:
        store = self.bench.store
        job = queue.claim(store, self.worker, self.home.id)
        if job is None:
            return
        crashpoint("job-taken")
        try:
            render_job(self.bench.studio, job.id, job.attempt, self._watch(halt))
        except Cancelled:
            if halt == "cancel":
                queue.cancel(store, job.id, attempt=job.attempt)
            else:
                queue.release(store, job.id, job.attempt, "stopped")
        except SvidError as error:
            queue.fail(store, job.id, job.attempt, [problem.as_dict() for problem in error.problems])

    def _watch(self, halt: str | None) -> Watch:
        def tell(event: Mapping[str, Any]) -> None:
            watch.stop_after_segment |= halt is not None and event["event"] in ("committed", "reused")

        watch = Watch(tell)
        return watch

    def cancel(self, file: str) -> bool:
        """As `svid cancel` of a job that waits."""
        ((job,),) = rows(self.home, "SELECT id FROM job WHERE file = ?", file)
        return queue.cancel(self.bench.store, job)

    def garbage(self) -> set[str]:
        """The segments that `svid gc` would take, were none of them young."""
        with self.bench.store.read() as session:
            return set(gc.find(session, self.home, self.bench.studio.blobs, young=0.0).segments)

    def collect(self) -> tuple[set[str], str | None]:
        """`svid gc --yes`, likewise: the segments that it took, and where they are."""
        found, folder = gc.collect(self.bench.store, self.home, self.bench.studio.blobs, young=0.0)
        return set(found.segments), folder.name if folder else None

    def put_back(self, stamp: str) -> None:
        """`svid gc --undo`. Raises NotFound."""
        gc.put_back(self.bench.store, self.home, self.bench.studio.blobs, stamp)

    def back_up(self, folder: Path, *, copy: bool) -> Path:
        """`svid backup`."""
        migrations = bundled_dir() / "db" / "migrations"
        return back_up(self.home, folder, lambda file: open_store(file, migrations), copy=copy).folder

    def restore(self, backup: Path, root: Path) -> None:
        """As the page says: copy it, and go on there."""
        shutil.copytree(backup, root)
        picture = root / "watch/examples/harbour.png"
        shutil.copyfile(picture, root / "watch/inbox/harbour.png")
        self.open(root)

    def films(self) -> dict[str, list[str]]:
        """The videos by name, each with the ids of its segments. What a redo has left is named by its file: the id of a
        job is not the model's to know."""
        sql = """WITH RECURSIVE walk(name, id, parent, n) AS (
            SELECT v.name, s.id, s.parent_id, s."index" FROM video v JOIN segment s ON s.id = v.tip_id
            UNION ALL SELECT walk.name, s.id, s.parent_id, s."index" FROM segment s JOIN walk ON s.id = walk.parent)
            SELECT name, id FROM walk ORDER BY name, n"""
        files = dict(rows(self.home, "SELECT id, file FROM job"))

        def told(name: str) -> str:
            return re.sub(r"j[0-9a-f]{12}", lambda job: files[job[0]], name)

        found: dict[str, list[str]] = {told(name): [] for (name,) in rows(self.home, "SELECT name FROM video")}
        for name, id_ in rows(self.home, sql):
            found[told(name)].append(id_)
        return found

    def name_of(self, film: str) -> str:
        """The name of a video in this home, by what `films` calls it."""
        jobs = dict(rows(self.home, "SELECT file, id FROM job"))
        return re.sub(r"\d+\.json", lambda file: jobs[file[0]], film)

    def placed(self) -> dict[str, dict[int, str]]:
        """Of every job that has begun, by its file, the segments that it has put in their places, by their indices."""
        begun = "SELECT id, file FROM job WHERE json_type(started_from) = 'object'"
        placed = 'SELECT "index", segment_id FROM job_segment WHERE job_id = ?'
        return {file: dict(rows(self.home, placed, job)) for job, file in rows(self.home, begun)}

    def segments(self) -> set[str]:
        """The ids of all segments."""
        return {id_ for (id_,) in rows(self.home, "SELECT id FROM segment")}

    def orphans(self) -> set[str]:
        """The files among the blobs that have no row: what a death left."""
        files = {file.name for file in self.home.blobs.glob("??/*")}
        return files - {name for (name,) in rows(self.home, "SELECT sha256 FROM blob")}

    def states(self) -> dict[str, str]:
        """What became of the files that were taken in: of each exactly one thing."""
        jobs = rows(self.home, "SELECT file, state FROM job")
        found = {file: {"done": "done", "failed": "failed"}.get(state, "waits") for file, state in jobs}
        assert len(found) == len(jobs), "a file was done twice"
        for folder in self.home.failed.iterdir():
            if folder.is_dir() and not folder.name.startswith("j") and (folder / "manifest.json").is_file():
                file = f"{folder.name.partition('-')[0]}.json"
                assert file not in found, "a file was answered twice"
                assert (folder / "error.json").is_file()
                found[file] = "refused"
        return found

    def unanswered(self) -> list[str]:
        """Jobs that have ended and whose folder lacks anything, or that have two."""
        wrong = []
        for id_, state in rows(self.home, "SELECT id, state FROM job WHERE state IN ('done', 'failed')"):
            own, other = (self.home.done, self.home.failed) if state == "done" else (self.home.failed, self.home.done)
            names = {file.name for file in (own / id_).iterdir()} if (own / id_).is_dir() else set()
            wanted = {"done": {"result.json", "receipt.json"}, "failed": {"error.json", "error.txt", "receipt.json"}}
            leftover = other / id_ / ("result.json" if state == "failed" else "error.json")
            if not names >= wanted[state] | {"manifest.json"} or leftover.exists():
                wrong.append(id_)
        return wrong

    def broken(self) -> list[str]:
        """What `svid verify` says."""
        with self.bench.store.read() as session:
            return [str(one) for one in verify(session, self.bench.studio.blobs, self.home) if one is not None]
