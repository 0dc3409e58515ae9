"""A svid home: the folder with svid.toml, plugins/, watch/ and db/. The repository root is one."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from svid.config import Config, read_config
from svid.errors import HomeError, Problem

WATCH = ("inbox", "claimed", "done", "failed")


def bundled_dir() -> Path:
    """The house that svid brings with it: `_home` inside a wheel, the repository root in a clone."""
    package = Path(__file__).parent
    return package / "_home" if (package / "_home").is_dir() else package.parent


@dataclass(frozen=True)
class Home:
    """The places of a home. Folders are made by `prepare`."""

    root: Path

    @cached_property
    def config(self) -> Config:
        """svid.toml, read once."""
        return read_config(self.root / "svid.toml")

    @property
    def plugins(self) -> Path:
        """The home's own plugins, beside those that come with svid."""
        return self.root / "plugins"

    @property
    def watch(self) -> Path:
        """The watched folder and its answers."""
        return self.root / "watch"

    @property
    def inbox(self) -> Path:
        """Where manifests are dropped."""
        return self.watch / "inbox"

    @property
    def claimed(self) -> Path:
        """Manifests that a daemon has taken."""
        return self.watch / "claimed"

    @property
    def done(self) -> Path:
        """Answers of finished jobs."""
        return self.watch / "done"

    @property
    def failed(self) -> Path:
        """Answers of files and jobs that failed."""
        return self.watch / "failed"

    @property
    def db(self) -> Path:
        """What svid remembers."""
        return self.root / "db"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.db / "svid.db"

    @property
    def blobs(self) -> Path:
        """Content-addressed files."""
        return self.db / "blobs"

    @property
    def tmp(self) -> Path:
        """Scratch files, swept at start-up; on the same file system as the blobs."""
        return self.db / "tmp"

    @property
    def daemons(self) -> Path:
        """A lock file per running daemon; the kernel lets go of it however the daemon ends."""
        return self.db / "daemons"

    def prepare(self) -> Home:
        """Make the folders that are missing."""
        folders = [self.watch / name for name in WATCH] + [self.blobs, self.tmp, self.daemons, self.plugins]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        return self


def find_home(given: Path | None = None) -> Home:
    """The home of `--home`, else of SVID_HOME, else the nearest folder upwards with a svid.toml.

    Raises HomeError where there is none.
    """
    named = given or (Path(os.environ["SVID_HOME"]) if os.environ.get("SVID_HOME") else None)
    if named is not None:
        if not (named / "svid.toml").is_file():
            raise HomeError(Problem(str(named), "", "is not a svid home: it has no svid.toml", f"svid init {named}"))
        return Home(named.absolute())
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "svid.toml").is_file():
            return Home(folder)
    raise HomeError(
        Problem(str(here), "", "no svid.toml here or in a folder above", "svid init DIR makes a home, --home names one")
    )


def make_home(root: Path) -> Home:
    """Make a home in `root`, which must not be one yet. Nothing that is there is overwritten."""
    if (root / "svid.toml").exists():
        raise HomeError(Problem(str(root), "", "is a svid home already"))
    bundled = bundled_dir()
    home = Home(root.absolute()).prepare()
    copies = ("watch/README.md", "watch/schema", "watch/examples", "db/README.md", "plugins/README.md", "svid.toml")
    for name in copies:
        source, target = bundled / name, home.root / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif not target.exists():
            shutil.copyfile(source, target)
    return home
