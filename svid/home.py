"""A svid home: the folder with svid.toml, plugins/, watch/ and, unless several homes share one, db/. The repository
root is one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from svid.config import Config, read_config
from svid.errors import HomeError, Problem

ID = re.compile(r"h[0-9a-f]{8}")
WATCH = ("inbox", "claimed", "done", "failed")


def bundled_dir() -> Path:
    """The house that svid brings with it: `_home` inside a wheel, the repository root in a clone."""
    package = Path(__file__).parent
    return package / "_home" if (package / "_home").is_dir() else package.parent


@dataclass(frozen=True)
class Home:
    """The places of a home. Folders are made by `prepare`."""

    root: Path

    def __post_init__(self) -> None:
        """Raise HomeError for a path that is not UTF-8: the database and every answer have to hold it as text."""
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            message = "expected a path that is UTF-8"
            raise HomeError(Problem(str(self.root), "", message, "rename the folder, or use another one")) from None

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

    @cached_property
    def id(self) -> str:
        """What tells this home from others on the same database. It lies in the home, so that it moves with it."""
        file = self.root / "home.id"
        try:
            found = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(Problem(str(file), "", f"can't be read: {error}")) from error
        if not ID.fullmatch(found):
            message = f"expected h and eight hexadecimal digits, found {found[:20]!r}"
            raise HomeError(
                Problem(str(file), "", message, "a home that never had a job may get another: remove the file")
            )
        return found

    @cached_property
    def db(self) -> Path:
        """What svid remembers: `[store] path`, which other homes may name too."""
        written = self.config.store.path
        return self.root / "db" if written == "db" else (self.root / Path(written).expanduser()).resolve()

    @property
    def shares(self) -> bool:
        """Whether the database lies outside this home, where others may use it."""
        return not self.db.resolve().is_relative_to(self.root.resolve())

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.db / "svid.db"

    @property
    def blobs(self) -> Path:
        """Content-addressed files."""
        return self.db / "blobs"

    @property
    def snapshots(self) -> Path:
        """Segments in flight, each under the key of its ask."""
        return self.db / "snapshots"

    @property
    def receipts(self) -> Path:
        """What of the database a job stands for that has no answer yet: a folder per job, a file per segment."""
        return self.db / "receipts"

    @property
    def tmp(self) -> Path:
        """Scratch files, a folder per process; on the same file system as the blobs."""
        return self.db / "tmp"

    @property
    def daemons(self) -> Path:
        """A lock file per running daemon; the kernel lets go of it however the daemon ends."""
        return self.db / "daemons"

    @property
    def orders(self) -> Path:
        """What people tell running daemons, a file an order."""
        return self.db / "orders"

    def shown(self, path: Path) -> str:
        """A path as it is told: relative to the home where it lies in there."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def prepare(self) -> Home:
        """Make the folders that are missing, and the id of a home that has none.

        Raises HomeError where `[store] path` leads nowhere: a disk that is not mounted must not look like an empty one.
        """
        if not self.db.parent.is_dir():
            message = f"expected a folder in one that is there, found {self.config.store.path!r}"
            raise HomeError(Problem("svid.toml", "store.path", message, f"there is no {self.db.parent}"))
        folders = [self.blobs, self.snapshots, self.receipts, self.tmp, self.daemons, self.plugins]
        for folder in [self.watch / name for name in WATCH] + folders:
            folder.mkdir(parents=True, exist_ok=True)
        if not (self.root / "home.id").exists():
            self._take_id()
        return self

    def _take_id(self) -> None:
        part = self.root / f".home.id.{secrets.token_hex(4)}"
        try:
            with part.open("w", encoding="ascii") as file:
                file.write(f"h{secrets.token_hex(4)}\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # of several that make one, the first counts
                os.link(part, self.root / "home.id")
        finally:
            part.unlink(missing_ok=True)


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
    """Make a home in `root`, which must not be one yet. Nothing that is there is overwritten. Raises HomeError where
    that is no folder and can't become one."""
    if (root / "svid.toml").exists():
        raise HomeError(Problem(str(root), "", "is a svid home already"))
    home, bundled = Home(root.absolute()), bundled_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise HomeError(Problem(str(root), "", "expected a folder, found a file")) from error
    except OSError as error:
        raise HomeError(Problem(str(root), "", f"can't be made: {error.strerror}")) from error
    shutil.copyfile(bundled / "svid.toml", root / "svid.toml")  # first, because it says where the other things are
    home.prepare()
    copies = ("watch/README.md", "watch/schema", "watch/examples", "db/README.md", "plugins/README.md")
    for name in copies:
        source, target = bundled / name, home.root / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_add)
        else:
            _add(source, target)
    return home


def _add(source: str | Path, target: str | Path) -> None:
    """Copy a file to where none is yet."""
    if not os.path.lexists(target):
        shutil.copyfile(source, target)
