"""What a manifest may name, and what it may be."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from svid.errors import ManifestError, MediaError
from svid.home import Home, bundled_dir
from svid.inbox.accept import Desk, accept
from svid.inbox.answer import refuse
from svid.inbox.claim import Claimed, claim, read_quiet
from svid.inbox.pictures import PictureStore
from svid.inbox.scan import LARGEST
from svid.plugin.manager import Plugins
from svid.store.blobs import Blobs
from svid.store.engine import Store


@pytest.fixture
def pictures(home: Home, store: Store) -> PictureStore:
    return PictureStore(Blobs(home.blobs, home.tmp), store, 1_000_000)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (f"{'../' * 30}etc/passwd", "outside the folders"),
        ("/etc/passwd", "outside the folders"),
        ("/dev/zero", "outside the folders"),
        ("/proc/self/mem", "outside the folders"),
        ("link.png", "outside the folders"),
        ("to-root/etc/passwd", "outside the folders"),
        ("loop.png", "no such file"),
        ("pipe.png", "not a regular file"),
        ("folder.png", "not a regular file"),
        ("concat:harbour.png", "no such file"),
        ("file:///etc/passwd", "no such file"),
        ("http://localhost/a.png", "no such file"),
        ("a" * 4000, "no such file"),
        ("asset:../../../svid.toml", "64 hexadecimal digits"),
        ("a\0.png", "zero byte"),
        (".", "not a regular file"),
    ],
)
@pytest.mark.parametrize("take", ["take", "take_clip"])
def test_only_regular_files_under_the_roots(
    home: Home, pictures: PictureStore, written: str, words: str, take: str
) -> None:
    (home.inbox / "link.png").symlink_to("/etc/passwd")
    (home.inbox / "to-root").symlink_to("/")
    (home.inbox / "loop.png").symlink_to("loop.png")
    (home.inbox / "folder.png").mkdir()
    os.mkfifo(home.inbox / "pipe.png")
    with pytest.raises(MediaError, match=words):
        getattr(pictures, take)(written, home.inbox, [home.inbox])
    assert not [path for path in home.tmp.rglob("*") if path.is_file()], "nothing is left behind"
    assert not [path for path in home.blobs.rglob("*") if path.is_file()], "nothing is stored"


def test_roots_may_be_below_the_user_s_own_folder(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    Image.new("RGB", (32, 32), "red").save(album / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = home.root / "svid.toml"
    config.write_text(re.sub(r"(?m)^roots = \[.*?\]", 'roots = ["~/album"]', config.read_text()))
    desk = Desk(Home(home.root), store, Plugins.load(bundled_dir() / "plugins", home.plugins))
    text = json.dumps({"name": "a", "image": str(album / "a.png"), "prompts": ["one"]})
    assert len(desk.understand(text.encode(), "a.json", home.inbox).inputs) == 1


def test_a_folder_that_becomes_a_link_after_it_was_judged(
    home: Home, pictures: PictureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = home.inbox / "album", tmp_path / "private"
    for folder, colour in ((inside, "red"), (outside, "blue")):
        folder.mkdir()
        Image.new("RGB", (32, 32), colour).save(folder / "a.png")
    real = Path.is_relative_to

    def judged(self: Path, other: Any) -> bool:
        verdict = real(self, other)
        if self.name == "a.png" and verdict and not inside.is_symlink():
            inside.rename(tmp_path / "moved")
            inside.symlink_to(outside)
        return verdict

    monkeypatch.setattr(Path, "is_relative_to", judged)
    with pytest.raises(MediaError, match="can't be opened"):
        pictures.take("album/a.png", home.inbox, [])


def test_a_file_that_grows_while_it_is_copied_is_let_go(
    home: Home, pictures: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svid.inbox.pictures.LARGEST", 1 << 20)
    with (home.inbox / "big.png").open("wb") as file:
        file.truncate(3 << 20)
    with monkeypatch.context() as patch:
        patch.setattr("svid.inbox.pictures.os.fstat", lambda handle: os.stat_result((0o100644, *[0] * 9)))
        with pytest.raises(MediaError, match="an input has at most 1048576"):
            pictures.take("big.png", home.inbox, [])
    assert not [path for path in home.tmp.rglob("*") if path.is_file()]


def test_a_manifest_of_any_size_or_kind_is_answered_at_once(home: Home, store: Store) -> None:
    giant = home.inbox / "giant.toml"
    with giant.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte, of which the disk has nothing
    os.mkfifo(home.inbox / "pipe.toml")
    (home.inbox / "link.toml").symlink_to("/dev/zero")
    for name, words in (("giant", "at most 262144"), ("pipe", "not a regular file"), ("link", "symbolic link")):
        claimed = claim(home.inbox / f"{name}.toml", home.claimed, "w")
        assert claimed is not None
        with pytest.raises(ManifestError, match=words) as caught:
            accept(None, claimed)  # type: ignore[arg-type]
        folder = refuse(home, store, claimed, caught.value.problems)
        assert folder is not None
        assert words in (folder / "error.json").read_text()
        assert (folder / "manifest.toml").is_symlink() == (name == "link")
    assert LARGEST == 262144


def test_a_pipe_that_takes_a_manifest_s_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(OSError, match="not a regular file"):
        read_quiet(tmp_path / "a.toml")


def test_a_manifest_that_can_t_be_read_is_answered_and_one_that_is_gone_is_not(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another daemon may have adopted it, and answers it."""
    assert refuse(home, store, Claimed(home.claimed / "w.0.gone.toml", "gone.toml"), []) is None
    assert list(home.failed.iterdir()) == []
    file = home.claimed / "w.1.shut.toml"
    file.write_text("x")

    def shut(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("svid.inbox.answer._open", shut)
        folder = refuse(home, store, Claimed(file, "shut.toml"), [])
    assert folder is not None
    assert (folder / "manifest.toml").is_file()
