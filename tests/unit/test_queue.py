from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select

from svid.store import queue
from svid.store.engine import Store
from svid.store.models import Attempt, Job, Video

HOME = "h00000001"


def add_job(store: Store, number: int, video: str = "", **values: Any) -> str:
    id_ = f"j{number}"
    with store.write() as session:
        name = video or f"v{number}"
        if session.get(Video, name) is None:
            session.add(Video(id=name, name=name))
            session.flush()
        row: dict[str, Any] = {
            "id": id_,
            "digest": id_,
            "occurrence": 1,
            "file": f"{id_}.toml",
            "claimed": id_,
            "text": "",
            "home": HOME,
        }
        session.add(Job(**row | {"manifest": {}, "pictures": {}, "video_id": name} | values))
    return id_


def take(store: Store, worker: str = "w") -> str | None:
    job = queue.claim(store, worker, HOME)
    return job.id if job else None


def test_oldest_first_and_priority_before_that(store: Store) -> None:
    add_job(store, 1)
    add_job(store, 2)
    add_job(store, 3, priority=5)
    assert [take(store) for _ in range(4)] == ["j3", "j1", "j2", None]


def test_jobs_of_one_video_run_one_at_a_time_in_their_order(store: Store) -> None:
    add_job(store, 1, "v")
    add_job(store, 2, "v", priority=9)
    add_job(store, 3, "other", after="v")
    assert take(store) == "j1"
    assert take(store) is None
    with store.write() as session:
        queue.finish(session, "j1", 1)
    assert [take(store), take(store)] == ["j2", None]
    with store.read() as session:
        states = dict(session.execute(select(Job.id, Job.state)).all())
    assert states == {"j1": "done", "j2": "running", "j3": "queued"}


def test_many_claimers_never_get_the_same_job(store: Store) -> None:
    jobs = {add_job(store, number) for number in range(40)}
    taken: list[str] = []

    def work() -> None:
        while (job := take(store)) is not None:
            taken.append(job)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(jobs)


def test_an_attempt_that_was_taken_over_writes_nothing(store: Store) -> None:
    add_job(store, 1)
    first = queue.claim(store, "old", HOME)
    assert first is not None
    queue.recover(store, HOME, alive=lambda worker: worker != "old")
    second = queue.claim(store, "new", HOME)
    assert second is not None
    assert (second.id, second.attempt) == ("j1", 2)
    with pytest.raises(queue.Fenced), store.write() as session:
        queue.finish(session, "j1", first.attempt)
    with store.read() as session:
        assert session.scalars(select(Job.state)).one() == "running"
    with store.write() as session:
        queue.finish(session, "j1", second.attempt)


def test_a_living_daemon_keeps_its_jobs(store: Store) -> None:
    add_job(store, 1)
    take(store, "alive")
    assert queue.recover(store, HOME, alive=lambda worker: worker == "alive") == []


def crash(store: Store, *, committed: int = 0, reached: tuple[str, int] | None = None) -> bool:
    job = queue.claim(store, "w", HOME)
    assert job is not None
    if committed:
        with store.write() as session:
            session.get_one(Attempt, (job.id, job.attempt)).committed = committed
    return queue.crashed(store, job.id, job.attempt, "signal 11 (SIGSEGV)", 3, reached)


def run_out(store: Store, plan: str, *, again: bool) -> None:
    job = queue.claim(store, "w", HOME)
    assert job is not None
    queue.note_memory(store, job.id, job.attempt, plan)
    queue.out_of_memory(
        store, job.id, job.attempt, "resident", "CUDA out of memory", "832 x 480, 81 frames", again=again
    )


def test_a_job_that_kills_its_process_fails_in_the_end_and_says_why(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store) for _ in range(3)] == [True, True, False]
    with store.read() as session:
        job = session.scalars(select(Job)).one()
    assert job.state == "failed"
    assert job.errors
    assert "3 times in a row" in job.errors[0]["message"]
    assert "SIGSEGV" in job.errors[0]["message"]


def test_a_committed_segment_sets_the_count_back(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store), crash(store), crash(store, committed=1), crash(store), crash(store)] == [True] * 5
    assert crash(store) is False


def test_a_later_snapshot_sets_the_count_back_and_the_same_one_does_not(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store, reached=("a", step)) for step in (1, 1, 2, 3, 2, 4, 1)] == [True] * 7
    assert [crash(store, reached=("a", 4)), crash(store)] == [True, False]


def test_steps_of_another_segment_are_counted_by_themselves(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store, reached=("a", 30)), crash(store), crash(store, reached=("b", 1))] == [True] * 3
    assert [crash(store, reached=("b", 1)), crash(store, reached=("a", 30)), crash(store)] == [True, True, False]


def test_a_step_that_an_earlier_attempt_has_reached_is_none_further(store: Store) -> None:
    """Snapshots under two sets of versions replace each other; they must not keep a job going for ever."""
    add_job(store, 1)
    died = [crash(store, reached=("a", step)) for step in (5, 3, 5, 3)]
    assert died == [True, True, True, False]


def test_running_out_of_memory_does_not_count_and_the_refusal_names_the_plans(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store), crash(store)] == [True, True]
    for plan in ("resident", "one-expert"):
        run_out(store, plan, again=True)
    run_out(store, "streamed", again=False)
    with store.read() as session:
        job = session.scalars(select(Job)).one()
        assert job.state == "failed"
        assert job.errors
        error = job.errors[0]
    assert error["file"] == "j1.toml"
    expected = (
        "under the memory plan resident, then one-expert, then streamed, at 832 x 480, 81 frames: CUDA out of memory"
    )
    assert error["message"] == f"out of memory {expected}"
    assert "fewer frames" in error["hint"]
    assert "svid.toml" not in error["hint"]


def test_running_out_of_memory_between_deaths_does_not_set_the_count_back(store: Store) -> None:
    add_job(store, 1)
    assert [crash(store), crash(store)] == [True, True]
    run_out(store, "resident", again=True)
    assert crash(store) is False


def test_a_job_with_a_plan_of_its_own_is_told_of_the_others(store: Store) -> None:
    add_job(store, 1)
    run_out(store, "resident", again=False)
    with store.read() as session:
        assert '[render] memory = "auto"' in session.scalars(select(Job)).one().errors[0]["hint"]  # type: ignore[index]


def test_the_end_of_the_daemon_is_not_the_jobs_fault(store: Store) -> None:
    add_job(store, 1)
    for _ in range(10):
        take(store, "gone")
        assert queue.recover(store, HOME, alive=lambda _worker: False) == ["j1"]
    assert crash(store) is True


def test_every_attempt_has_its_outcome(store: Store) -> None:
    add_job(store, 1)
    run_out(store, "resident", again=True)
    take(store)
    queue.fail(store, "j1", 2, [{"file": "f", "where": "", "message": "no", "hint": ""}])
    with store.read() as session:
        outcomes = [(one.n, one.outcome) for one in session.scalars(select(Attempt).order_by(Attempt.n))]
    assert outcomes == [(1, "out of memory"), (2, "failed")]
