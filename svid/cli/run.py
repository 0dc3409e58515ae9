"""`svid init` and `svid up`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from svid import logs
from svid.cli import home_of
from svid.home import Home, make_home


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init(folder: Path) -> None:
    """Make a home in FOLDER (this one, if none is named)."""
    home = make_home(folder)
    click.echo(home.root)


@click.command()
@click.option("--once", is_flag=True, help="Do what is in the inbox and in the queue, then end.")
@click.pass_context
def up(ctx: click.Context, *, once: bool) -> None:
    """Watch the inbox and render what is dropped there. Ends on SIGTERM or Ctrl-C after the segment in flight; a
    second signal ends it at the next denoising step, a third one at once. The job goes on with the next `svid up`."""
    ctx.exit(run_daemon(home_of(ctx), once=once))


def run_daemon(home: Home, *, once: bool) -> int:
    """Run a daemon in this process until it ends; returns its exit code."""
    from svid.cli.open import desk_of
    from svid.daemon.halt import patiently
    from svid.daemon.loop import Daemon
    from svid.screen import screen_for

    as_json = home.config.daemon.log == "json"
    if as_json:
        logs.configure(logging.getLogger().level, as_json=True)
    with screen_for(as_json=as_json) as screen:

        def start() -> Daemon:
            desk = desk_of(home)
            return Daemon(home, desk.store, desk, screen, once=once)

        return (start() if once else patiently(start, home.config.daemon.poll, screen.show)).run()
