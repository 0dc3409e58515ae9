"""One file that the disk can't read any more, on a disk that is well otherwise, costs the job that needs it."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from svid.cli.open import desk_of
from svid.daemon.halt import trouble
from svid.daemon.worker import _try
from svid.errors import BlobError, Problem, StageError, StorageError
from svid.home import Home
from svid.render.job import render_job
from svid.render.watch import Watch
from svid.store import disk, queue
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import bench_in, new, value
from tests.unit import badfiles
from tests.unit.badfiles import Disk, gone

broken = badfiles.broken


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A home with a video, a, of one segment."""
    made = bench_in(tmp_path_factory.mktemp("bench") / "home")
    made.run(new("a", "one"))
    return made


def attempt(bench: Workbench) -> dict[str, Any]:
    """One go at the next job, as the render process makes it."""
    job = queue.claim(bench.store, "bench", bench.home.id)
    assert job is not None
    outcome = _try(
        lambda: render_job(bench.studio, job.id, job.attempt, Watch(lambda event: None)), bench.home, bench.store
    )
    with contextlib.suppress(queue.Fenced):  # it is done
        queue.fail(bench.store, job.id, job.attempt, [])  # out of the next test's way
    return outcome


def blob(home: Home, column: str) -> str:
    return str(value(home, f"SELECT {column} FROM segment WHERE parent_id IS NULL"))


@pytest.mark.parametrize("column", ["latents", "tail"])
def test_a_job_fails_with_the_blob_that_can_not_be_read(bench: Workbench, broken: Disk, column: str) -> None:
    sha256 = blob(bench.home, column)
    bench.accept({"extend": "a", "prompts": ["two"]})
    broken.bad.add(sha256)
    outcome = attempt(bench)
    assert outcome["outcome"] == "failed"
    (problem,) = outcome["errors"]
    assert problem["file"] == f"db/blobs/{sha256[:2]}/{sha256}"
    assert problem["message"] == "can't be read: Input/output error"
    assert "svid retry" in problem["hint"]


def test_a_job_waits_where_nothing_can_be_written_either(bench: Workbench, broken: Disk) -> None:
    bench.accept({"extend": "a", "prompts": ["two"]})
    broken.bad |= {blob(bench.home, "latents"), "-probe.part"}
    assert attempt(bench)["outcome"] == "storage"


def test_a_picture_that_can_not_be_read_is_named(bench: Workbench, broken: Disk) -> None:
    bench.accept(new("b", "one", reuse=False))
    sha256 = value(bench.home, "SELECT sha256 FROM asset")
    broken.bad.add(sha256)
    outcome = attempt(bench)
    assert outcome["outcome"] == "failed"
    assert outcome["errors"][0]["file"].endswith(sha256)


def test_weights_that_can_not_be_read_are_named(bench: Workbench, broken: Disk) -> None:
    bench.accept(new("c", "one", reuse=False))
    with bench.store.write() as session:
        session.connection().exec_driver_sql("DELETE FROM file_digest")
    broken.bad.add("transformer_2/diffusion_pytorch_model.safetensors")
    outcome = attempt(bench)
    assert outcome["outcome"] == "failed"
    assert "transformer_2" in outcome["errors"][0]["file"]


def test_a_blob_that_can_not_be_read_is_written_anew_when_it_is_made_again(bench: Workbench, broken: Disk) -> None:
    blobs = bench.studio.blobs
    sha256 = blobs.put(b"some bytes")
    lost = blobs.path(sha256).stat().st_ino
    broken.bad.add(sha256)
    with pytest.raises(BlobError):
        blobs.get(sha256)
    assert blobs.put(b"some bytes") == sha256
    broken.bad.clear()
    assert blobs.path(sha256).stat().st_ino != lost
    assert blobs.get(sha256) == b"some bytes"


def behind(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


HOME = (Path("/srv/home/db"), Path("/srv/home/watch"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_file_that_svid_names_is_what_a_job_lacks(number: int) -> None:
    named = behind(BlobError(Problem("db/blobs/aa/aabb", "", "can't be read")), gone(number, "/srv/home/db/blobs/a"))
    for error in (named, behind(StageError("x"), named)):
        found = disk.fault_of_one(error, HOME)
        assert found is not None
        assert found.file == "db/blobs/aa/aabb"
    found = disk.fault_of_one(named, HOME)
    assert found is not None
    assert found.hint == disk.LOST


def test_what_svid_could_not_write_is_tried_again() -> None:
    full = behind(BlobError(Problem("db/blobs/aa/aabb", "", "can't be read")), gone(errno.ENOSPC))
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    again = (
        gone(errno.EIO, "/srv/home/db/tmp/1-0.part"),
        full,
        behind(StageError("x"), gone(errno.ENOSPC, "/srv/home/db/tmp/1-0.part")),
        behind(StageError("x"), behind(StorageError("x"), gone(errno.EIO))),
        behind(StorageError("x"), busy),
        BlobError("its bytes have changed"),
    )
    for error in again:
        assert disk.fault_of_one(error, HOME) is None


def test_what_a_stage_meets_with_files_of_its_own_is_its_job_s() -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    causes = [gone(number, "/mnt/x") for number in disk.ERRNOS] + [gone(errno.ENOSPC), busy]
    for cause in causes:
        found = disk.fault_of_one(behind(StageError(Problem("plugins/x.py", "line 3", "raised")), cause), HOME)
        assert found is not None
        assert (found.file, found.where) == ("plugins/x.py", "line 3")
        assert ("/mnt/x: " in found.hint) == (getattr(cause, "filename", None) is not None)


def test_a_full_disk_that_a_stage_does_not_name_may_be_the_home_s(tmp_path: Path, monkeypatch: Any) -> None:
    refused = behind(StageError("x"), gone(errno.ENOSPC))
    for free, costs_the_job in ((disk.SHORT, True), (disk.SHORT - 1, False)):
        monkeypatch.setattr(disk, "free_bytes", lambda _, free=free: free)
        assert (disk.fault_of_one(refused, (tmp_path,)) is not None) == costs_the_job
    assert disk.fault_of_one(behind(StageError("x"), gone(errno.EDQUOT)), (tmp_path,)) is None


STAGE = '''"""Meets what a prompt says, with a file of its own."""

import os

import svid


@svid.hookimpl(wrapper=True)
def svid_sample(segment):
    verb, _, number = segment.prompt.partition(" ")
    if verb == "meets":
        raise OSError(int(number), os.strerror(int(number)), "/mnt/own/file")
    return (yield)
'''


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A home with a plugin that meets errors of disks."""
    home = quick_home(tmp_path_factory.mktemp("staged") / "home")
    (home.plugins / "meets.py").write_text(STAGE)
    return Workbench(home, desk_of(home))


@pytest.mark.parametrize("number", [*disk.ERRNOS, errno.EACCES, errno.ENOENT, errno.EMFILE], ids=os.strerror)
def test_whatever_error_of_a_disk_a_stage_raises_costs_its_job_only(staged: Workbench, number: int) -> None:
    staged.accept(new(f"m{number}", f"meets {number}", reuse=False))
    staged.accept(new(f"n{number}", "goes well", reuse=False))
    outcome = attempt(staged)
    assert outcome["outcome"] == "failed"
    (problem,) = outcome["errors"]
    assert problem["file"].endswith("meets.py")
    assert os.strerror(number) in problem["message"]
    assert "/mnt/own/file" in problem["message"]
    assert attempt(staged)["outcome"] == "done"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT])
def test_an_error_of_a_stage_on_a_storage_that_is_broken_costs_nothing(
    staged: Workbench, broken: Disk, number: int
) -> None:
    staged.accept(new(f"b{number}", f"meets {number}", reuse=False))
    broken.bad.add("-probe.part")
    outcome = attempt(staged)
    assert outcome["outcome"] == "storage"
    assert outcome["problem"]["file"] == str(staged.home.tmp)


@pytest.mark.parametrize("name", ["tmp", "blobs", "inbox", "claimed", "done", "failed"])
def test_each_folder_of_the_storage_is_tried(bench: Workbench, broken: Disk, name: str) -> None:
    assert trouble(bench.home, bench.store) is None
    folder: Path = getattr(bench.home, name)
    broken.bad.add(f"{folder}/.")
    found = trouble(bench.home, bench.store)
    assert found is not None
    assert (found.file, found.message) == (str(folder), "Input/output error")
