"""`svid plugins`, `svid schema`, and the template whose test passes as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import svid
from svid.cli import main
from svid.cli.plugins import plugins
from svid.cli.schema import schema
from svid.errors import HomeError, UsageError

pytestmark = pytest.mark.usefixtures("elsewhere")

CODE = Path(svid.__file__).parent.parent


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A home with a plugin in place of the decoder."""
    root = tmp_path / "own"
    (root / "plugins").mkdir(parents=True)
    (root / "svid.toml").touch()
    text = "from svid import hookimpl\n__version__ = '9'\n@hookimpl(wrapper=True)\ndef svid_decode():\n"
    (root / "plugins/decoder.py").write_text(text + "    return (yield)\n")
    return root


def run(command: object, *arguments: str, home: Path | None = None) -> Result:
    return CliRunner().invoke(command, arguments, obj=home, catch_exceptions=False)  # type: ignore[arg-type]


def test_the_list_shows_who_serves_what_in_order(own: Path) -> None:
    lines = run(plugins, home=own).stdout.splitlines()
    assert lines[0] == "svid_load_model"
    assert lines[1].split()[:3] == ["wan_loader", "bundled", "plugins/wan_loader.py"]
    decode = lines[lines.index("svid_decode") + 1]
    assert decode.split()[:2] == ["decoder", "home"]
    assert "in place of the bundled one  9 " in decode
    assert decode.endswith("  goes around")
    assert lines[lines.index("svid_commands") + 1] == "  nobody"


def test_a_plugin_s_command_does_not_take_the_place_of_one_of_svid_s(own: Path) -> None:
    text = "import click\nfrom svid import hookimpl\n@hookimpl\ndef svid_commands(cli):\n"
    for name in ("recipes", "mine"):
        text += f"    cli.add_command(click.Command({name!r}, callback=lambda: click.echo('the plugin')))\n"
    (own / "plugins/taker.py").write_text(text)
    assert "the plugin" not in CliRunner().invoke(main, ["--home", str(own), "recipes"]).stdout
    assert "\n  mine" in CliRunner().invoke(main, ["--home", str(own), "--help"]).stdout
    its = CliRunner().invoke(main, ["--home", str(own), "mine"])
    assert its.stdout == "the plugin\n"
    assert its.stderr == "svid: a plugin's command 'recipes' is left out: svid has one of that name\n"


def test_of_two_commands_of_one_name_the_first_is_kept_and_that_is_said(own: Path) -> None:
    text = "import click\nfrom svid import hookimpl\n@hookimpl\ndef svid_commands(cli):\n"
    for name in ("a", "b"):
        add = f"    cli.add_command(click.Command('hello', callback=lambda: print('{name}')))\n"
        (own / f"plugins/{name}.py").write_text(text + add)
    said = CliRunner().invoke(main, ["--home", str(own), "hello"])
    assert said.stdout == "a\n"
    assert said.stderr == "svid: a plugin's command 'hello' is left out: another plugin has one of that name\n"


def test_a_plugin_without_hooks_is_listed(own: Path) -> None:
    (own / "plugins/idle.py").write_text("import svid\n")
    assert [line.split()[:2] for line in run(plugins, home=own).stdout.splitlines()][-2:] == [
        ["no", "hook"],
        ["idle", "home"],
    ]


def test_the_list_as_json() -> None:
    found = json.loads(run(plugins, "--json").stdout)
    assert "svi_pro" in found["hooks"]["svid_build_conditioning"]
    (decoder,) = (info for info in found["plugins"] if info["name"] == "decoder")
    assert decoder["kind"] == "bundled"
    assert len(decoder["digest"]) == 64


def test_the_schema_is_json_and_has_the_homes_options(own: Path) -> None:
    text = "from svid import hookimpl\nfrom pydantic import BaseModel\nclass Grain(BaseModel):\n    size: int = 1\n"
    (own / "plugins/grain.py").write_text(text + "@hookimpl\ndef svid_options():\n    return Grain\n")
    found = json.loads(run(schema, home=own).stdout)
    assert "grain" in found["properties"]["options"]["properties"]
    assert "grain" not in json.loads(run(schema).stdout)["properties"]["options"]["properties"]


def test_a_home_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HomeError):
        run(schema, home=tmp_path)


@pytest.mark.parametrize("name", ["film-grain", "tint2", "my_own"])
def test_the_template_is_a_package(tmp_path: Path, name: str) -> None:
    result = run(plugins, "new", name)
    folder = tmp_path / result.stdout.strip()
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    module = f"svid_{name.replace('-', '_')}"
    assert project["entry-points"]["svid"] == {name: module}
    assert {path.name for path in folder.iterdir()} == {
        "pyproject.toml",
        "README.md",
        f"{module}.py",
        f"test_{module}.py",
    }
    assert not any("$" in path.read_text() for path in folder.iterdir())


@pytest.mark.slow
def test_the_templates_own_test_passes(tmp_path: Path) -> None:
    run(plugins, "new", "film-grain", "--dir", str(tmp_path / "made"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(CODE)}
    folder = tmp_path / "made/svid-film-grain"
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_template_works_as_a_file_of_a_home(own: Path, tmp_path: Path) -> None:
    run(plugins, "new", "grain")
    (own / "plugins/grain.py").write_text((tmp_path / "svid-grain/svid_grain.py").read_text())
    found = json.loads(run(plugins, "--json", home=own).stdout)
    assert found["hooks"]["svid_options"] == ["grain"]
    assert found["hooks"]["svid_decode"] == ["decoder", "grain"]


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "../x", "a/b", "1a", "a-", "ä"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="small letters"):
        run(plugins, "new", "--", name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten() -> None:
    run(plugins, "new", "grain")
    with pytest.raises(UsageError, match="is there already"):
        run(plugins, "new", "grain")


@pytest.mark.slow
def test_none_of_it_needs_torch() -> None:
    """Neither listing plugins nor reading manifests nor pytest's loading of svid.testing waits for torch."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import svid.testing\n"
        "assert 'svid.api' not in sys.modules\n"
        "import svid.cli.plugins, svid.cli.schema, svid.manifest.read\n"
        "from svid.plugin import load_for_cli\n"
        "from svid.manifest.schema import json_schema\n"
        "json_schema(load_for_cli(None).option_models())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
