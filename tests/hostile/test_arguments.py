"""Arguments of the command line that are not UTF-8: a shell hands over any bytes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from svid.cli import COMMANDS, main
from svid.home import Home

LATIN = os.fsdecode(b"caf\xe9")
MORE = {"priority": ["JOB", "3"], "explain": ["A", "B"]}
"""What commands want that take more than one argument."""


def commands(
    group: dict[str, click.Command], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command.commands, (*path, name))


def is_text(param: click.Parameter) -> bool:
    """Whether any text may stand there: not a path, a number, a choice or a flag."""
    return isinstance(param.type, click.types.StringParamType)


def calls() -> Iterator[list[str]]:
    """Every command with such text, once for each place where it may stand."""
    group = {name: getattr(importlib.import_module(f"svid.cli.{module}"), name) for name, module in COMMANDS.items()}
    for path, command in commands(group):
        arguments = [param for param in command.params if isinstance(param, click.Argument)]
        given = MORE.get(path[-1], ["x"] * len(arguments))
        for place, param in enumerate(arguments):
            if is_text(param):
                yield [*path, *given[:place], LATIN, *given[place + 1 :]]
        for param in command.params:
            if isinstance(param, click.Option) and is_text(param):
                yield [*path, *given, param.opts[0], LATIN]


CALLS = list(calls())


def test_the_commands_that_name_something_are_among_them() -> None:
    names = {arguments[0] for arguments in CALLS}
    expected = {"show", "tree", "sheet", "extend", "branch", "redo", "reproduce", "explain", "pin"}
    assert names >= expected | {"cancel", "retry", "priority", "recipes", "plugins", "gc"}


@pytest.mark.parametrize(
    "arguments", CALLS, ids=lambda arguments: " ".join(arguments).encode(errors="replace").decode()
)
def test_text_that_is_not_utf_8_is_one_error(home: Home, arguments: list[str]) -> None:
    before = sorted(home.inbox.iterdir())
    done = CliRunner().invoke(main, ["--home", str(home.root), *arguments])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("svid: ")
    assert line.endswith(": expected UTF-8, found 'caf\\udce9'")
    assert sorted(home.inbox.iterdir()) == before


PLUGIN = '''"""Adds a command with an argument, and a group of them."""

import click

import svid


@click.command()
@click.argument("what")
def hail(what):
    click.echo(what)


@svid.hookimpl
def svid_commands(cli):
    cli.add_command(hail)
    cli.add_command(click.Group("many", commands={"hail": hail}))
'''


@pytest.mark.parametrize("path", [["hail"], ["many", "hail"]])
def test_commands_of_plugins_get_no_such_text_either(home: Home, path: list[str]) -> None:
    (home.plugins / "hail.py").write_text(PLUGIN)
    done = CliRunner().invoke(main, ["--home", str(home.root), *path, LATIN])
    assert (done.exit_code, done.stderr) == (2, "svid: WHAT: expected UTF-8, found 'caf\\udce9'\n")
    assert CliRunner().invoke(main, ["--home", str(home.root), *path, "café"]).stdout == "café\n"


def svid(*arguments: bytes) -> subprocess.CompletedProcess[bytes]:
    """The command under a locale that refuses to print what is not UTF-8, as most do."""
    command = [os.fsencode(sys.executable), b"-m", b"svid", *arguments]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    return subprocess.run(command, capture_output=True, timeout=120, env=strict)


def test_a_shell_s_bytes_come_to_the_same(home: Home) -> None:
    done = svid(b"--home", os.fsencode(home.root), b"show", b"caf\xe9")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"svid: ID: expected UTF-8, found 'caf\\udce9'\n"


def test_files_may_have_any_name(home: Home, tmp_path: Path) -> None:
    file = tmp_path / f"{LATIN}.toml"
    file.write_bytes((home.watch / "examples/new.toml").read_bytes())
    for picture in (home.watch / "examples").glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    checked = svid(b"--home", os.fsencode(home.root), b"check", os.fsencode(file))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith(b"caf\xe9.toml: ")
    dropped = svid(b"--home", os.fsencode(home.root), b"submit", os.fsencode(file))
    assert dropped.stdout == os.fsencode(home.inbox / f"{LATIN}.json") + b"\n", dropped.stderr
    assert (home.inbox / f"{LATIN}.json").is_file()


def test_a_home_has_a_path_that_can_be_stored(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    root, words = os.fsencode(folder), b"expected a path that is UTF-8 (rename the folder, or use another one)\n"
    made = svid(b"init", root)
    assert (made.returncode, made.stderr) == (2, b"svid: " + os.fsencode(f"{tmp_path}/caf\\udce9: ") + words)
    assert not folder.exists()
    folder.mkdir()
    (folder / "svid.toml").touch()
    looked = svid(b"--home", root, b"status")
    assert (looked.returncode, looked.stderr) == (made.returncode, made.stderr)
