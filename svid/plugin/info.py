"""What is known about a loaded plugin."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

Kind = Literal["home", "package", "bundled"]


@dataclass(frozen=True)
class PluginInfo:
    """One plugin, as `svid plugins` shows it and the lineage records it."""

    name: str
    """A file's stem or the entry point's name; what `[options.<name>]` and SVID_PLUGINS call it."""
    kind: Kind
    location: str
    """Its file, with the folder it is in."""
    version: str
    digest: str
    """SHA-256 of the file, or of all .py files of the package, as they were when loaded."""
    hooks: tuple[str, ...]
    cache_version: int | str
    """What stands for the plugin's code in a segment's ask: its CACHE_VERSION, else its digest."""
    replaces: str = ""
    """The bundled file whose place it takes."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Loaded:
    """A plugin with its module. `root` is the file or the folder that its code is in."""

    info: PluginInfo
    module: ModuleType
    root: Path
