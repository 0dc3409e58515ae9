from __future__ import annotations

import itertools
import json
import os
import resource
import threading
from pathlib import Path

import pytest

from svid.home import Home
from svid.inbox.claim import adopt, claim, claimed_names, read_quiet, shown_name
from svid.inbox.doorbell import Doorbell
from svid.inbox.scan import LARGEST, Scanner


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scanner(tmp_path: Path, clock: Clock) -> Scanner:
    return Scanner(tmp_path, settle=1.0, clock=clock)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_toml_file_is_taken_once_it_stays_the_same(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("image = 'a.png'\n")
    assert scanner.look() == []
    assert scanner.waiting == ["a.toml"]
    clock.now = 0.9
    with file.open("a") as more:
        more.write("prompts = ['x']\n")
    assert scanner.look() == []
    clock.now = 1.5  # 0.6 s after the change: the count began anew
    assert scanner.look() == []
    clock.now = 2.0
    assert names(scanner.look()) == ["a.toml"]


def test_settling_goes_by_our_clock_not_by_the_files(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "future.toml"
    file.write_text("x = 1")
    os.utime(file, (4e9, 4e9))
    assert scanner.look() == []
    clock.now = 1.0
    assert names(scanner.look()) == ["future.toml"]


def test_json_is_taken_as_soon_as_it_parses(scanner: Scanner, tmp_path: Path) -> None:
    whole = json.dumps({"image": "a.png", "prompts": ["x"]})
    file = tmp_path / "a.json"
    file.write_text(whole[:-3])
    assert scanner.look() == []
    file.write_text(whole)
    assert names(scanner.look()) == ["a.json"]


def test_json_does_not_overtake_what_was_dropped_before_it(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    for name, at in (("first.json", 1), ("toml.toml", 2), ("later.json", 3), ("last.toml", 4)):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "x = 1")
        os.utime(tmp_path / name, (at, at))
    assert names(scanner.look()) == ["first.json"]
    assert scanner.waiting == ["last.toml", "later.json", "toml.toml"]
    clock.now = 1.0
    assert names(scanner.look()) == ["first.json", "toml.toml", "later.json", "last.toml"]
    assert scanner.waiting == []


def test_a_file_that_is_always_written_to_holds_nobody_back(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    os.utime(tmp_path / "a.json", (100, 100))
    found = []
    for number in range(98, 103):
        clock.now += 0.5
        (tmp_path / "log.toml").write_text("x" * number)
        os.utime(tmp_path / "log.toml", (number, number))
        found.append(names(scanner.look()))
    assert found == [[], [], ["a.json"], ["a.json"], ["a.json"]]


@pytest.mark.parametrize(
    "name", [".a.toml", "a.toml~", "a.toml.part", "a.toml.tmp", "a.toml.crdownload", "~$a.toml", "#a.toml#", ".#a.toml"]
)
def test_unfinished_names_are_passed_over(scanner: Scanner, clock: Clock, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x = 1")
    scanner.look()
    clock.now = 100
    assert scanner.look() == []
    assert scanner.waiting == []
    assert scanner.strangers == []


def test_what_is_no_manifest_is_named_and_pictures_are_not(scanner: Scanner, tmp_path: Path) -> None:
    for name in ("notes.txt", "a.png", "b.JPG"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.toml").mkdir()
    scanner.look()
    assert scanner.strangers == ["folder", "folder.toml", "notes.txt"]


def test_an_empty_file_gets_more_time_and_then_an_answer(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a.toml").touch()
    scanner.look()
    clock.now = 4.9
    assert scanner.look() == []
    clock.now = 5.0
    assert names(scanner.look()) == ["a.toml"]


def test_links_and_devices_are_taken_to_be_answered(scanner: Scanner, tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.json")
    assert sorted(names(scanner.look())) == ["link.toml", "pipe.json"]


def test_files_are_taken_oldest_first(scanner: Scanner, clock: Clock, tmp_path: Path) -> None:
    for second, name in ((3, "a.toml"), (1, "b.toml"), (2, "c.toml")):
        (tmp_path / name).write_text("x = 1")
        os.utime(tmp_path / name, (second, second))
    scanner.look()
    clock.now = 1
    assert names(scanner.look()) == ["b.toml", "c.toml", "a.toml"]


def test_of_many_claimers_one_wins_every_file(home: Home) -> None:
    files = [home.inbox / f"{number}.toml" for number in range(200)]
    for file in files:
        file.write_text("x = 1")
    won: list[str] = []

    def work(worker: str) -> None:
        for file in files:
            taken = claim(file, home.claimed, worker)
            if taken is not None:
                won.append(taken.name)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(file.name for file in files)
    assert not list(home.inbox.glob("*.toml"))


def test_files_of_a_dead_daemon_are_adopted_and_those_of_a_living_one_are_not(home: Home) -> None:
    for worker in ("dead", "alive", "me"):
        file = home.inbox / f"{worker}.toml"
        file.write_text("x = 1")
        claim(file, home.claimed, worker)
    found = list(adopt(home.claimed, "me", alive=lambda worker: worker == "alive", has_job=lambda name: False))
    assert sorted(one.name for one in found) == ["dead.toml", "me.toml"]
    assert all(one.path.name.startswith("me.") for one in found)


def test_files_are_accepted_in_the_order_of_their_claims_also_past_the_tenth(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svid.inbox.claim._numbers", itertools.count(5))
    names = [f"{letter}.toml" for letter in "zyxwvutsrqponmlkjihgfedcba"]
    for name in names:
        (home.inbox / name).write_text("x = 1")
        claim(home.inbox / name, home.claimed, "me")
    assert [one.name for one in adopt(home.claimed, "me", lambda _: True, lambda _: False)] == names


def test_a_file_that_has_a_job_keeps_the_name_by_which_the_job_knows_it(home: Home) -> None:
    file = home.inbox / "a.toml"
    file.write_text("x = 1")
    taken = claim(file, home.claimed, "dead")
    assert taken is not None
    assert list(adopt(home.claimed, "me", alive=lambda _: False, has_job=lambda name: name == taken.path.name)) == []
    assert taken.path.exists()


def test_names_of_any_bytes_can_be_claimed_and_shown(home: Home) -> None:
    for raw in (b"caf\xe9.toml", b"x" * 240 + b".toml", "日本語.toml".encode(), b"a\nb.toml"):
        file = Path(os.fsdecode(os.fsencode(home.inbox) + b"/" + raw))
        file.write_text("x = 1")
        taken = claim(file, home.claimed, "w")
        assert taken is not None
        assert taken.path.exists()
        assert taken.name.endswith(".toml")
        assert taken.name.isprintable()
    assert shown_name("日本語.toml") == "日本語.toml"


def test_a_link_is_never_read(home: Home, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    link = home.claimed / "w.0.a.toml"
    link.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        read_quiet(link)


def test_more_than_a_manifest_may_have_is_not_read_whole(home: Home) -> None:
    file = home.claimed / "w.0.a.toml"
    file.write_bytes(b"#" * (LARGEST * 3))
    assert read_quiet(file) is None


def test_the_doorbell_rings_and_comes_back_after_its_observer_died(home: Home) -> None:
    rung = threading.Event()
    bell = Doorbell(home.inbox, rung.set)
    try:
        bell.check()
        (home.inbox / "a.toml").write_text("x = 1")
        assert rung.wait(10)
        assert bell._observer is not None
        bell._observer.stop()
        bell._observer.join()
        rung.clear()
        bell.check()
        (home.inbox / "b.toml").write_text("x = 1")
        assert rung.wait(10)
    finally:
        bell.stop()


def test_a_doorbell_that_is_stopped_when_a_file_was_just_taken_says_nothing(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        file, bell = home.inbox / f"{number}.json", Doorbell(home.inbox, lambda: None)
        file.write_text("{}")
        bell.check()
        file.rename(home.claimed / file.name)
        bell.stop()
    assert caplog.records == []


def test_without_events_the_doorbell_says_so_once_and_leaves_nothing_behind(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Doorbell(home.root / "nothing", lambda: None)
    threads = threading.active_count()
    for _ in range(3):
        bell.check()
    assert threading.active_count() == threads
    assert [record.getMessage().count("looking every few seconds") for record in caplog.records] == [1]
    (home.root / "nothing").mkdir()
    try:
        bell.check()
        assert bell._observer is not None
        assert bell._observer.is_alive()
    finally:
        bell.stop()


def test_a_system_that_allows_no_more_observers_costs_the_events_and_not_the_daemon(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Doorbell(home.inbox, lambda: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        bell.check()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "looking every few seconds" in caplog.text
    assert bell._observer is None


def test_what_nobody_claimed_is_no_manifest_of_ours(home: Home) -> None:
    for name in (".3fa9c1b2-probe.part", ".gitkeep", "notes.2024-01.txt", "._h1-00ff.0.a.json", "w.0.", "w.x.a.json"):
        (home.claimed / name).touch()
    assert claimed_names(home.claimed) == []
    assert list(adopt(home.claimed, "w", lambda _: False, lambda _: False)) == []
    (home.claimed / "w.0.a.json").touch()
    assert claimed_names(home.claimed) == ["w.0.a.json"]
