"""What a job stands on, looked up in the lineage: the segment that its first one follows, and, where segments are asked
for again, how each of them was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from svid.api import Recipe
from svid.config import Config
from svid.errors import ManifestError, Problem
from svid.manifest.model import Manifest
from svid.plan.again import plan_again
from svid.plan.build import Plan, Planned, Start, build_plan, laid_out
from svid.plan.resolve import anchor_of, merged
from svid.plan.settings import ClipRef, Parent, PictureRef, Settings
from svid.store.lineage import chain, placed, segment_at
from svid.store.models import Job, Segment, Video

TAKES = TypeAdapter(tuple[Planned, ...])
"""Planned segments to and from JSON."""

START = TypeAdapter(Start)
"""What a plan begins with, to and from JSON: short, however many segments follow from it."""


@dataclass(frozen=True)
class Ground:
    """`tip` is the segment that the first one of the job follows; `was` are the segments that are asked for again, and
    `takes` how they were asked for. `parent` has the settings that the manifest is laid over."""

    tip: str | None
    parent: Parent
    takes: tuple[Planned, ...] = ()
    was: tuple[str, ...] = ()

    def plan(
        self,
        manifest: Manifest,
        config: Config,
        recipes: Mapping[str, Recipe],
        pictures: Mapping[str, PictureRef],
        file: str,
    ) -> Plan:
        """The plan of a manifest that stands on this. Raises ManifestError."""
        if self.takes:
            return plan_again(manifest, config, recipes, pictures, self.parent, self.takes, file)
        return build_plan(manifest, config, recipes, pictures, self.parent, file)


def ground(
    session: Session,
    manifest: Manifest,
    video: Video,
    length: int | None,
    config: Config,
    recipes: Mapping[str, Recipe],
    file: str,
) -> Ground:
    """What a job stands on that names the first `length` segments of a video, all of them if None. The video has
    segments. Raises ManifestError where they can't be asked for again, NotFound where there are not so many."""
    whole = session.get_one(Segment, video.tip_id).index + 1
    if manifest.reproduce is not None:
        return _again(session, video, chain(session, segment_at(session, video, length or whole).id), config, recipes)
    if manifest.redo is None:
        tip = segment_at(session, video, length or whole)
        settings = Settings.model_validate(placed(session, video, tip)[0].settings)
        return Ground(tip.id, Parent(video.id, tip.index + 1, settings, tip.room))
    first = segment_at(session, video, length or whole)
    if manifest.ripple:
        return _again(session, video, chain(session, video.tip_id)[first.index :], config, recipes)
    if first.index + 1 < whole:
        message = f"expected the last segment, {whole}, or ripple, found {first.index + 1}, which others stand on"
        hint = f"ripple = true renders those again too; or branch {video.id}@{first.index + 1} and redo that one's last"
        raise ManifestError(Problem(file, "redo", message, hint))
    return _again(session, video, [first], config, recipes)


def _again(
    session: Session, video: Video, segments: Sequence[Segment], config: Config, recipes: Mapping[str, Recipe]
) -> Ground:
    takes = as_asked(session, video, segments, config, recipes)
    index, tip = segments[0].index, segments[0].parent_id
    room = session.get_one(Segment, tip).room if tip is not None else None
    parent = Parent(video.id, index, takes[0].settings, room)
    return Ground(tip, parent, takes, tuple(one.id for one in segments))


def as_asked(
    session: Session, video: Video, segments: Sequence[Segment], config: Config, recipes: Mapping[str, Recipe]
) -> tuple[Planned, ...]:
    """Segments of a video as each was asked for. Raises ManifestError where that can't be told any more."""
    plans: dict[tuple[str, ...], Mapping[int, Planned]] = {}
    takes = []
    for segment in segments:
        row, job = placed(session, video, segment)
        after = Settings.model_validate(row.settings)
        key = (job.id, after.recipe, after.model)
        if key not in plans:
            plan = plan_of(job, job.started_from or {}, config, recipes, after)
            plans[key] = {one.index: one for one in plan.segments}
        if segment.index not in plans[key]:  # its job has not kept its start
            message = f"segment {segment.index + 1} was made when {after.recipe} used each prompt for more segments"
            raise ManifestError(Problem(job.file, "prompts", message, "it can't be told any more how it was asked for"))
        takes.append(_as_it_was(plans[key][segment.index], segment, after, job))
    return tuple(takes)


def plan_of(
    job: Job,
    started: Mapping[str, Any],
    config: Config,
    recipes: Mapping[str, Recipe],
    stored: Settings | None = None,
) -> Plan:
    """The plan of a job that has `started`, as it was then: recipes and svid.toml may say something else now.

    Jobs of older versions have not kept what theirs began with, which is told from `stored`, the settings of one of the
    segments of such a job. Raises ManifestError where this home has its recipe no more; and, where nothing is stored
    either, as `build_plan` does."""
    if "takes" in started:
        takes = TAKES.validate_python(started["takes"])
        return Plan(takes[-1].after, takes, takes[-1].index + 1)
    manifest = Manifest.model_validate(job.manifest, strict=False)
    pictures, clip = inputs_of(job)
    if "start" in started:
        return laid_out(manifest, START.validate_python(started["start"]), pictures, clip)
    parent = None
    if started.get("tip") is not None:
        parent = Parent(started["video"], started["length"], Settings.model_validate(started["settings"]))
    if stored is None:
        return build_plan(manifest, config, recipes, pictures, parent, job.file, clip)
    recipe, before = recipes.get(stored.recipe), parent.settings if parent else None
    if recipe is None:
        raise ManifestError(Problem(job.file, "recipe", f"expected a recipe of this home, found {stored.recipe!r}"))
    own = {"prompt": before.prompt if before else "", "anchor": anchor_of(pictures, before, clip)}
    length = parent.length if parent else 0
    start = Start(stored.model_copy(update=own), length, recipe.prompt_repeat, recipe.seed_stride)
    return laid_out(manifest, start, pictures, clip)


def inputs_of(job: Job) -> tuple[dict[str, PictureRef], ClipRef | None]:
    """The stored pictures of a job's manifest, by their places, and the clip that it begins with."""
    pictures = {place: PictureRef.model_validate(ref) for place, ref in job.pictures.items() if place != "clip"}
    return pictures, ClipRef.model_validate(job.pictures["clip"]) if "clip" in job.pictures else None


def _as_it_was(planned: Planned, segment: Segment, after: Settings, job: Job) -> Planned:
    """A planned segment with the numbers that held when it was rendered, where its job has not kept them."""
    started = job.started_from or {}
    if planned.clip is not None or started.keys() & {"takes", "start"}:
        return planned
    own = {"prompt": planned.settings.prompt, "anchor": planned.settings.anchor}
    manifest = Manifest.model_validate(job.manifest, strict=False)
    number = segment.index + 1 - (started.get("length") or int("clip" in job.pictures))
    settings = after.model_copy(update=own)
    loras = tuple(merged(list(settings.loras), manifest, number))
    return replace(planned, settings=settings, after=after, seed=int(segment.seed), loras=loras)
