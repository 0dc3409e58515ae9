"""Plugins: found in `plugins/` folders and the entry-point group `svid`, checked when loaded, asked through hooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from svid.plugin.info import PluginInfo
from svid.plugin.manager import Plugins

if TYPE_CHECKING:
    from svid.home import Home

__all__ = ["PluginInfo", "Plugins", "load_for_cli", "plugins_of"]


def load_for_cli(home: Path | None) -> Plugins:
    """The plugins that come with svid, those of a home (its root; None outside of one) and those of packages.

    Raises PluginError with every plugin that can't be loaded.
    """
    from svid.home import bundled_dir  # here, so that whoever loads plugins by path needs no home

    return Plugins.load(bundled_dir() / "plugins", home / "plugins" if home else None)


def plugins_of(home: Home) -> Plugins:
    """The plugins that a home works with: every stage of its chain is served.

    Raises PluginError as `load_for_cli` does, and for what is wrong with the chain.
    """
    plugins = load_for_cli(home.root)
    plugins.require(home.config.chain.stages)
    return plugins
