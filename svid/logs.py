"""How svid logs: lines for people, or one JSON object a line for machines, with job, segment, stage and attempt."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any, TextIO

NOISY = ("alembic", "PIL", "watchdog", "diffusers", "transformers", "filelock")
FACTS = ("job", "attempt", "segment", "stage")

_now: dict[str, Any] = {}


def note(event: Mapping[str, Any]) -> None:
    """Remember what an event says of the work in hand, for the lines that follow; another job forgets the last one."""
    if event.get("job", _now.get("job")) != _now.get("job"):
        _now.clear()
    _now.update({key: event[key] for key in FACTS if event.get(key) is not None})


def configure(level: int, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Send all logging to stderr in one of the two forms; libraries speak of trouble only."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, with what is known of the work in hand."""
        said = {"level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return as_line({**_now, **said}, record.created)


def as_line(facts: Mapping[str, Any], when: float | None = None) -> str:
    """Facts as one line of JSON with the time in UTC, to the millisecond."""
    now = time.time() if when is None else when
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
    return json.dumps({"time": stamp, **facts}, ensure_ascii=False, default=str)
