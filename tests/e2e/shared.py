"""Homes that share a database, and pictures of everything that is stored."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from svid.home import Home
from svid.store.files import sha256_of
from tests.conftest import quick_home

Picture = tuple[list[str], dict[str, tuple[int, int, str]]]


def sharing(root: Path, path: str) -> Home:
    """A fresh home whose svid.toml names the folder of a database."""
    quick_home(root)
    config = root / "svid.toml"
    config.write_text(f'[store]\npath = "{path}"\n\n{config.read_text()}')
    return Home(root).prepare()


def picture(*homes: Home) -> Picture:
    """Every row, and every file of the homes and of their store with its inode, time and content: what a late write
    would change. Scratch files, locks and SQLite's own files are not part of it."""
    with contextlib.closing(sqlite3.connect(homes[0].database, timeout=30)) as connection:
        rows = list(connection.iterdump())
    folders = {home.watch for home in homes} | {homes[0].db / name for name in ("blobs", "snapshots", "orders")}
    files = {}
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        info = file.stat()
        files[str(file)] = (info.st_ino, info.st_mtime_ns, sha256_of(file))
    return rows, files
