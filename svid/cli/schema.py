"""`svid schema`: what a manifest may say, for editors and for programs that write manifests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from svid.errors import HomeError
from svid.home import find_home


def home_or_none(given: Path | None) -> Path | None:
    """The home that a command is about, or None where none was named and none is here."""
    try:
        return find_home(given).root
    except HomeError:
        if given is not None or os.environ.get("SVID_HOME"):
            raise
        return None


@click.command()
@click.pass_context
def schema(ctx: click.Context) -> None:
    """Print the JSON Schema of a manifest, with the options of every plugin."""
    from svid.manifest.schema import json_schema
    from svid.plugin import load_for_cli

    plugins = load_for_cli(home_or_none(ctx.obj))
    click.echo(json.dumps(json_schema(plugins.option_models()), indent=2, ensure_ascii=False))
