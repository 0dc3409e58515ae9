"""The command line. stdout is data, stderr is talk; a verb that makes work only writes a manifest into the inbox.

Exit codes: 0 done, 1 a job failed, 2 usage, 3 manifest invalid, 4 not found, 5 daemon not running, 75 try later.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

import svid
from svid import logs
from svid.errors import Problem, SvidError, UsageError
from svid.home import Home, find_home

COMMANDS = {
    "init": "run",
    "up": "run",
    "demo": "demo",
    "submit": "ask",
    "check": "ask",
    "extend": "ask",
    "branch": "ask",
    "redo": "again",
    "reproduce": "again",
    "explain": "again",
    "status": "look",
    "show": "look",
    "tree": "look",
    "sheet": "sheet",
    "recipes": "recipes",
    "models": "models",
    "plugins": "plugins",
    "schema": "schema",
    "pause": "operate",
    "resume": "operate",
    "drain": "operate",
    "cancel": "operate",
    "retry": "retry",
    "priority": "operate",
    "service": "operate",
    "verify": "care",
    "doctor": "care",
    "gc": "storage",
    "pin": "storage",
    "backup": "storage",
    "recover": "storage",
}
"""Which module of svid.cli holds a command. Only that one is imported, so that `svid status` answers at once."""

_ADDED = "svid.cli.added"


class Text(click.types.StringParamType):
    """Text that can be stored, compared and printed. What is no UTF-8 reaches a program as halves of surrogate pairs,
    which SQLite, JSON and most terminals refuse, each in its own place."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as it was given. Raises UsageError where it is not UTF-8."""
        text = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            where = param.get_error_hint(ctx).strip("'") if param is not None and ctx is not None else ""
            raise UsageError(Problem(where, "", f"expected UTF-8, found {text!r}")) from None
        return text


def _as_text(command: click.Command) -> click.Command:
    """The command, whose arguments and options of any text are Text from now on; those that are paths may be any bytes,
    as files' names may."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = Text()
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _as_text(below)
    return command


class Cli(click.Group):
    """The commands above, then those that plugins add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, ours first."""
        return [*COMMANDS, *(name for name in self._added() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"svid.cli.{COMMANDS[cmd_name]}")
            return _as_text(getattr(module, cmd_name))
        added = self._added().get(cmd_name)
        return _as_text(added) if added is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look among the plugins' commands of the home that was named; suggest a near name where there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx) from None

    def _added(self) -> dict[str, click.Command]:
        """The commands of plugins, looked for once, as what is wrong with them is said once."""
        context = click.get_current_context(silent=True)
        if context is None:
            return self._find(None)
        found: dict[str, click.Command] | None = context.meta.get(_ADDED)
        if found is None:
            found = context.meta[_ADDED] = self._find(context.params.get("home"))
        return found

    def _find(self, given: Path | None) -> dict[str, click.Command]:
        from svid.plugin import load_for_cli

        try:
            home = find_home(given).root
        except SvidError:
            home = None
        group = _First()
        try:
            load_for_cli(home).commands(group)
        except SvidError as error:  # `svid --help` and `svid plugins` must work, most of all with a broken plugin
            click.echo(f"svid: {error}", err=True)
        for name in group.commands.keys() & COMMANDS.keys():
            click.echo(f"svid: a plugin's command {name!r} is left out: svid has one of that name", err=True)
        return dict(group.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of svid's is said in full and decides the exit code."""
        try:
            return super().invoke(ctx)
        except SvidError as error:
            for one in error.problems:
                click.echo(f"svid: {str(one).removeprefix(': ')}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            _end(ctx, error)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands before the command; `--help` and `--version` are answered here."""
        try:
            return super().parse_args(ctx, args)
        except OSError as error:
            _end(ctx, error)


def _end(ctx: click.Context, error: OSError) -> NoReturn:
    """Say in one line what the system did not do, and end."""
    from svid.store.disk import storage_problem

    if ctx.params.get("debug") or error.errno == errno.EPIPE:  # click ends in silence when the reader is gone
        raise error
    place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    problem = storage_problem(error)
    found = problem or Problem(place, "", str(error.strerror or error))
    if not place and found.file == "db":  # it may as well be what stdout goes to
        found = replace(found, file="")
    click.echo(f"svid: {str(found).removeprefix(': ')}", err=True)
    try:
        sys.stdout.flush()
    except OSError:  # drop what it holds: Python would try once more at its end, say so and exit with 120
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    ctx.exit(75 if problem else UsageError.exit_code)


class _First(click.Group):
    """Keeps the first of two commands of one name, as the first plugin that is asked answers."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, or say that it is left out."""
        name = name or cmd.name or ""
        if name in self.commands:
            click.echo(f"svid: a plugin's command {name!r} is left out: another plugin has one of that name", err=True)
        else:
            super().add_command(cmd, name)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    is_eager=True,  # before --help, which lists the commands of its plugins
    help="The svid home (else SVID_HOME, else upwards from here).",
)
@click.option("--debug", is_flag=True, help="Say more on stderr.")
@click.version_option(svid.__version__)
@click.pass_context
def main(ctx: click.Context, home: Path | None, *, debug: bool) -> None:
    """Long video from Wan image-to-video models: SVI LoRAs against drift, no segment lost, every video continued by its
    ID."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path is printed with the bytes that it has; where the locale lacks a character, an escape stands for it.
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    logs.configure(logging.DEBUG if debug else logging.WARNING, as_json=False)
    ctx.obj = home


def home_of(ctx: click.Context) -> Home:
    """The home that a command works on, its folders made."""
    return find_home(ctx.obj).prepare()
