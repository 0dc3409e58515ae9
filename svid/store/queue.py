"""The queue: every change of a job's state, each in one short transaction.

A job is `queued`, `running` under one worker and one attempt, then `done` or `failed`. Whoever works on it writes only
as that attempt; the write of an attempt that was taken over touches nothing and raises Fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session, aliased

from svid.errors import Problem, StoreError
from svid.store.engine import Store
from svid.store.models import Attempt, Job, now

COUNTED = ("crashed", "out of memory")
"""Outcomes that count against a job. The end of the daemon is not the job's fault."""


class Fenced(StoreError):
    """The job was taken over by another attempt."""


def claim(store: Store, worker: str) -> Job | None:
    """Take the next job: highest priority, then oldest. Jobs of one video run one at a time, in the order they came."""
    earlier, job = aliased(Job), aliased(Job)
    same_video = or_(earlier.video_id == job.video_id, earlier.video_id == job.after)
    blocked = select(earlier.id).where(same_video, earlier.seq < job.seq, earlier.state.in_(("queued", "running")))
    ready = select(job).where(job.state == "queued", ~blocked.exists()).order_by(job.priority.desc(), job.seq).limit(1)
    with store.write() as session:
        found = session.scalars(ready).first()
        if found is None:
            return None
        found.state, found.worker, found.attempt = "running", worker, found.attempt + 1
        session.add(Attempt(job_id=found.id, n=found.attempt, worker=worker))
        return found


def fence(session: Session, job: str, attempt: int, **values: Any) -> None:
    """Write to the job as this attempt. Raises Fenced where it no longer is the one that runs."""
    own = and_(Job.id == job, Job.attempt == attempt, Job.state == "running")
    if session.execute(update(Job).where(own).values(**values or {"attempt": attempt})).rowcount != 1:  # type: ignore[attr-defined]
        raise Fenced(Problem(job, f"attempt {attempt}", "another attempt runs this job now"))


def close_attempt(session: Session, job: str, attempt: int, outcome: str, detail: str | None = None) -> None:
    """Note how an attempt ended; one that has an outcome keeps it."""
    open_one = and_(Attempt.job_id == job, Attempt.n == attempt, Attempt.outcome.is_(None))
    session.execute(update(Attempt).where(open_one).values(outcome=outcome, detail=detail, ended=now()))


def finish(session: Session, job: str, attempt: int) -> None:
    """The job is done."""
    fence(session, job, attempt, state="done", ended=now(), worker=None, progress=None)
    close_attempt(session, job, attempt, "done")


def fail(store: Store, job: str, attempt: int, problems: list[dict[str, str]]) -> None:
    """The job can't be done; its answer is `problems`."""
    with store.write() as session:
        fence(session, job, attempt, state="failed", ended=now(), worker=None, errors=problems)
        close_attempt(session, job, attempt, "failed", problems[0]["message"] if problems else None)


def release(store: Store, job: str, attempt: int, outcome: str, detail: str | None = None) -> None:
    """Put an unfinished job back into the queue."""
    with store.write() as session:
        fence(session, job, attempt, state="queued", worker=None)
        close_attempt(session, job, attempt, outcome, detail)


def crashed(store: Store, job: str, attempt: int, outcome: str, detail: str, limit: int) -> bool:
    """The render process died on this attempt. True where the job may be tried again.

    It fails once `limit` attempts in a row ended so without committing a segment, because it would go on for ever.
    """
    with store.write() as session:
        close_attempt(session, job, attempt, outcome, detail)
        attempts = session.scalars(select(Attempt).where(Attempt.job_id == job).order_by(Attempt.n.desc()))
        in_a_row = 0
        for one in attempts:
            if one.committed or one.outcome not in (*COUNTED, "interrupted", "stopped"):
                break
            in_a_row += one.outcome in COUNTED
        if in_a_row < limit:
            fence(session, job, attempt, state="queued", worker=None)
            return True
        message = (
            f"the render process died {in_a_row} times in a row without finishing a segment; the last time: {detail}"
        )
        problem = Problem(session.scalars(select(Job.file).where(Job.id == job)).one(), "", message)
        fence(session, job, attempt, state="failed", ended=now(), worker=None, errors=[problem.as_dict()])
        return False


def recover(store: Store, alive: Callable[[str], bool]) -> list[str]:
    """Put back the jobs whose worker is gone, and return their ids."""
    with store.read() as session:
        running = list(session.execute(select(Job.id, Job.attempt, Job.worker).where(Job.state == "running")))
    lost = [(job, attempt) for job, attempt, worker in running if not alive(worker or "")]
    for job, attempt in lost:
        try:
            release(store, job, attempt, "interrupted", "the daemon ended")
        except Fenced:
            continue
    return [job for job, _ in lost]


def note_progress(store: Store, job: str, attempt: int, progress: Mapping[str, Any]) -> None:
    """Keep what `svid status` shows of a running job."""
    with store.write() as session:
        fence(session, job, attempt, progress=dict(progress))
