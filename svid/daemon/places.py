"""Whether the folders of a home are where a daemon can work on them."""

from __future__ import annotations

import logging

from svid.errors import HomeError, Problem
from svid.home import Home
from svid.store.mounts import network_file_system

log = logging.getLogger("svid.daemon")


def check_places(home: Home) -> None:
    """Raise HomeError where the folders of a home are not where a daemon can work on them.

    Files move between these folders by rename, which is a mutex and all or nothing on one file system only. Locks
    and the database's write-ahead log are the kernel's: homes that share them have to be on one machine."""
    kind = network_file_system(home.db)
    if kind is not None and home.shares:
        message = f"is on {kind}, a network file system, where other machines may write unseen"
        raise HomeError(Problem(str(home.db), "store.path", message, "share a folder on a local disk of one machine"))
    if kind is not None:
        log.warning("%s is on %s: no other machine may run a daemon or a command on it", home.db, kind)
    for one, other in (
        (home.inbox, home.claimed),
        (home.claimed, home.done),
        (home.claimed, home.failed),
        (home.tmp, home.blobs),
        (home.tmp, home.snapshots),
        (home.tmp, home.done),
    ):
        if one.stat().st_dev != other.stat().st_dev:
            raise HomeError(Problem(str(one), "", f"is on another file system than {other}", "put both on one"))
