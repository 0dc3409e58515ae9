"""File system events, reduced to a doorbell: they say that it is worth looking, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

log = logging.getLogger("svid.inbox")


class _Ring(FileSystemEventHandler):
    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        # One line that can't raise: an exception here would end watchdog's dispatcher for good.
        self._ring()


class Doorbell:
    """Calls `ring` when something happens in a folder. Where events can't be had, the scan alone does the work."""

    def __init__(self, folder: Path, ring: Callable[[], None]) -> None:
        self.folder = folder
        self.ring = ring
        self._observer: BaseObserver | None = None
        self._said = ""

    def check(self) -> None:
        """Start the observer, or start it again where it has died (a folder replaced, a share gone)."""
        if self._observer is not None and self._observer.is_alive():
            return
        try:
            self._observer = self._observe()
            self._said = ""
        except OSError as error:  # also: more observers than the system allows
            if self._said != str(error):
                self._said = str(error)
                log.warning("no file system events for %s (%s): looking every few seconds instead", self.folder, error)

    def _observe(self) -> BaseObserver:
        if self._observer is not None:
            _end(self._observer)  # it reads on behind a thread that has died
            self._observer = None
        observer = Observer()
        events = [FileCreatedEvent, FileMovedEvent, FileClosedEvent]
        try:
            observer.schedule(_Ring(self.ring), str(self.folder), event_filter=events)
            observer.start()
        except OSError:
            observer.stop()  # what reads for it began when it was made
            raise
        return observer

    def stop(self) -> None:
        """Stop the observer."""
        if self._observer is not None and self._observer.is_alive():
            _end(self._observer)
            self._observer.join(timeout=2)


def _end(observer: BaseObserver) -> None:
    """Stop an observer, and hear nothing of what it still holds. watchdog keeps an event of a file that was moved away
    for half a second, in case it is seen to arrive elsewhere. Where it is stopped meanwhile, as when a manifest was
    taken just before, it calls that event an error of its own."""
    reader = logging.getLogger("watchdog.observers.inotify")
    before, reader.disabled = reader.disabled, True
    try:
        observer.stop()  # ends when its reader has
    finally:
        reader.disabled = before
