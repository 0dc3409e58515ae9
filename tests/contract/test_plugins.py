"""What every bundled plugin keeps to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import svid
from svid.home import bundled_dir
from svid.plugin.check import DECIDING, HOOKS
from svid.plugin.find import plugin_files
from svid.plugin.info import Loaded
from svid.plugin.load import load_file

FILES = plugin_files(bundled_dir() / "plugins")

CODE = Path(svid.__file__).parent.parent


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def plugin(request: pytest.FixtureRequest) -> Loaded:
    """A bundled plugin."""
    return load_file(request.param, "bundled")


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_imports_without_torch(file: Path) -> None:
    code = f"import sys; sys.modules['torch'] = None\nfrom svid.testing import load; load({str(file)!r}, bundled=False)"
    env = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_it_says_what_it_is_for_and_where_it_comes_from(plugin: Loaded) -> None:
    assert plugin.module.__doc__
    assert len(plugin.module.__doc__.splitlines()[0]) > 20
    for hook in plugin.info.hooks:
        assert getattr(plugin.module, hook).__doc__, hook


def test_it_serves_hooks_that_svid_has(plugin: Loaded) -> None:
    assert plugin.info.hooks
    assert set(plugin.info.hooks) <= set(HOOKS)


def test_what_decides_a_segment_is_in_its_ask(plugin: Loaded) -> None:
    """A plugin with stages has a version of its own, so that a comment may change and every segment's id stay."""
    if not set(DECIDING).isdisjoint(plugin.info.hooks):
        assert isinstance(plugin.module.CACHE_VERSION, int)
        assert plugin.info.cache_version == plugin.module.CACHE_VERSION
        assert "svid_ask" in plugin.info.hooks
