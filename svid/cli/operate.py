"""Verbs that run the house: `pause`, `resume`, `drain`, `cancel`, `priority`, `service`."""

from __future__ import annotations

import json
import shlex
import sys

import click

from svid.cli import home_of
from svid.cli.open import store_of
from svid.daemon.lock import running
from svid.daemon.orders import Orders
from svid.errors import NotFound, Problem, Refused
from svid.home import Home
from svid.store import queue
from svid.store.engine import Store
from svid.store.lineage import job_begun
from svid.store.models import Job

UNIT = """\
[Unit]
Description=svid, long video from a hot folder ({root})
After=local-fs.target

[Service]
Type=notify
ExecStart={command}
WorkingDirectory={directory}
Restart=always
RestartSec=5
# SIGTERM ends it after the segment in flight, which may take this long; what is committed is safe either way.
TimeoutStopSec=30min
WatchdogSec=5min
StandardError=journal

[Install]
WantedBy={target}
"""


@click.command()
@click.pass_context
def pause(ctx: click.Context) -> None:
    """Start no job until `svid resume`. What runs goes on, and files are still taken in."""
    _orders(home_of(ctx)).pause()


@click.command()
@click.pass_context
def resume(ctx: click.Context) -> None:
    """Start jobs again."""
    _orders(home_of(ctx)).resume()


@click.command()
@click.pass_context
def drain(ctx: click.Context) -> None:
    """Have the daemons of this home end when the job in hand has ended. Prints their ids."""
    home = home_of(ctx)
    found = running(home.daemons, home.id)
    _orders(home).drain(found)
    for daemon in found:
        click.echo(daemon)


@click.command()
@click.argument("job")
@click.pass_context
def cancel(ctx: click.Context, job: str) -> None:
    """Give up JOB: one that waits at once, one that runs at its next denoising step. Its segments stay."""
    home = home_of(ctx)
    store = store_of(home)
    row = job_of(store, job)
    if row.state not in ("queued", "running"):
        raise Refused(Problem(row.id, "", f"expected a job that waits or runs, found one that is {row.state}"))
    if not queue.cancel(store, row.id):
        _orders(home).cancel(row.id)
    click.echo(row.id)


@click.command(context_settings={"ignore_unknown_options": True})  # -5 is a number here
@click.argument("job")
@click.argument("number", type=click.IntRange(-9, 9))
@click.pass_context
def priority(ctx: click.Context, job: str, number: int) -> None:
    """Give a JOB that waits the priority NUMBER, -9 to 9; higher goes first."""
    store = store_of(home_of(ctx))
    row = job_of(store, job)
    if not queue.prioritize(store, row.id, number):
        raise Refused(Problem(row.id, "", "expected a job that waits, found one that does not"))
    click.echo(row.id)


@click.command()
@click.option("--system", is_flag=True, help="For the whole machine instead of for this user.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object with the unit and where it belongs.")
@click.pass_context
def service(ctx: click.Context, *, system: bool, as_json: bool) -> None:
    """Print a systemd unit for this home. It restarts the daemon when it ends or hangs."""
    home = home_of(ctx)
    unit = unit_of(home, system=system)
    if as_json:
        click.echo(json.dumps({"path": _unit_path(system=system), "unit": unit}, indent=2))
        return
    click.echo(unit, nl=False)
    control = "systemctl" if system else "systemctl --user"
    click.echo(f"save it as {_unit_path(system=system)}; then: {control} enable --now svid", err=True)


def unit_of(home: Home, *, system: bool) -> str:
    """The text of the unit."""
    command = shlex.join([sys.executable, "-m", "svid", "--home", str(home.root), "up"]).replace("%", "%%")
    target = "multi-user.target" if system else "default.target"
    directory = str(home.root).replace("%", "%%")
    return UNIT.format(root=directory, command=command, directory=directory, target=target)


def _unit_path(*, system: bool) -> str:
    return "/etc/systemd/system/svid.service" if system else "~/.config/systemd/user/svid.service"


def _orders(home: Home) -> Orders:
    return Orders(home.orders, home.id)


def job_of(store: Store, written: str) -> Job:
    """The job with this id or unique beginning of one. Raises NotFound."""
    with store.read() as session:
        found = job_begun(session, written)
    if found is None:
        raise NotFound(Problem(written, "", "no job has this id", "svid status lists them; four characters are enough"))
    return found
