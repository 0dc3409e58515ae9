"""The queue: every change of a job's state, each in one short transaction.

A job is `queued`, `running` under one worker and one attempt, then `done` or `failed`. The number of the attempt is the
token of the lease: it grows with every claim, and whoever works on the job writes rows and gives files their names only
in a transaction that has found it to be the current one (`held`, `fence`). What comes later touches nothing and raises
Fenced.

No clock takes a job away. A lease ends with its transaction or with its daemon, whose life the kernel knows of
(svid.daemon.lock).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from svid.errors import Problem, StoreError
from svid.memory import AUTO, PLANS
from svid.store.engine import Store
from svid.store.models import Attempt, Job, now

FAULTLESS = ("interrupted", "stopped", "storage", "out of memory")
"""Outcomes that don't count against a job. The end of the daemon is not its fault, and memory plans are few."""


class Fenced(StoreError):
    """The job was taken over by another attempt."""


def claim(store: Store, worker: str, home: str) -> Job | None:
    """Take the next job of a home: highest priority, then oldest. Jobs of one video run one at a time, in the order
    they came, whichever home they are of. One that moves a tip also waits for earlier ones that branch off: they mean
    the video as it was."""
    earlier, job = aliased(Job), aliased(Job)
    blocked = select(earlier.id).where(_before(earlier, job)).exists()
    ready = select(job).where(job.home == home, job.state == "queued", ~blocked)
    with store.write() as session:
        found = session.scalars(ready.order_by(job.priority.desc(), job.seq).limit(1)).first()
        if found is None:
            return None
        found.state, found.worker, found.attempt = "running", worker, found.attempt + 1
        session.add(Attempt(job_id=found.id, n=found.attempt, worker=worker))
        return found


def _before(earlier: type[Job], job: type[Job]) -> ColumnElement[bool]:
    leaves = and_(earlier.after == job.video_id, job.manifest["redo"].as_string().is_not(None))
    same_video = or_(earlier.video_id == job.video_id, earlier.video_id == job.after, leaves)
    return and_(same_video, earlier.seq < job.seq, earlier.state.in_(("queued", "running")))


def waits_for_others(session: Session, home: str) -> list[tuple[str, str, str]]:
    """The jobs of a home that wait for one of another home, each with that one and its home: nobody here can do it."""
    earlier, job = aliased(Job), aliased(Job)
    pairs = select(job.id, earlier.id, earlier.home).join(earlier, _before(earlier, job))
    waiting = pairs.where(job.home == home, job.state == "queued", earlier.home != home)
    found = session.execute(waiting.order_by(job.seq, earlier.seq))
    return [(waits, first, of) for waits, first, of in found]


def fence(session: Session, job: str, attempt: int, **values: Any) -> None:
    """Write to the job as this attempt, or only see that it still is the one that runs: it stays so until the
    transaction ends. Raises Fenced where it is not."""
    own = and_(Job.id == job, Job.attempt == attempt, Job.state == "running")
    if values:
        found = session.execute(update(Job).where(own).values(**values)).rowcount == 1  # type: ignore[attr-defined]
    else:  # the lock is for databases whose transactions do not exclude one another, as SQLite's do
        found = session.scalar(select(Job.seq).where(own).with_for_update()) is not None
    if not found:
        raise Fenced(Problem(job, f"attempt {attempt}", "this job was taken over by another attempt, or has ended"))


@contextmanager
def held(store: Store, job: str, attempt: int) -> Iterator[Session]:
    """A transaction in which the job is this attempt's and nobody can take it over: here files get their names, and
    rows their places. Raises Fenced where it was taken over before."""
    with store.write() as session:
        fence(session, job, attempt)
        yield session


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


def cancel(store: Store, job: str, *, attempt: int | None = None) -> bool:
    """End a job that nobody wants any more: one that waits, or, with its `attempt`, the one that runs. False where it
    is in another state by now. What it has rendered stays."""
    with store.write() as session:
        row = session.scalars(select(Job).where(Job.id == job)).one_or_none()
        if row is None or (attempt is None and row.state != "queued"):
            return False
        problem = Problem(row.file, "", "was cancelled", f"svid retry {job} asks for it again").as_dict()
        if attempt is None:
            row.state, row.ended, row.errors = "failed", now(), [problem]
            return True
        fence(session, job, attempt, state="failed", ended=now(), worker=None, errors=[problem])
        close_attempt(session, job, attempt, "cancelled")
        return True


def state_of(store: Store, job: str) -> str | None:
    """The state of a job; None where the database has none of this id."""
    with store.read() as session:
        return session.scalar(select(Job.state).where(Job.id == job))


def prioritize(store: Store, job: str, priority: int) -> bool:
    """Give a job that waits another priority. False where it waits no more."""
    with store.write() as session:
        waiting = and_(Job.id == job, Job.state == "queued")
        changed = session.execute(update(Job).where(waiting).values(priority=priority))
        return bool(changed.rowcount == 1)  # type: ignore[attr-defined]


def release(store: Store, job: str, attempt: int, outcome: str, detail: str | None = None) -> None:
    """Put an unfinished job back into the queue."""
    with store.write() as session:
        fence(session, job, attempt, state="queued", worker=None)
        close_attempt(session, job, attempt, outcome, detail)


def note_memory(store: Store, job: str, attempt: int, plan: str) -> None:
    """Note by which memory plan an attempt has its model placed."""
    with store.write() as session:
        fence(session, job, attempt)
        session.get_one(Attempt, (job, attempt)).memory = plan


def out_of_memory(store: Store, job: str, attempt: int, plan: str, detail: str, size: str, *, again: bool) -> None:
    """This attempt ran out of memory under a `plan`. `again`: there is a smaller one, so the job goes back into the
    queue; else it fails. `size` is that of the segment in flight, in words."""
    with store.write() as session:
        close_attempt(session, job, attempt, "out of memory", detail)
        unsaid = (Attempt.job_id == job, Attempt.n == attempt, Attempt.memory.is_(None))
        session.execute(update(Attempt).where(*unsaid).values(memory=plan))
        if again:
            fence(session, job, attempt, state="queued", worker=None)
            return
        met = (Attempt.job_id == job, Attempt.outcome == "out of memory", Attempt.memory.is_not(None))
        plans = list(dict.fromkeys(session.scalars(select(Attempt.memory).where(*met).order_by(Attempt.n))))
        tried = f" under the memory plan {', then '.join(map(str, plans))}" if plans else ""
        message = f"out of memory{tried}, at {size}: {detail}"
        hint = "ask for fewer frames or a smaller width and height, or close what else uses this memory"
        if plans[-1:] != [PLANS[-1].name]:
            hint += f'; [render] memory = "{AUTO}" in svid.toml tries smaller plans'
        problem = Problem(session.scalars(select(Job.file).where(Job.id == job)).one(), "", message, hint)
        fence(session, job, attempt, state="failed", ended=now(), worker=None, errors=[problem.as_dict()])


def crashed(
    store: Store, job: str, attempt: int, detail: str, limit: int, reached: tuple[str, int] | None = None
) -> bool:
    """The render process died on this attempt. True where the job may be tried again.

    It fails once `limit` attempts in a row ended so without getting any further, because it would go on for ever. A
    committed segment is further, and so is a later step: `reached` is the ask of the segment in flight and the step of
    its snapshot.
    """
    with store.write() as session:
        close_attempt(session, job, attempt, "crashed", detail)
        if reached is not None:
            session.get_one(Attempt, (job, attempt)).reached = {"ask": reached[0], "step": reached[1]}
            session.flush()
        in_a_row = _without_progress(session, job)
        if in_a_row < limit:
            fence(session, job, attempt, state="queued", worker=None)
            return True
        message = (
            f"the render process died {in_a_row} times in a row without finishing a segment or getting further in one; "
            f"the last time: {detail}"
        )
        problem = Problem(session.scalars(select(Job.file).where(Job.id == job)).one(), "", message)
        fence(session, job, attempt, state="failed", ended=now(), worker=None, errors=[problem.as_dict()])
        return False


def _without_progress(session: Session, job: str) -> int:
    """How often, up to now, the render process died on a job since it last got further."""
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job).order_by(Attempt.n))
    in_a_row, furthest = 0, dict[str, int]()
    for one in attempts:
        step, ask = (one.reached or {}).get("step", 0), (one.reached or {}).get("ask", "")
        if one.committed or step > furthest.get(ask, 0) or one.outcome not in ("crashed", *FAULTLESS):
            in_a_row = 0
        else:
            in_a_row += one.outcome == "crashed"
        furthest[ask] = max(step, furthest.get(ask, 0))
    return in_a_row


def recover(store: Store, home: str, alive: Callable[[str], bool]) -> list[str]:
    """Put back the jobs of a home whose worker is not at work on them any more, and return their ids."""
    own = and_(Job.home == home, Job.state == "running")
    with store.read() as session:
        running = list(session.execute(select(Job.id, Job.attempt, Job.worker).where(own)))
    lost = [(job, attempt) for job, attempt, worker in running if not alive(worker or "")]
    for job, attempt in lost:
        try:
            release(store, job, attempt, "interrupted", "nobody was at it any more")
        except Fenced:
            continue
    return [job for job, _ in lost]


def note_progress(store: Store, job: str, attempt: int, progress: Mapping[str, Any]) -> None:
    """Keep what `svid status` shows of a running job."""
    with store.write() as session:
        fence(session, job, attempt, progress=dict(progress))


def unanswered(session: Session, home: str) -> int:
    """How many jobs of a home have not ended, or have no answer yet."""
    return session.scalar(select(func.count(Job.seq)).where(Job.home == home, ~Job.answered)) or 0
