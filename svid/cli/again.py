"""Verbs about segments that there are: `redo`, `reproduce`, `explain`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select

from svid.cli import home_of
from svid.cli.ask import DROP_OPTIONS, ask_for
from svid.cli.open import store_of
from svid.daemon.lock import running
from svid.errors import Problem, Refused
from svid.home import Home
from svid.inbox.claim import shown_name
from svid.store.again import reproduced
from svid.store.engine import Store
from svid.store.explain import explain as compare
from svid.store.explain import find_segment
from svid.store.models import Job

NO_DAEMON = 5
POLL = 0.2
"""Seconds between two looks for an answer."""


@click.command()
@click.argument("video")
@click.option("--ripple", is_flag=True, help="Render again what follows the segment, each as it was asked for.")
@click.option("--seed", type=click.IntRange(0), help="The segment's seed (another one, if nothing else is changed).")
@click.option("--prompt", help="Another prompt.")
@DROP_OPTIONS
@click.pass_context
def redo(
    ctx: click.Context, video: str, seed: int | None, prompt: str | None, drop_options: tuple[str, ...], *, ripple: bool
) -> None:
    """Another take of the last segment of VIDEO, or with --ripple of segment k, written `ID@k`, and of all after it.

    The video ends in the new segments then; the old ones stay, as a video of their own.
    """
    prompts = [prompt] if prompt is not None else None
    options = {"ripple": ripple, "seed": seed, "prompts": prompts, "drop_options": drop_options}
    click.echo(ask_for(home_of(ctx), "redo", video, options))


@click.command()
@click.argument("video")
@click.option("--no-wait", is_flag=True, help="Only ask; the answer is in watch/done or watch/failed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@DROP_OPTIONS
@click.pass_context
def reproduce(ctx: click.Context, video: str, drop_options: tuple[str, ...], *, no_wait: bool, as_json: bool) -> None:
    """Render every segment of VIDEO again, and say which come out the same; exits with 1 where one does not.

    Waits for a daemon to do it. Nothing about the video changes.
    """
    home = home_of(ctx)
    store = store_of(home)
    last = _last(store)
    file = ask_for(home, "reproduce", video, {"drop_options": drop_options})
    if no_wait:
        click.echo(file)
        return
    found = _wait(home, store, file, last)
    if found is None:
        click.echo(f"svid: no daemon runs: svid up does what {file} asks for", err=True)
        ctx.exit(NO_DAEMON)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for one in found["segments"]:
            answer = "equal" if one["equal"] else f"differs: {one['is'][:12]}"
            click.echo(f"segment {one['number']} {one['was'][:12]} {answer}")
    for problem in found["errors"]:
        click.echo(f"svid: {Problem(**problem)}", err=True)
    ctx.exit(0 if found["state"] == "done" else 1)


def _last(store: Store) -> int:
    """The number of the newest job."""
    with store.read() as session:
        return session.scalar(select(func.max(Job.seq))) or 0


def _wait(home: Home, store: Store, file: Path, last: int) -> dict[str, Any] | None:
    """What came of a manifest in the inbox, whose job is newer than `last`; None where no daemon is there to do it.
    Raises Refused where it became no job."""
    name = shown_name(file.name)
    while True:
        alive = running(home.daemons, home.id)
        waits = file.exists() or any(home.claimed.glob(f"*.{name}"))
        with store.read() as session:
            mine = select(Job).where(Job.file == name, Job.seq > last).order_by(Job.seq).limit(1)
            job = session.scalars(mine).first()
            if job is not None and job.state in ("done", "failed"):
                proof = reproduced(session, job)
                return {"job": job.id, "state": job.state, "segments": proof, "errors": job.errors or []}
        if job is None and not waits:
            raise Refused(Problem(file.name, "", "was refused by the daemon", f"the reasons are in {home.failed}"))
        if not alive:
            return None
        time.sleep(POLL)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def explain(ctx: click.Context, a: str, b: str, *, as_json: bool) -> None:
    """What was asked otherwise for segment A than for segment B: each an id or `VIDEO@k`."""
    with store_of(home_of(ctx)).read() as session:
        found = compare(find_segment(session, a), find_segment(session, b))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for part, title in (("ask", "asked"), ("env", "rendered under")):
        for one in found[part]:
            click.echo(f"{title}: {one['key']}: {_short(one['a'])} -> {_short(one['b'])}")
    if found["same_answer"]:
        click.echo("one and the same" if found["a"] == found["b"] else "other asks, the same answer")
    elif found["same_ask"]:
        click.echo("the asks are equal, what came out is not")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:99]}…"
