"""Verbs that only look: `status`, `show`, `tree`."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.tree import Tree
from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.cli import home_of
from svid.cli.open import store_of
from svid.errors import StoreError
from svid.home import Home
from svid.inbox.claim import claimed_names, claimed_parts, shown_name
from svid.store.forest import forest
from svid.store.homes import roots
from svid.store.lineage import counts
from svid.store.models import Job
from svid.store.queue import waits_for_others
from svid.store.show import find_anything, job_as_dict, jobs_to_show


def _emit(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _console() -> Console:
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000  # rich cuts trees and tables off at 80 columns, and what reads a pipe wants all of it
    return console


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--ended", type=click.IntRange(0, 1_000_000), default=10, show_default=True, help="How many ended jobs to show."
)
@click.pass_context
def status(ctx: click.Context, ended: int, *, as_json: bool) -> None:
    """What runs, what waits, what has ended."""
    from svid.daemon.halt import why_stopped
    from svid.daemon.lock import running
    from svid.daemon.orders import Orders
    from svid.inbox.scan import Scanner

    home = home_of(ctx)
    stopped = why_stopped(home)
    stored: dict[str, Any] = {"counts": {}, "jobs": [], "waits": {}, "taken": [], "other_homes": []}
    try:
        with store_of(home).read() as session:
            stored = _stored(session, home, ended)
    except StoreError as error:  # the one command that has to answer when nothing else does
        stopped = stopped or str(error.problems[0])
    scanner = Scanner(home.inbox, home.config.daemon.settle)
    ready = [file.name for file in scanner.look()]
    inbox = {"manifests": sorted([*ready, *scanner.waiting]), "not_manifests": scanner.strangers}
    daemons = running(home.daemons, home.id)
    found: dict[str, Any] = {"home": str(home.root), "daemons": daemons, "stopped": stopped}
    found |= {"paused": Orders(home.orders, home.id).paused, "inbox": inbox, **stored}
    if as_json:
        _emit(found)
        return
    console = _console()
    console.print(f"{home.root}: {'a daemon runs' if found['daemons'] else 'no daemon runs (svid up)'}", markup=False)
    if stopped:
        console.print(f"stopped: {stopped}", markup=False)
    if found["paused"]:
        console.print("paused: no job is started (svid resume)")
    console.print(", ".join(f"{number} {what}" for what, number in found["counts"].items()), markup=False)
    if found["other_homes"]:
        console.print(f"the database is also that of {', '.join(found['other_homes'])}", markup=False)
    if inbox["manifests"]:
        console.print(f"in the inbox: {_few(inbox['manifests'])}", markup=False)
    if found["taken"]:
        console.print(f"taken, but no jobs yet: {_few(found['taken'])}", markup=False)
    if inbox["not_manifests"]:
        console.print(f"in the inbox, but no manifests: {_few(inbox['not_manifests'])}", markup=False)
    ids = [Column(name, no_wrap=True, min_width=13) for name in ("job", "video")]  # to be copied, whole
    table = Table(ids[0], "state", ids[1], "file", "progress", box=None)
    for job in found["jobs"]:
        progress = f"waits for {found['waits'][job['id']]}" if job["id"] in found["waits"] else _progress(job)
        table.add_row(job["id"], job["state"], job["video"], escape(job["file"]), escape(progress))
    console.print(table)


def _few(names: list[str], count: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(shown_name(name) for name in names[:count]) + more


def _stored(session: Session, home: Home, ended: int) -> dict[str, Any]:
    """What the database has for the status of a home. `waits` are its jobs that wait for one of another home."""
    places = roots(session, home)
    return {
        "counts": counts(session, home.id),
        "jobs": [job_as_dict(job) for job in jobs_to_show(session, home.id, ended)],
        "waits": {job: f"{first} of {places.get(of, of)}" for job, first, of in waits_for_others(session, home.id)},
        "taken": _taken(session, home),
        "other_homes": [str(root) for id_, root in places.items() if id_ != home.id],
    }


def _taken(session: Session, home: Home) -> list[str]:
    """The manifests that were taken out of the inbox and are no jobs yet: they wait for a picture or for a video."""
    jobs = set(session.scalars(select(Job.claimed).where(Job.home == home.id, ~Job.answered)))
    names = (claimed_parts(name) for name in claimed_names(home.claimed) if name not in jobs)
    return sorted(parts[1] for parts in names if parts)


def _progress(job: dict[str, Any]) -> str:
    if job["ended"] and not job["answered"]:
        return "its answer is not written yet"
    if job["errors"]:
        return str(job["errors"][0]["message"])
    seen = job["progress"] or {}
    parts = [f"{what} {seen[what]}/{seen[what + 's']}" for what in ("segment", "step") if what in seen]
    return ", ".join(parts)


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show(ctx: click.Context, id_: str, *, as_json: bool) -> None:
    """Everything about a video, a job or a segment."""
    home = home_of(ctx)
    with store_of(home).read() as session:
        found = find_anything(session, home, id_)
    if as_json:
        _emit(found)
        return
    console = _console()
    for key, value in found.items():
        if key in ("segments", "artifacts", "jobs", "attempts") and isinstance(value, list):
            console.print(f"{key}:", markup=False)
            for one in value:
                console.print(f"  {_row(one)}", markup=False)
        elif value not in (None, [], {}):
            console.print(f"{key}: {value}", markup=False)


def _row(one: dict[str, Any]) -> str:
    shortened = {
        key: value[:12] if key in ("id", "parent", "latents", "sha256", "tip") and value else value
        for key, value in one.items()
    }
    return "  ".join(f"{key} {value}" for key, value in shortened.items() if value not in (None, [], {}))


@click.command()
@click.argument("video", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def tree(ctx: click.Context, video: str | None, *, as_json: bool) -> None:
    """The lineage: every segment under the one that it follows, with the videos that end there."""
    home = home_of(ctx)
    with store_of(home).read() as session:
        trees = forest(session, video)
    if as_json:
        _emit(trees)
        return
    console = _console()
    for node in trees:
        console.print(_draw(node))


def _draw(top: dict[str, Any]) -> Tree:
    """Segments that follow one another without a fork stand under one another, not ever further to the right."""
    drawn = Tree(_label(top))
    todo = [(drawn, top)]
    while todo:
        branch, node = todo.pop()
        while len(node["children"]) == 1:
            node = node["children"][0]
            branch.add(_label(node))
        for child in reversed(node["children"]):
            todo.append((branch.add(_label(child)), child))
    return drawn


def _label(node: dict[str, Any]) -> str:
    tips = "".join(f"  [bold]<- {escape(video['id'])} {escape(video['name'])}[/bold]" for video in node["videos"])
    cut = " [yellow]cut[/yellow]" if node["cut"] else ""
    prompt = escape(node["prompt"] if len(node["prompt"]) <= 60 else node["prompt"][:59] + "…")
    return f"{node['number']:>3} {node['id'][:12]} seed {node['seed']}, {node['frames']} frames{cut}: {prompt}{tips}"
