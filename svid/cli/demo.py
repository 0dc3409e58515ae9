"""`svid demo`: the whole product in one command, on the embedded model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from svid.cli.open import store_of
from svid.cli.run import run_daemon
from svid.home import Home, make_home
from svid.inbox.drop import drop, drop_json, free_name

EXAMPLE = "star"
VIDEO = "a star, then a square"
EXTENSION = """\
extend = "{video}"
prompts = [
  "a blue square stands still on a sand plain background, day turns to night",
  "a blue square stands still on a sand plain background, night turns to day",
]
"""
SEGMENTS = 20
"""As many as `benchmarks/drift.py` measures."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("svid-demo"))
@click.option("--compare", "comparing", is_flag=True, help="Compare SVI 2.0 Pro with plain chaining by the last frame.")
@click.option(
    "--segments", type=click.IntRange(2, 200), help=f"With --compare: how many of each ({SEGMENTS} unless given)."
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, segments: int | None, *, comparing: bool) -> None:
    """Make a home beside here, drop a manifest, render it, extend the video by its ID, show the lineage."""
    if segments is not None and not comparing:
        raise click.UsageError("--segments is for --compare", ctx)
    if folder.exists():
        folder = free_name(folder.parent, folder.name, "")
    home = make_home(folder)
    _say(f"1. a home: {home.root}")
    if comparing:
        _compare(ctx, home, segments or SEGMENTS)
    else:
        _show_off(ctx, home)


def _show_off(ctx: click.Context, home: Home) -> None:
    _lay(home, f"{EXAMPLE}.png")
    drop(home, EXAMPLE, (home.watch / f"examples/{EXAMPLE}.toml").read_bytes(), ".toml")
    _say("2. a manifest dropped into watch/inbox becomes a video of 4 segments, with a hard cut in the third")
    _run(ctx, home)
    video = _shown(home)["id"]
    _say(f"3. another process, later: the video {video} is extended by its ID")
    drop(home, "more", EXTENSION.format(video=video).encode(), ".toml")
    _run(ctx, home)
    _say("4. its lineage")
    from svid.cli.look import tree

    ctx.obj = home.root
    ctx.invoke(tree)
    _say("5. two files to play, and their contact sheets: a row per segment")
    for artifact in _shown(home)["artifacts"]:
        click.echo(artifact["path"])
        click.echo(artifact["sheet"])


def _compare(ctx: click.Context, home: Home, segments: int) -> None:
    from svid.cli.compare import IMAGE, RECIPES, compare, manifest

    _lay(home, IMAGE)
    for recipe in RECIPES:
        drop_json(home, recipe, manifest(recipe, segments))
    _say(f"2. the same {segments} prompts, once by the last frame alone (i2v), once by svi-2.0-pro")
    _run(ctx, home)
    _say("3. beside one another: a video, a contact sheet, and the change of four measures since segment 1")
    folder = home.root / "compare"
    drifts = compare(home, folder)
    for file in sorted(folder.iterdir()):
        click.echo(file)
    _say(f"4. brightness, contrast and saturation of segment {segments} are off by, in hundredths of their range:")
    for recipe, value in drifts.items():
        _say(f"   {recipe:12} {value:5.2f}")


def _lay(home: Home, picture: str) -> None:
    shutil.copyfile(home.watch / "examples" / picture, home.inbox / picture)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _run(ctx: click.Context, home: Home) -> None:
    status = run_daemon(home, once=True)
    if status:
        ctx.exit(status)


def _shown(home: Home) -> dict[str, Any]:
    from svid.store.show import find_anything

    with store_of(home).read() as session:
        return find_anything(session, home, VIDEO)
