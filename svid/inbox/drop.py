"""Dropping a manifest into the inbox, as every verb that makes work does."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from svid.home import Home
from svid.inbox.scan import is_temporary
from svid.store.files import sync_file, sync_folder

STEM_BYTES = 200
"""Of the 255 that a name may have, with room for a number and a suffix."""


def drop(home: Home, stem: str, data: bytes, suffix: str) -> Path:
    """Put a manifest into the inbox, whole at once; never over another one. Under a name that is looked at: a stem that
    marks a file as temporary, or that is too long, is changed."""
    if is_temporary(f"{stem}{suffix}"):
        stem = re.sub(r"[^\w-]", "-", stem).strip("-") or "manifest"
    while len(os.fsencode(stem)) > STEM_BYTES:
        stem = stem[:-1]
    part = home.inbox / f".{secrets.token_hex(8)}.part"
    try:
        part.write_bytes(data)
        sync_file(part)
        while True:
            target = free_name(home.inbox, stem, suffix)
            try:
                os.link(part, target)
            except FileExistsError:
                continue
            sync_folder(home.inbox)
            return target
    finally:
        part.unlink(missing_ok=True)


def drop_json(home: Home, stem: str, manifest: dict[str, Any]) -> Path:
    """Put a manifest into the inbox as JSON, which is taken without waiting for it to settle."""
    return drop(home, stem, as_json(manifest), ".json")


def as_json(manifest: dict[str, Any]) -> bytes:
    """A manifest as JSON. What is no Unicode, such as an argument that a shell gave in another encoding, stands in it
    as an escape, so that it is refused like everything else that is wrong: by its place."""
    try:
        return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(manifest, indent=2) + "\n").encode()


def free_name(folder: Path, stem: str, suffix: str) -> Path:
    """A name in `folder` that is not taken: stem, stem-2, stem-3, ..."""
    number, path = 1, folder / f"{stem}{suffix}"
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
