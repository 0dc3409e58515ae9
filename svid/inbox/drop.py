"""Dropping a manifest into the inbox, as every verb that makes work does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from svid.home import Home


def drop(home: Home, stem: str, data: bytes, suffix: str) -> Path:
    """Put a manifest into the inbox, whole at once; never over another one."""
    part = home.inbox / f".{stem}.{os.getpid()}.part"
    part.write_bytes(data)
    try:
        while True:
            target = free_name(home.inbox, stem, suffix)
            try:
                os.link(part, target)
            except FileExistsError:
                continue
            return target
    finally:
        part.unlink()


def drop_json(home: Home, stem: str, manifest: dict[str, Any]) -> Path:
    """Put a manifest into the inbox as JSON, which is taken without waiting for it to settle."""
    return drop(home, stem, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode(), ".json")


def free_name(folder: Path, stem: str, suffix: str) -> Path:
    """A name in `folder` that is not taken: stem, stem-2, stem-3, ..."""
    number, path = 1, folder / f"{stem}{suffix}"
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
