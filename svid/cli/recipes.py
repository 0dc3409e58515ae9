"""`svid recipes`: the variants with their numbers, and where every number comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from svid.api import Recipe
from svid.cli import home_of
from svid.errors import NotFound, Problem


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="A list of objects.")
@click.pass_context
def recipes(ctx: click.Context, *, as_json: bool) -> None:
    """List the recipes of this home's plugins."""
    if ctx.invoked_subcommand is not None:
        return
    known = list(_known(ctx).values())
    if as_json:
        _emit([recipe.model_dump(mode="json") for recipe in known])
        return
    for recipe in known:
        click.echo(f"{recipe.name}: {recipe.title}")


@recipes.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Print every number of the recipe NAME, and where it comes from."""
    known = _known(ctx)
    if name not in known:
        raise NotFound(Problem(name, "", "no recipe has this name", f"known: {', '.join(sorted(known))}"))
    recipe = known[name]
    numbers = list(recipe.numbers())
    if as_json:
        sources = {key: source for key, _, source in numbers}
        _emit(recipe.model_dump(mode="json") | {"sources": sources})
        return
    click.echo(f"{recipe.name}: {recipe.title}")
    click.echo(f"variant {recipe.variant}; {recipe.source}")
    rows = [(key, _said(value), source) for key, value, source in numbers]
    keys, values = (max(len(row[place]) for row in rows if len(row[place]) <= 40) for place in (0, 1))
    for key, value, source in rows:
        click.echo(f"  {key:{keys}}  {value:{values}}  {source}")


def _known(ctx: click.Context) -> dict[str, Recipe]:
    from svid.plugin import plugins_of

    return plugins_of(home_of(ctx)).recipes()


def _said(value: Any) -> str:
    """A value in a line: LoRAs with their strengths, nothing as a dash."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(f"{lora['name']} {lora['high']:g}/{lora['low']:g}" for lora in value) or "-"
    return "-" if value is None or value == "" else str(value)


def _emit(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
