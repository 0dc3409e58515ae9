"""Answers: what stands in watch/done and watch/failed. Each is written whole, and the manifest moves last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from svid.crash import crashpoint
from svid.errors import Problem
from svid.home import Home
from svid.inbox.claim import Claimed
from svid.store.engine import Store
from svid.store.files import make_folder, sha256_of, sync_folder, write_whole
from svid.store.models import Job
from svid.store.show import artifact_of, chain_as_dicts


def answer_finished(home: Home, store: Store) -> list[str]:
    """Answer every job that has ended and has no answer yet; returns their ids. Safe to repeat after a crash."""
    with store.read() as session:
        jobs = list(
            session.scalars(select(Job).where(Job.state.in_(("done", "failed")), ~Job.answered).order_by(Job.seq))
        )
    for job in jobs:
        folder = (home.done if job.state == "done" else home.failed) / job.id
        make_folder(folder)
        if job.state == "done":
            _write_json(home, folder / "result.json", _result(home, store, job))
        else:
            _write_errors(home, folder, [Problem(**problem) for problem in job.errors or []], {"job": job.id})
        crashpoint("answer-written")
        _move_manifest(home, home.claimed / job.claimed, folder, Path(job.file).suffix, job.text)
        crashpoint("manifest-moved")
        with store.write() as session:
            session.execute(update(Job).where(Job.id == job.id).values(answered=True))
    return [job.id for job in jobs]


def _result(home: Home, store: Store, job: Job) -> dict[str, Any]:
    with store.read() as session:
        artifact = artifact_of(session, home, job.id)
        segments = chain_as_dicts(session, artifact.pop("tip"))
    return {"job": job.id, "video": job.video_id, "artifact": artifact, "segments": segments}


def _move_manifest(home: Home, claimed: Path, folder: Path, suffix: str, text: str) -> None:
    target = folder / f"manifest{suffix}"
    try:
        claimed.rename(target)
    except FileNotFoundError:
        if not target.exists():  # someone took it away; what it said is in the database
            write_whole(target, text.encode(), home.tmp)
    sync_folder(folder)
    if claimed.parent.is_dir():
        sync_folder(claimed.parent)


def refuse(home: Home, claimed: Claimed, problems: Sequence[Problem]) -> Path:
    """Answer a file that could not become a job; returns the folder with the reason and the file."""
    stem = Path(claimed.name).stem or "manifest"
    mark = sha256_of(claimed.path)[:8] if claimed.path.is_file() and not claimed.path.is_symlink() else "link"
    number, folder = 1, home.failed / f"{stem}-{mark}"
    while any(folder.glob("manifest*")):  # the same file was refused before; that answer stays
        number += 1
        folder = home.failed / f"{stem}-{mark}-{number}"
    make_folder(folder)
    _write_errors(home, folder, problems, {})
    crashpoint("answer-written")
    claimed.path.rename(folder / f"manifest{Path(claimed.name).suffix}")
    sync_folder(folder)
    sync_folder(home.claimed)
    return folder


def _write_errors(home: Home, folder: Path, problems: Sequence[Problem], facts: dict[str, Any]) -> None:
    write_whole(folder / "error.txt", "".join(f"{problem}\n" for problem in problems).encode(), home.tmp)
    _write_json(home, folder / "error.json", {**facts, "errors": [problem.as_dict() for problem in problems]})


def _write_json(home: Home, target: Path, value: dict[str, Any]) -> None:
    write_whole(target, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), home.tmp)
