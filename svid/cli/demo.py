"""`svid demo`: the whole product in one command, on the embedded model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from svid.cli.open import store_of
from svid.cli.run import run_daemon
from svid.home import Home, make_home
from svid.inbox.drop import drop, free_name

EXTENSION = """\
extend = "{video}"
prompts = ["the boats leave", "the harbour is empty"]
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("svid-demo"))
@click.pass_context
def demo(ctx: click.Context, folder: Path) -> None:
    """Make a home beside here, drop a manifest, render it, extend the video by its ID, show the lineage."""
    if folder.exists():
        folder = free_name(folder.parent, folder.name, "")
    home = make_home(folder)
    _say(f"1. a home: {home.root}")
    examples = home.watch / "examples"
    shutil.copyfile(examples / "harbour.png", home.inbox / "harbour.png")
    drop(home, "new", (examples / "new.toml").read_bytes(), ".toml")
    _say("2. a manifest dropped into watch/inbox becomes a video of 3 segments")
    _run(ctx, home)
    video = _shown(home)["id"]
    _say(f"3. another process, later: the video {video} is extended by its ID")
    drop(home, "more", EXTENSION.format(video=video).encode(), ".toml")
    _run(ctx, home)
    _say("4. its lineage")
    from svid.cli.look import tree

    ctx.obj = home.root
    ctx.invoke(tree)
    _say("5. two files to play (the embedded model has random weights: it shows textures, not boats)")
    for artifact in _shown(home)["artifacts"]:
        click.echo(artifact["path"])


def _say(text: str) -> None:
    click.echo(text, err=True)


def _run(ctx: click.Context, home: Home) -> None:
    status = run_daemon(home, once=True)
    if status:
        ctx.exit(status)


def _shown(home: Home) -> dict[str, Any]:
    from svid.store.show import find_anything

    with store_of(home).read() as session:
        return find_anything(session, home, "harbour at dawn")
