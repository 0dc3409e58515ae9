"""Opening a home for a command."""

from __future__ import annotations

from svid.home import Home, bundled_dir
from svid.inbox.accept import Desk
from svid.plugin.manager import Plugins
from svid.store.engine import Store
from svid.store.homes import open_home, register


def store_of(home: Home) -> Store:
    """The home's database, migrated, which knows of the home."""
    store = open_home(home, bundled_dir() / "db" / "migrations")
    register(store, home)
    return store


def plugins_of(home: Home) -> Plugins:
    """The home's plugins, every stage of its chain served."""
    plugins = Plugins.load(bundled_dir() / "plugins", home.plugins)
    plugins.require(home.config.chain.stages)
    return plugins


def desk_of(home: Home) -> Desk:
    """Everything that is needed to understand a manifest."""
    return Desk(home, store_of(home), plugins_of(home))
