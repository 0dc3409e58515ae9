"""Where plugins are: `*.py` files of the bundled folder and of the home's, and entry points of installed packages."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from svid.errors import PluginError, Problem
from svid.manifest.words import near
from svid.plugin.info import Kind

GROUP = "svid"
"""The entry-point group."""

SUBSET = "SVID_PLUGINS"
"""The environment variable that loads only the plugins it names, "a,b"; none where it is empty."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Source:
    """A plugin that was found and not yet loaded: a file or an entry point."""

    name: str
    kind: Kind
    file: Path | None = None
    entry: EntryPoint | None = None
    replaces: Path | None = None

    @property
    def shown(self) -> str:
        """Its place, for people."""
        if self.file is not None:
            return shown(self.file)
        return f"entry point {self.name} = {self.entry.value}" if self.entry else self.name


def find(bundled: Path, home: Path | None, environ: Mapping[str, str] = os.environ) -> list[Source]:
    """Every plugin to load, in the order in which they are asked: files of the home's plugins folder, packages, bundled
    files; by name among each other. A home's file takes the place of the bundled one with the same name.

    Raises PluginError: two plugins with one name, SVID_PLUGINS names one that is not there, others can write a file.
    """
    ours = {path.stem: path for path in plugin_files(bundled)}
    # a clone is a home whose plugins folder is the bundled one
    own = home is not None and home.is_dir() and not (bundled.is_dir() and home.samefile(bundled))
    theirs = {path.stem: path for path in plugin_files(home)} if home is not None and own else {}
    sources = [Source(name, "home", path, replaces=ours.get(name)) for name, path in theirs.items()]
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    sources += [Source(entry.name, "package", entry=entry) for entry in found]
    sources += [Source(name, "bundled", path) for name, path in ours.items() if name not in theirs]
    chosen = _subset(sources, environ.get(SUBSET))
    problems = [*_misnamed(chosen), *(problem for source in chosen if source.file for problem in unsafe(source.file))]
    if problems:
        raise PluginError(problems)
    return chosen


def unsafe(file: Path) -> Iterator[Problem]:
    """A problem where anybody may change the file, or put another one in its place. Whoever can do that runs code with
    the rights of the one who starts svid."""
    for path in (file, file.parent):
        mode = path.stat().st_mode
        # in a sticky folder, such as /tmp, one may only replace one's own files
        if mode & stat.S_IWOTH and not (path != file and mode & stat.S_ISVTX):
            message = (
                f"expected a plugin {'file' if path == file else 'folder'} that only its owner can write, found mode"
            )
            yield Problem(shown(path), "", f"{message} {stat.S_IMODE(mode):04o}", f"chmod o-w {path.name}")


def shown(path: Path) -> str:
    """A path by its last two parts: enough to find it, and no hint at where somebody's home is."""
    return "/".join(path.parts[-2:])


def plugin_files(folder: Path) -> Iterable[Path]:
    """The files of a folder that are plugins, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", ".")) and path.is_file())


def _subset(sources: Sequence[Source], wanted: str | None) -> list[Source]:
    if wanted is None:
        return list(sources)
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    there = {source.name for source in sources}
    problems = [Problem(SUBSET, name, "there is no such plugin", near(name, there)) for name in sorted(names - there)]
    if problems:
        raise PluginError(problems)
    return [source for source in sources if source.name in names]


def _misnamed(sources: Sequence[Source]) -> Iterator[Problem]:
    seen = dict[str, Source]()
    for source in sources:
        if not _NAME.fullmatch(source.name):
            message = "expected a name of letters, digits, - and _, beginning with a letter"
            yield Problem(source.shown, "", f"{message}, found {source.name!r}", "rename it")
        if source.name in seen:
            message = f"expected each plugin's name once, found {source.name!r} in {seen[source.name].shown} too"
            yield Problem(
                source.shown, "", message, f"rename it, or uninstall the package; {SUBSET} can't tell them apart"
            )
        seen.setdefault(source.name, source)
