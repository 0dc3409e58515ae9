"""A plugin of somebody else's, installed as a user installs it: found, asked first, and in the schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import svid

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CODE = Path(svid.__file__).parent.parent

RENDER = """
import torch
from svid import testing
from svid.plugin import load_for_cli

decoder = testing.stub("svid_decode", lambda: iter([testing.tiny_frames()]))
from svid.plugin.load import load_module
from svid.plugin import Plugins
import svid_tint

real = load_for_cli(None)
assert real.infos[0].name == "tint", real.infos
plugins = Plugins([load_module(svid_tint, "tint"), load_module(decoder)])
shades = []
for amount in (0, 0.5, 1):
    job = testing.make_job(plugins, {"tint": {"amount": amount}})
    segment = testing.make_segment()
    part = plugins.ask(job, segment)
    assert ("tint" in part) == (amount > 0), part
    frames = plugins.call("svid_decode", job, segment, model=None, state={}, carry=None)
    shades.append(torch.cat(list(frames)))
assert torch.equal(shades[0], testing.tiny_frames())
assert shades[2].dtype == torch.uint8 and not torch.equal(shades[1], shades[2])
assert (shades[2][..., 0] >= shades[2][..., 2]).all(), "sepia has more red than blue"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with svid-tint installed in it, without a network."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(HERE / "svid-tint")], check=True, timeout=120)
    return target


def run(site: Path, *arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in {"SVID_PLUGINS", "SVID_HOME", "SVID_TRACE"}}
    env["PYTHONPATH"] = os.pathsep.join([str(site), str(CODE)])
    done = subprocess.run([sys.executable, *arguments], env=env, cwd=site, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_found_through_its_entry_point_and_asked_first(site: Path) -> None:
    found = json.loads(run(site, "-m", "svid", "plugins", "--json"))
    tint = found["plugins"][0]
    assert (tint["name"], tint["kind"], tint["version"]) == ("tint", "package", "1.2.3")
    assert tint["hooks"] == ["svid_ask", "svid_decode", "svid_options"]
    assert tint["location"].endswith("svid_tint.py")
    assert found["hooks"]["svid_decode"] == ["tint", "decoder"]


def test_its_option_is_in_the_schema(site: Path) -> None:
    schema = json.loads(run(site, "-m", "svid", "schema"))
    name = schema["properties"]["options"]["properties"]["tint"]["$ref"].rpartition("/")[2]
    amount = schema["$defs"][name]["properties"]["amount"]
    assert amount == {
        "default": 0.0,
        "description": amount["description"],
        "maximum": 1,
        "minimum": 0,
        "type": "number",
    }


def test_it_tints_when_asked_and_only_then(site: Path) -> None:
    run(site, "-c", RENDER)
