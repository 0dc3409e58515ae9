"""svid.toml and the home's plugins, read again when they have changed: who adds a model or saves a plugin expects the
next manifest to know it, and a daemon that has to be restarted for that stops the job in hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from svid.errors import ConfigError, Problem, SvidError
from svid.home import Home
from svid.inbox.accept import Desk
from svid.plugin import plugins_of
from svid.plugin.find import plugin_files
from svid.store.engine import Store

Stamp = dict[str, tuple[int, int, int]]
"""What tells by a look at the folder that a file has changed: its inode, when it was written, its bytes."""


class Renewal:
    """What a daemon has read of its home, and whether there is another one by now."""

    def __init__(self, home: Home, store: Store, show: Callable[[dict[str, Any]], None]) -> None:
        self._home, self._root, self._store, self._show = home, home.root, store, show
        self._read = self._seen = self._stamp()

    def look(self) -> Desk | None:
        """A desk of what is there now, if that has changed and been at rest since the last look; None else, also where
        there is a mistake in it, which is shown once. What was read before holds on then."""
        found = self._stamp()
        rests, self._seen = found == self._seen, found
        if found == self._read or not rests:
            return None
        changed = {*found.items()} ^ {*self._read.items()}
        names = sorted({Path(name).relative_to(self._root).as_posix() for name, _ in changed})
        self._read = found
        try:
            home = Home(self._root)
            if home.db != self._home.db:
                message = f"expected the folder that this daemon began with, {self._home.db}, found {home.db}"
                raise ConfigError(Problem("svid.toml", "store.path", message, "end the daemon and start it again"))
            desk = Desk(home, self._store, plugins_of(home))
        except SvidError as error:
            problems = [problem.as_dict() for problem in error.problems]
            self._show({"event": "not-renewed", "changed": names, "errors": problems})
            return None
        self._show({"event": "renewed", "changed": names})
        return desk

    def _stamp(self) -> Stamp:
        found: Stamp = {}
        for path in (self._root / "svid.toml", *plugin_files(self._root / "plugins")):
            with suppress(OSError):
                info = path.stat()
                found[str(path)] = (info.st_ino, info.st_mtime_ns, info.st_size)
        return found
