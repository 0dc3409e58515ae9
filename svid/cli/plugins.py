"""`svid plugins`: who serves which hook, and a template for a plugin of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from svid.cli.schema import home_or_none

if TYPE_CHECKING:
    from svid.plugin import PluginInfo, Plugins


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List every hook with the plugins that serve it, in the order in which they are asked.

    Plugins are code that runs with your rights. Their digests are recorded with every segment that they take part in.
    """
    if ctx.invoked_subcommand is not None:
        return
    from svid.plugin import load_for_cli
    from svid.plugin.check import HOOKS

    loaded = load_for_cli(home_or_none(ctx.obj))
    if as_json:
        hooks = {hook: loaded.serving(hook) for hook in HOOKS}
        found = {"plugins": [info.as_dict() for info in loaded.infos], "hooks": hooks}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in _table(loaded, list(HOOKS)):
        click.echo(line)


@plugins.command()
@click.argument("name")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to write it."
)
def new(name: str, folder: Path) -> None:
    """Write a package with a plugin called NAME, whose test passes as it is."""
    from svid.plugin.template import write_template

    made = write_template(name, folder)
    click.echo(made)
    click.echo(f"cd {made} && python -m pytest; then python -m pip install -e . makes svid find it", err=True)


def _table(loaded: Plugins, hooks: list[str]) -> Iterator[str]:
    infos = {info.name: info for info in loaded.infos}
    wide = max((len(name) for name in infos), default=0)
    places = max((len(_origin(info)) for info in infos.values()), default=0)
    versions = max((len(info.version) for info in infos.values()), default=0)

    def row(info: PluginInfo) -> str:
        return f"  {info.name:{wide}}  {_origin(info):{places}}  {info.version:{versions}}  {info.digest[:12]}"

    for hook in hooks:
        yield hook
        answering = loaded.answering(hook)
        for name in loaded.serving(hook):
            yield row(infos[name]) + ("" if name in answering else "  goes around")
        if not loaded.serving(hook):
            yield "  nobody"
    idle = [info for info in infos.values() if not info.hooks]
    if idle:
        yield "no hook"
        yield from map(row, idle)


def _origin(info: PluginInfo) -> str:
    return f"{info.kind} {info.location}" + (", in place of the bundled one" if info.replaces else "")
