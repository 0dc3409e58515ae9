"""What people tell running daemons, as files under db/orders: pause, drain, cancel. A file is there or it is not, so an
order survives whoever gave it and whoever was to hear it. A home is paused and drained for itself; a job is cancelled
wherever it is, because its id is its own in the whole database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


class Orders:
    """The orders of a home."""

    def __init__(self, folder: Path, home: str) -> None:
        self.folder = folder
        self._pause = folder / f"pause.{home}"

    @property
    def paused(self) -> bool:
        """Whether no job is to be started."""
        return self._pause.exists()

    def pause(self) -> None:
        """Start no job until `resume`. What runs goes on; files are still accepted."""
        self._give(self._pause.name)

    def resume(self) -> None:
        """Start jobs again."""
        self._pause.unlink(missing_ok=True)

    def drain(self, daemons: Iterable[str]) -> None:
        """Have these daemons end when the job in hand has ended. Daemons that come later are not meant."""
        for daemon in daemons:
            self._give(f"drain.{daemon}")

    def draining(self, daemon: str) -> bool:
        """Whether this daemon is to end."""
        return (self.folder / f"drain.{daemon}").exists()

    def cancel(self, job: str) -> None:
        """Have the daemon that runs this job give it up at the next denoising step."""
        self._give(f"cancel.{job}")

    def cancelled(self) -> list[str]:
        """The jobs that are to be given up."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(file.suffix[1:] for file in self.folder.iterdir() if file.name.startswith("cancel."))
        return []

    def obeyed(self, kind: str, whom: str) -> None:
        """The order has been carried out, or there is nothing left that it could be about."""
        (self.folder / f"{kind}.{whom}").unlink(missing_ok=True)

    def _give(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).touch()
