"""svid: long video from Wan image-to-video models, segment by segment, that can be extended by its ID."""

from pluggy import HookimplMarker

__version__ = "0.1.0"

hookimpl = HookimplMarker("svid")
"""Marks a function of a plugin as the implementation of a hook of `svid.hookspecs`."""

__all__ = ["__version__", "hookimpl"]
