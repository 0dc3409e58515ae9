"""A wheel is the whole house: built and installed without a network, it makes a home and loads its plugins where no
clone is in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import svid

pytestmark = pytest.mark.slow

ROOT = Path(svid.__file__).parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program that knows nothing of this one's environment, and return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SVID_", "PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; everything else it borrows from this one, except svid itself."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / "bin/python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=venv,
    )
    (site,) = venv.glob("lib/python*/site-packages")
    # The .pth files of a folder that a .pth names are not read, so that the editable svid of this one is not seen.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def test_it_carries_the_house(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for bundled, original in (
            ("svid/_home/svid.toml", "svid.toml"),
            ("svid/_home/watch/schema/manifest.schema.json", "watch/schema/manifest.schema.json"),
            ("svid/embedded/wan22-mini/vae/config.json", "svid/embedded/wan22-mini/vae/config.json"),
        ):
            assert archive.read(bundled) == (ROOT / original).read_bytes()
    for folder, inside, suffixes in (
        ("plugins", "svid/_home/plugins", (".py", ".md")),
        ("db/migrations", "svid/_home/db/migrations", (".py",)),
        ("watch/examples", "svid/_home/watch/examples", (".toml", ".json", ".png")),
        ("svid/embedded", "svid/embedded", (".safetensors", ".json")),
        ("svid", "svid", (".py",)),
    ):
        expected = {
            f"{inside}/{file.relative_to(ROOT / folder).as_posix()}"
            for file in (ROOT / folder).rglob("*")
            if file.suffix in suffixes and "__pycache__" not in file.parts
        }
        assert expected
        assert expected <= names, expected - names
    for page in ("watch/README.md", "db/README.md"):
        assert f"svid/_home/{page}" in names
    strangers = [name for name in names if not name.startswith(("svid/", f"svid-{svid.__version__}.dist-info/"))]
    assert strangers == []
    assert [name for name in names if "__pycache__" in name or name.endswith((".db", ".part"))] == []
    watch = {name.split("/")[3] for name in names if name.startswith("svid/_home/watch/")}
    assert watch == {"README.md", "examples", "schema"}, "nothing of what this home was used for"
    assert wheel.stat().st_size < 16 * 2**20, "the miniature has 12 MB of weights"


def test_it_works_where_no_clone_is(installed: Path, tmp_path: Path) -> None:
    python, command = installed / "bin/python", installed / "bin/svid"
    where = run(python, "-c", "import svid, torch; print(svid.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed)
    assert run(command, "--version", cwd=tmp_path).strip().endswith(svid.__version__)
    home = run(command, "init", "x", cwd=tmp_path).strip()
    assert Path(home) == tmp_path / "x"
    names = {recipe["name"] for recipe in json.loads(run(command, "recipes", "--json", cwd=tmp_path / "x"))}
    assert {"svi-2.0-pro", "i2v"} <= names
    example = tmp_path / "x/watch/examples/new.toml"
    plan = json.loads(run(command, "check", example, "--json", cwd=tmp_path / "x"))
    assert len(plan["segments"]) == 3
    plugins = json.loads(run(command, "plugins", "--json", cwd=tmp_path / "x"))["plugins"]
    assert str(ROOT) not in json.dumps(plugins)
