"""A power failure loses nothing that svid has promised: every file is flushed before it gets its name, its folder after
that, and both before a row points at it. tests/order.py says how that is looked at.

That a disk obeys a flush can't be shown here, nor what it makes of two writes between two flushes.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from svid.errors import ManifestError
from svid.home import bundled_dir
from svid.inbox.accept import accept
from svid.inbox.answer import answer_finished, refuse
from svid.inbox.claim import claim
from svid.inbox.drop import drop_json
from svid.render.checkpoint import Pace
from svid.render.commit import note_blob
from svid.store import gc, queue
from svid.store.backup import back_up
from svid.store.engine import open_store
from svid.store.files import sync_file, sync_folder
from svid.store.migrate import backup
from svid.store.recover import install, rebuild
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new
from tests.order import (
    EARLY,
    UNFLUSHED,
    AllFlushed,
    Committed,
    Entry,
    Flushed,
    FolderFlushed,
    Named,
    faults,
    recorded,
)

MIGRATIONS = bundled_dir() / "db" / "migrations"


def everything(bench: Workbench) -> None:
    """All that gives files their names: jobs done, cancelled and refused, gc and back, backups, a new database."""
    home, store, blobs = bench.home, bench.store, bench.studio.blobs
    bench.studio.pace = Pace(0, lambda: 0.0)  # a snapshot at every step
    bench.run(new("a", "one", "two"))
    bench.run({"extend": "a", "prompts": ["three"]})
    queue.cancel(store, bench.accept({"branch": "a@1", "name": "b", "prompts": ["four"]}).id)
    answer_finished(home, store)
    refused(bench)
    with store.write() as session:
        note_blob(session, blobs, blobs.put(b"nobody's"), "asset")
    _, folder = gc.collect(store, home, blobs, young=0.0)
    assert folder is not None
    gc.put_back(store, home, blobs, folder.name)
    backup(home.database, home.db / "backups", "0001")
    back_up(home, home.root.parent / "backups", lambda file: open_store(file, MIGRATIONS))
    store.close()
    install(home, rebuild(home, MIGRATIONS))


def refused(bench: Workbench) -> None:
    """As the daemon refuses a file."""
    claimed = claim(drop_json(bench.home, "bad", {"name": "bad"}), bench.home.claimed, "bench")
    assert claimed is not None
    with pytest.raises(ManifestError) as error:
        accept(bench.desk, claimed)
    refuse(bench.home, bench.store, claimed, error.value.problems)


def one_job(bench: Workbench) -> None:
    bench.studio.pace = Pace(0, lambda: 0.0)
    bench.run(new("a", "one"))


def record_of(root: Path, what: Callable[[Workbench], None] = one_job) -> list[Entry]:
    bench = bench_in(root / "home")
    with recorded(bench.home) as record:
        what(bench)
    return record.entries


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return record_of(tmp_path_factory.mktemp("order"), everything)


def kind(path: Path) -> str:
    """What a file is, by its name."""
    if len(path.name) == 64:
        return "blob"
    if path.parent.name in ("inbox", "claimed"):
        return path.parent.name
    return path.suffix if path.suffix == ".safetensors" else path.name if path.suffix else path.parent.name


def test_no_power_failure_would_break_anything(whole: list[Entry]) -> None:
    assert faults(whole) == []
    named = {kind(one.path) for one in whole if isinstance(one, Named)}
    assert named >= {"inbox", "claimed", "blob", ".safetensors", "a.mp4", "a-sheet.png", "result.json", "receipt.json"}
    assert named >= {"error.json", "error.txt", "manifest.json", "rows.json", "svid-0001.db", "svid.db", "backups"}
    pointed = {kind(path) for one in whole if isinstance(one, Committed) for path in one.points}
    assert pointed >= {"claimed", "blob", "0.json", "a.mp4", "a-sheet.png", "result.json", "manifest.json", "rows.json"}


def test_a_copy_from_before_a_migration_is_safe_before_the_migration(tmp_path: Path) -> None:
    bench = bench_in(tmp_path / "home")
    with recorded(bench.home) as record:
        backup(bench.home.database, bench.home.db / "backups", "0001")
    assert faults(record.entries) == []
    assert [one.path.name for one in record.entries if isinstance(one, Named)] == ["svid-0001.db"]


def test_what_a_process_left_that_died_before_it_flushed_is_flushed_by_the_next_one(tmp_path: Path) -> None:
    """Its blobs have their names, for all that anyone can see, and may be gone after a power failure all the same."""
    first, second = bench_in(tmp_path / "first"), bench_in(tmp_path / "second")
    one_job(first)
    shutil.copytree(first.home.blobs, second.home.blobs, dirs_exist_ok=True)
    with recorded(second.home) as record:
        one_job(second)
    assert faults(record.entries) == []
    assert not any(kind(one.path) == "blob" for one in record.entries if isinstance(one, Named))
    pointed = [path for one in record.entries if isinstance(one, Committed) for path in one.points]
    assert sum(kind(path) == "blob" for path in pointed) == 4, "a picture, latents, a tail, a clip"


def test_of_every_flush_it_is_said_that_it_is_missing(whole: list[Entry]) -> None:
    """Without this, a check that sees nothing would pass for one that finds nothing."""
    needed = {stamp for one in whole if isinstance(one, Named) for stamp in one.stamps}
    files = [one for one in whole if isinstance(one, Flushed) and one.stamp in needed]
    for flush in files:
        assert any(fault.why == UNFLUSHED for fault in faults([one for one in whole if one != flush])), flush
    # What a backup flushes all at once would cover for what was forgotten before it.
    known = [one for one in whole if not isinstance(one, AllFlushed)]
    before = faults(known)
    folders = {one for one in whole if isinstance(one, FolderFlushed)}
    for folder in folders:
        assert len(faults([one for one in known if one != folder])) > len(before), folder
    assert (len(files), len(folders)) > (20, 10)


def test_of_every_commit_it_is_said_that_it_came_too_early(whole: list[Entry]) -> None:
    for number, one in enumerate(whole):
        if isinstance(one, Committed) and one.points:
            before = max(at for at in range(number) if isinstance(whole[at], FolderFlushed | AllFlushed))
            early = [*whole[:before], one, *whole[before:number], *whole[number + 1 :]]
            assert any(fault.why == EARLY for fault in faults(early)), one


SPOILT = {"blob", "0.json", "a.mp4", "a-sheet.png", "result.json", "receipt.json", "manifest.json"}


@pytest.mark.parametrize(
    ("of_folders", "why", "more"), [(False, UNFLUSHED, {"inbox", ".safetensors"}), (True, EARLY, {"claimed"})]
)
def test_a_svid_that_does_not_flush_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_folders: bool, why: str, more: set[str]
) -> None:
    def work(bench: Workbench) -> None:
        real = os.fsync
        is_folder = lambda handle: stat.S_ISDIR(os.fstat(handle).st_mode)  # noqa: E731
        monkeypatch.setattr(os, "fsync", lambda handle: None if is_folder(handle) == of_folders else real(handle))
        one_job(bench)

    found = faults(record_of(tmp_path, work))
    assert {kind(fault.path) for fault in found if fault.why == why} == SPOILT | more


def flushes_late(part: Path, target: Path) -> None:
    part.replace(target)
    sync_file(target)
    sync_folder(target.parent)


def flushes_no_folder(part: Path, target: Path) -> None:
    sync_file(part)
    part.replace(target)


PLACES = ("store.blobs", "store.files", "store.snapshots", "render.video")


@pytest.mark.parametrize(
    ("place", "wrong"),
    # The folder of a video is flushed for its sheet, before the row.
    [(one, flushes_late) for one in PLACES] + [(one, flushes_no_folder) for one in PLACES[:-1]],
)
def test_a_svid_that_publishes_in_another_order_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, wrong: Callable[[Path, Path], None]
) -> None:
    monkeypatch.setattr(f"svid.{place}.publish", wrong)
    if wrong is flushes_late and place != "store.files":  # nor before others have to wait for it
        monkeypatch.setattr(f"svid.{place}.sync_file", lambda file: None)
    assert faults(record_of(tmp_path))
