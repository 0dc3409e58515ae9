"""Verbs that make work: `submit`, `check`, `extend`, `branch`. They write a manifest into the inbox, nothing else."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from svid.cli import home_of
from svid.cli.open import desk_of
from svid.errors import NotFound, UnknownVideo
from svid.home import Home
from svid.inbox.drop import as_json, drop, drop_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.pass_context
def submit(ctx: click.Context, file: Path) -> None:
    """Check FILE (- for standard input) and drop it into the inbox, with the pictures that lie beside it."""
    home = home_of(ctx)
    desk = desk_of(home)
    if str(file) == "-":
        data, name, folder = sys.stdin.buffer.read(), "stdin", Path.cwd()
        name += ".json" if data.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") else ".toml"
    else:
        data, name, folder = file.read_bytes(), file.name, file.absolute().parent
    # The picture may lie anywhere: whoever can run this command can read it, unlike one who can only write to the
    # inbox.
    desk.roots.append(Path("/"))
    request = desk.understand(data, name, folder)
    if not request.inputs:
        click.echo(drop(home, Path(name).stem, data, Path(name).suffix))
        return
    written = request.manifest.model_dump(mode="json", exclude_unset=True)
    for place, ref in request.inputs.items():
        put(written, place, f"asset:{ref.sha256}")
    if request.manifest.base is None:  # the dropped file has another name; what stands on a video has that one's
        written = {"name": Path(name).stem} | written
    click.echo(drop_json(home, Path(name).stem, written))


def put(manifest: dict[str, Any], place: str, value: str) -> None:
    """Set `image`, `anchors[0]` or `cuts[0].anchor`."""
    head, bracket, rest = place.partition("[")
    if not bracket:
        manifest[head] = value
        return
    number, _, key = rest.partition("]")
    if key:
        manifest[head][int(number)][key.removeprefix(".")] = value
    else:
        manifest[head][int(number)] = value


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def check(ctx: click.Context, file: Path, *, as_json: bool) -> None:
    """Say what FILE would render, or everything that is wrong with it. Renders nothing."""
    from svid.plan.show import plan_as_dict, plan_as_text

    desk = desk_of(home_of(ctx))
    desk.roots.append(Path("/"))
    request = desk.understand(file.read_bytes(), file.name, file.absolute().parent)
    found = plan_as_dict(desk, request)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else plan_as_text(found))


DROP_OPTIONS = click.option(
    "--drop-options", multiple=True, metavar="PLUGIN", help="Leave out what the video hands on to this plugin."
)


def _work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        DROP_OPTIONS,
        click.option("--name", help="A name for the video, if it is a new one."),
        click.option("--seed", type=click.IntRange(0), help="Another seed than the video's own."),
        click.option("--segments", type=click.IntRange(0), help="How many segments (as many as prompts, else one)."),
        click.option("--prompt", "prompts", multiple=True, help="A prompt per segment; the last one repeats."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("video")
@_work_options
@click.pass_context
def extend(ctx: click.Context, /, video: str, **options: Any) -> None:
    """Add segments to VIDEO: an id, a unique beginning of one, a name."""
    click.echo(ask_for(home_of(ctx), "extend", video, options))


@click.command()
@click.argument("video")
@_work_options
@click.pass_context
def branch(ctx: click.Context, /, video: str, **options: Any) -> None:
    """Make a new video of the first k segments of VIDEO, written `ID@k`, and add segments to it."""
    click.echo(ask_for(home_of(ctx), "branch", video, options))


def ask_for(home: Home, verb: str, video: str, options: Mapping[str, Any]) -> Path:
    """Check the manifest of a verb that stands on a video, drop it into the inbox and return where it is. Options that
    were not given are left out. Raises Refused with all that is wrong, NotFound where the video is part of it."""
    manifest: dict[str, Any] = {verb: video}
    manifest |= {
        key: value for key, value in options.items() if value is not None and value is not False and value != ()
    }
    desk = desk_of(home)
    data = as_json(manifest)
    try:
        desk.understand(data, f"{verb}.json", home.inbox)
    except UnknownVideo as error:  # here the video is what the command names, not what some file says
        raise NotFound(error.problems) from None
    stem = "".join(letter if letter.isalnum() else "-" for letter in f"{verb}-{video}")[:60]
    return drop(home, stem, data, ".json")
