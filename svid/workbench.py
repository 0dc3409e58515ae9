"""Jobs in this process, from manifest to answer: what the daemon does, without watching and without a second process.

For tests, benchmarks and plugin authors. The code that understands, renders and answers is the daemon's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from svid.errors import Refused
from svid.home import Home
from svid.inbox.accept import Desk, accept
from svid.inbox.answer import answer_finished
from svid.inbox.claim import claim
from svid.inbox.drop import drop_json
from svid.render.env import prepare_torch
from svid.render.job import render_job
from svid.render.studio import Studio
from svid.render.watch import Watch
from svid.store import queue
from svid.store.models import Job
from svid.store.show import find_anything


class Workbench:
    """A home whose jobs are done here and now."""

    def __init__(self, home: Home, desk: Desk) -> None:
        prepare_torch()
        self.home = home
        self.desk = desk
        self.store = desk.store
        self.studio = Studio(home, desk.store, desk.plugins)

    def accept(self, manifest: Mapping[str, Any]) -> Job:
        """Drop a manifest and make a job of it. Raises ManifestError."""
        claimed = claim(drop_json(self.home, "job", dict(manifest)), self.home.claimed, "bench")
        job = accept(self.desk, claimed) if claimed is not None else None
        if job is None:
            raise Refused("the inbox is used by someone else")
        return job

    def work(self, watch: Watch | None = None) -> Job:
        """Do the next job in the queue. What goes wrong is raised, and the job is failed with it."""
        job = queue.claim(self.store, "bench", self.home.id)
        if job is None:
            raise Refused("the queue is empty")
        try:
            render_job(self.studio, job.id, job.attempt, watch or Watch(lambda event: None))
        except Refused as error:
            queue.fail(self.store, job.id, job.attempt, [problem.as_dict() for problem in error.problems])
            raise
        finally:
            answer_finished(self.home, self.store)
        with self.store.read() as session:
            return session.scalars(select(Job).where(Job.id == job.id)).one()

    def run(self, manifest: Mapping[str, Any], watch: Watch | None = None) -> dict[str, Any]:
        """Do one manifest, and return what `svid show` shows of its video."""
        self.accept(manifest)
        job = self.work(watch)
        return self.show(job.video_id)

    def show(self, id_: str) -> dict[str, Any]:
        """What `svid show ID --json` prints."""
        with self.store.read() as session:
            return find_anything(session, self.home, id_)
