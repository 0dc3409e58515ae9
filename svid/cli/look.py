"""Verbs that only look: `status`, `show`, `tree`, `recipes`."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree
from sqlalchemy import select
from sqlalchemy.orm import Session

from svid.cli import home_of
from svid.cli.open import store_of
from svid.store.lineage import chain, counts, resolve
from svid.store.models import Segment, Video
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
@click.option("--ended", default=10, show_default=True, help="How many ended jobs to show.")
@click.pass_context
def status(ctx: click.Context, ended: int, *, as_json: bool) -> None:
    """What runs, what waits, what has ended."""
    from svid.daemon.lock import running
    from svid.inbox.scan import Scanner

    home = home_of(ctx)
    with store_of(home).read() as session:
        jobs = [job_as_dict(job) for job in jobs_to_show(session, ended)]
        totals = counts(session)
    scanner = Scanner(home.inbox, home.config.daemon.settle)
    ready = [file.name for file in scanner.look()]
    inbox = {"manifests": sorted([*ready, *scanner.waiting]), "not_manifests": scanner.strangers}
    found = {"home": str(home.root), "daemons": running(home.daemons), "counts": totals, "inbox": inbox, "jobs": jobs}
    if as_json:
        _emit(found)
        return
    console = _console()
    console.print(f"{home.root}: {'a daemon runs' if found['daemons'] else 'no daemon runs (svid up)'}", markup=False)
    console.print(", ".join(f"{number} {what}" for what, number in totals.items()), markup=False)
    if scanner.strangers:
        console.print(f"in the inbox, but no manifests: {', '.join(scanner.strangers)}", markup=False)
    table = Table("job", "state", "video", "file", "progress", box=None)
    for job in jobs:
        table.add_row(job["id"], job["state"], job["video"], escape(job["file"]), escape(_progress(job)))
    console.print(table)


def _progress(job: dict[str, Any]) -> str:
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
        roots = _roots(session, video)
        forest = [_node(session, root) for root in roots]
    if as_json:
        _emit(forest)
        return
    console = _console()
    for node in forest:
        console.print(_draw(node))


def _roots(session: Session, video: str | None) -> list[Segment]:
    if video is not None:
        return chain(session, resolve(session, video).video.tip_id)[:1]
    return list(session.scalars(select(Segment).where(Segment.parent_id.is_(None)).order_by(Segment.created)))


def _node(session: Session, root: Segment) -> dict[str, Any]:
    """A segment with all that follow it. Without recursion: a chain can be longer than Python's stack."""
    top = _facts(session, root)
    todo = [(top, root)]
    while todo:
        node, segment = todo.pop()
        follow = select(Segment).where(Segment.parent_id == segment.id).order_by(Segment.created)
        below = [(_facts(session, child), child) for child in session.scalars(follow)]
        node["children"] = [facts for facts, _ in below]
        node["frames"] = segment.shown(followed=bool(below))
        todo += below
    return top


def _facts(session: Session, segment: Segment) -> dict[str, Any]:
    tips = session.scalars(select(Video).where(Video.tip_id == segment.id).order_by(Video.created))
    return {
        "id": segment.id,
        "number": segment.index + 1,
        "seed": int(segment.seed),
        "prompt": segment.ask["prompt"],
        "cut": segment.ask["cut"] is not None,
        "videos": [{"id": video.id, "name": video.name} for video in tips],
    }


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


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def recipes(ctx: click.Context, name: str | None, *, as_json: bool) -> None:
    """The recipes of this home's plugins; with NAME every number of one."""
    from svid.cli.open import plugins_of
    from svid.errors import NotFound, Problem

    known = plugins_of(home_of(ctx)).recipes()
    if name is not None and name not in known:
        raise NotFound(Problem(name, "", "no recipe has this name", f"known: {', '.join(sorted(known))}"))
    chosen = [known[name]] if name else list(known.values())
    if as_json:
        _emit([recipe.model_dump(mode="json") for recipe in chosen])
        return
    for recipe in chosen:
        click.echo(f"{recipe.name}: {recipe.title}")
        if name is not None:
            for key, value in recipe.model_dump(exclude={"name", "title"}).items():
                click.echo(f"  {key}: {value}")
