"""Opening a home for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svid.home import Home, bundled_dir
from svid.store.engine import Store
from svid.store.homes import open_home, register

if TYPE_CHECKING:
    from svid.inbox.accept import Desk


def store_of(home: Home) -> Store:
    """The home's database, migrated, which knows of the home."""
    store = open_home(home, bundled_dir() / "db" / "migrations")
    register(store, home)
    return store


def desk_of(home: Home) -> Desk:
    """Everything that is needed to understand a manifest, which a command that reads none does not wait for."""
    from svid.inbox.accept import Desk
    from svid.plugin import plugins_of

    return Desk(home, store_of(home), plugins_of(home))
