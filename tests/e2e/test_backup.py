"""`svid backup`: the copy is a home itself, and it renders what the home itself would have rendered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from svid.cli import main
from svid.cli.open import desk_of
from svid.home import Home
from svid.workbench import Workbench
from tests.conftest import svid
from tests.e2e.tools import bench_in, new, rows


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    made = bench_in(tmp_path / "home")
    made.run(new("a", "one", "two"))
    return made


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), *arguments])


def backed_up(home: Home, folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(home, "backup", str(folder), "--json", *arguments)
    assert done.exit_code == 0, done.output
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def restored(made: dict[str, Any], root: Path) -> Home:
    """As the page says: `cp -a BACKUP HOME`."""
    shutil.copytree(made["folder"], root)
    return Home(root)


def test_what_is_restored_is_whole_and_goes_on_as_the_home_would(bench: Workbench, tmp_path: Path) -> None:
    made = backed_up(bench.home, tmp_path / "backups")
    assert made["linked"] == len(rows(bench.home, "SELECT * FROM blob"))
    (artifact,) = bench.show("a")["artifacts"]
    bench.accept({"extend": "a", "prompts": ["three"]})  # after the backup: not in it
    home = restored(made, tmp_path / "restored")
    assert run(home, "verify").stdout.endswith(" 0 wrong\n")
    file = home.root / Path(artifact["path"]).relative_to(bench.home.root)
    assert file.read_bytes() == Path(artifact["path"]).read_bytes()
    other = Workbench(home, desk_of(home))
    job = other.accept({"extend": "a", "prompts": ["three"]})
    other.work()
    bench.work()
    assert other.show("a")["segments"] == [
        {**one, "seconds": other.show("a")["segments"][number]["seconds"]}
        for number, one in enumerate(bench.show("a")["segments"])
    ]
    names = [next((one.done / job.id).glob("*.mp4")) for one in (bench.home, home)]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.slow
def test_a_job_that_waits_or_runs_at_the_backup_is_done_by_what_is_restored(bench: Workbench, tmp_path: Path) -> None:
    waits = bench.accept({"extend": "a", "prompts": ["three"]}).id
    made = backed_up(bench.home, tmp_path / "backups", "--copy")
    assert made["linked"] == 0
    home = restored(made, tmp_path / "restored")
    assert svid(home, "up", "--once").returncode == 0
    assert json.loads((home.done / waits / "manifest.json").read_text())["extend"] == "a"
    assert len(json.loads(svid(home, "show", "a", "--json").stdout)["segments"]) == 3


def test_a_second_backup_takes_only_the_space_of_what_is_new(bench: Workbench, tmp_path: Path) -> None:
    first = backed_up(bench.home, tmp_path / "backups", "--copy")
    bench.run({"extend": "a", "prompts": ["three"]})
    shutil.move(first["folder"], f"{first['folder'][:-4]}000Z")  # two within one second
    second = backed_up(bench.home, tmp_path / "backups", "--copy")
    assert second["linked"] == first["copied"]
    assert second["copied"] == len(rows(bench.home, "SELECT * FROM blob")) - first["copied"] > 0


def test_a_changed_blob_is_named_and_leaves_no_backup(bench: Workbench, tmp_path: Path) -> None:
    ((sha256,),) = rows(bench.home, "SELECT latents FROM segment LIMIT 1")
    blob = bench.studio.blobs.path(sha256)
    data = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(data[:-1] + b"x")
    done = run(bench.home, "backup", str(tmp_path / "backups"))
    assert (done.exit_code, sha256 in done.stderr) == (1, True)
    blob.unlink()
    assert run(bench.home, "backup", str(tmp_path / "backups")).exit_code == 1
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_blob_that_has_rotted_in_the_last_backup_is_taken_from_the_home(bench: Workbench, tmp_path: Path) -> None:
    first = backed_up(bench.home, tmp_path / "backups", "--copy")
    ((sha256,),) = rows(bench.home, "SELECT latents FROM segment LIMIT 1")
    old = Path(first["folder"]) / "db/blobs" / sha256[:2] / sha256
    old.chmod(0o644)
    old.write_bytes(b"rotten")
    moved = Path(first["folder"]).rename(tmp_path / "backups" / "19990101T000000Z")
    second = backed_up(bench.home, tmp_path / "backups", "--copy")
    assert (second["copied"], moved.is_dir()) == (1, True)
    assert run(Home(Path(second["folder"])), "verify").stdout.endswith(" 0 wrong\n")


def test_what_people_do_to_their_videos_does_not_reach_the_backup(bench: Workbench, tmp_path: Path) -> None:
    made = backed_up(bench.home, tmp_path / "backups")
    (artifact,) = bench.show("a")["artifacts"]
    with Path(artifact["path"]).open("ab") as video:
        video.write(b"edited")
    assert run(Home(Path(made["folder"])), "verify").stdout.endswith(" 0 wrong\n")
    moved = Path(made["folder"]).rename(tmp_path / "backups" / "19990101T000000Z")
    again = Path(backed_up(bench.home, tmp_path / "backups")["folder"])
    at = Path(artifact["path"]).relative_to(bench.home.root)
    sheet = at.with_name(next((again / at.parent).glob("*.png")).name)
    assert (again / sheet).samefile(moved / sheet), "what has not changed takes no space"
    assert not (again / at).samefile(moved / at)


def test_a_copy_is_no_link_to_the_home_by_way_of_an_earlier_backup(bench: Workbench, tmp_path: Path) -> None:
    first = Path(backed_up(bench.home, tmp_path / "backups")["folder"])
    (artifact,) = bench.show("a")["artifacts"]
    at = Path(artifact["path"]).relative_to(bench.home.root)
    (first / at).unlink()
    (first / at).hardlink_to(artifact["path"])  # as backups were made once
    first.rename(tmp_path / "backups" / "19990101T000000Z")
    made = backed_up(bench.home, tmp_path / "backups", "--copy")
    assert made["linked"] == 0
    assert not (Path(made["folder"]) / at).samefile(artifact["path"])


def test_a_home_is_not_taken_for_an_earlier_backup(bench: Workbench) -> None:
    made = backed_up(bench.home, bench.home.root.parent, "--copy")
    assert (made["linked"], made["copied"]) == (0, len(rows(bench.home, "SELECT * FROM blob")))
