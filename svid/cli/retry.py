"""`svid retry`: a failed job once more. What it asks for is worked out here, from how far the job came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from svid.api import Recipe
from svid.cli import home_of
from svid.cli.ask import put
from svid.cli.open import store_of
from svid.cli.operate import job_of
from svid.errors import Problem, Refused
from svid.inbox.drop import drop_json
from svid.manifest.model import Manifest
from svid.manifest.rest import rest
from svid.plan.build import count
from svid.plugin import plugins_of
from svid.store.lineage import is_changing, placed
from svid.store.models import Job, JobSegment, Segment, Video


@click.command()
@click.argument("job")
@click.pass_context
def retry(ctx: click.Context, job: str) -> None:
    """Ask for a failed JOB once more, with the pictures as they were. Prints the new manifest. Segments that it has
    rendered are not rendered again: its video goes on from there, unless it has been changed since."""
    home = home_of(ctx)
    store = store_of(home)
    row = job_of(store, job)
    if row.state != "failed":
        raise Refused(Problem(row.id, "", f"expected a job that has failed, found one that is {row.state}"))
    with store.read() as session:
        video = session.get_one(Video, row.video_id)
        written = left(session, row, video, lambda: plugins_of(home).recipes())
    if written is None:
        written = once_more(row, video)
        if row.started_from is not None and video.tip_id is not None and "takes" not in row.started_from:
            text = f"{video.id} ({video.name}) can't go on from where {row.id} left it: this makes another video"
            click.echo(f"svid: {text}", err=True)
    click.echo(drop_json(home, f"retry-{row.id}", written))


def asked(row: Job) -> dict[str, Any]:
    """The manifest of a job, naming its inputs as they are in the store."""
    written: dict[str, Any] = _manifest(row).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for place, ref in row.pictures.items():
        put(written, place, f"asset:{ref['sha256']}")
    return written


def once_more(row: Job, video: Video) -> dict[str, Any]:
    """A manifest that asks for a job from where it began, which it names by number: the video may have grown, and
    another one may have its name by now. What the job has rendered is taken as it is."""
    manifest, written, started = _manifest(row), asked(row), row.started_from or {}
    if manifest.base is None:
        return {"name": video.name} | written
    key = manifest.base[0]
    if "length" in started:
        # `length` segments come before the first one that is rendered, or that is asked for again.
        again = {"redo": 1, "reproduce": len(started.get("takes", ()))}
        written[key] = f"{started['video']}@{started['length'] + again.get(key, 0)}"
    numbered = "length" in started or row.base_length is not None
    if key != "branch" and not (key == "extend" and numbered):
        written.pop("name", None)  # no other video can come of it that would have the name
    return written


def left(
    session: Session, row: Job, video: Video, recipes: Callable[[], Mapping[str, Recipe]]
) -> dict[str, Any] | None:
    """A manifest that lets the video of a job go on from exactly where the job left it. None where it does not end
    there, or is about to change, and where a manifest can't say it."""
    manifest, started = _manifest(row), row.started_from
    if started is None or video.tip_id is None or "takes" in started or is_changing(session, video):
        return None
    made = session.scalar(select(func.count()).where(JobSegment.job_id == row.id)) or 0
    tip = session.get_one(Segment, video.tip_id)
    if tip.index + 1 != started.get("length", 0) + made:
        return None
    if not made:
        return _all_of_it(row, manifest, video) if tip.id == started["tip"] else None
    last, job = placed(session, video, tip)
    if job.id != row.id:
        return None
    recipe = recipes().get(last.settings["recipe"])
    if recipe is None:
        return None
    done, wanted = made - (manifest.clip is not None), count(manifest, recipe.prompt_repeat)
    if done < wanted:
        found = rest(asked(row), done, wanted, recipe.prompt_repeat)
        return found and {"extend": video.id} | found
    # All of it is there but the file. A redo with the seed that it has is the same segment, which is taken as it is.
    whole = {"redo": f"{video.id}@{tip.index + 1}", "seed": int(tip.seed)}
    return whole | ({"priority": manifest.priority} if manifest.priority else {})


def _all_of_it(row: Job, manifest: Manifest, video: Video) -> dict[str, Any] | None:
    """A job that has rendered nothing, but whose branch is there: all that it asks for, put onto that. None for a
    branch alone."""
    if manifest.branch is not None and not (manifest.segments or manifest.prompts):
        return None
    left_out = ("extend", "branch", "name")
    return {"extend": video.id} | {key: one for key, one in asked(row).items() if key not in left_out}


def _manifest(row: Job) -> Manifest:
    return Manifest.model_validate(row.manifest, strict=False)
