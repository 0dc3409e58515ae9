"""From a claimed file to a job, or to an answer that says what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from svid.canonical import digest
from svid.config import weights_path
from svid.crash import crashpoint
from svid.errors import LoraError, ManifestError, MediaError, NotFound, Problem, SvidError, UnknownVideo
from svid.home import Home
from svid.inbox.arrivals import Arrivals
from svid.inbox.claim import Claimed, read_quiet
from svid.inbox.pictures import ASSET, PictureStore, named_pictures
from svid.inbox.scan import LARGEST
from svid.manifest.model import Manifest
from svid.manifest.read import Known, handed_on, parse, validate
from svid.manifest.words import refuse
from svid.plan.build import Plan, build_plan
from svid.plan.ground import Ground, ground
from svid.plan.resolve import chosen
from svid.plan.settings import ClipRef, PictureRef
from svid.store.blobs import Blobs
from svid.store.disk import storage_errors
from svid.store.engine import Store
from svid.store.files import sync_file, sync_folder
from svid.store.ids import job_ids
from svid.store.lineage import Reference, is_changing, length_of, resolve
from svid.store.models import Job, Video

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins


@dataclass(frozen=True)
class Request:
    """A manifest that was understood: what it asks for and what it stands on."""

    file: str
    text: str
    manifest: Manifest
    pictures: Mapping[str, PictureRef]
    clip: ClipRef | None
    base: Reference | None
    plan: Plan | None
    """None where the video that it stands on has jobs that are done first."""

    @property
    def inputs(self) -> dict[str, PictureRef | ClipRef]:
        """The pictures and the clip, by their places."""
        return {**self.pictures, **({"clip": self.clip} if self.clip else {})}

    @property
    def digest(self) -> str:
        """The same for the same text and the same inputs, in any home."""
        return digest({"text": self.text, "pictures": {at: ref.sha256 for at, ref in self.inputs.items()}})


class Desk:
    """Understands manifests: parses, validates, takes the pictures in, and checks that the plan can be made."""

    def __init__(self, home: Home, store: Store, plugins: Plugins) -> None:
        self.home = home
        self.store = store
        self.plugins = plugins
        self.recipes = plugins.recipes()
        self.options = plugins.option_models()
        config = home.config
        self.pictures = PictureStore(Blobs(home.blobs, home.tmp), store, config.media.max_pixels)
        self.roots = [home.root / Path(root).expanduser() for root in config.media.roots]
        self.known = known_names(home, self.recipes)

    def understand(self, data: bytes, name: str, folder: Path, arrivals: Arrivals | None = None) -> Request:
        """Raises Refused or NotFound with everything that is wrong, as far as it can be told before rendering; with
        `arrivals`, Arriving where a picture or the clip is still on its way."""
        manifest = validate(parse(data, Path(name).suffix.lower(), name), name, self.options, self.known)
        if arrivals is not None:
            files = {written: folder / written for _, written in _named(manifest) if not written.startswith(ASSET)}
            arrivals.check(files, self._concerned(manifest, name))
        pictures, clip, problems = self._inputs(manifest, name, folder, arrivals)
        base, plan, refusal = None, None, ManifestError
        try:
            base, below = self._base(manifest, name)
            seen = not problems
            problems += _misnamed(manifest, base, name)
            if (base is None or below is not None) and seen:
                plan = self._plan(manifest, pictures, clip, below, name)
        except NotFound as error:
            place, refusal = manifest.base[0] if manifest.base else "", UnknownVideo
            problems += [
                Problem(name, place, f"{problem.file!r}: {problem.message}", problem.hint) for problem in error.problems
            ]
        except SvidError as error:
            problems += error.problems
        if problems:
            raise refusal(problems)
        return Request(name, data.decode("utf-8-sig"), manifest, pictures, clip, base, plan)

    def _inputs(
        self, manifest: Manifest, name: str, folder: Path, arrivals: Arrivals | None
    ) -> tuple[dict[str, PictureRef], ClipRef | None, list[Problem]]:
        """The pictures and the clip of a manifest, taken into the store, and what is wrong with them."""
        pictures, clip = dict[str, PictureRef](), None
        problems: list[Problem] = []
        damaged = dict[str, Path]()
        for place, written in _named(manifest):
            try:
                if place == "clip":
                    clip = self.pictures.take_clip(written, folder, self.roots)
                else:
                    pictures[place] = self.pictures.take(written, folder, self.roots)
            except MediaError as error:
                problems += [
                    Problem(name, place, f"{problem.file}: {problem.message}", problem.hint)
                    for problem in error.problems
                ]
                damaged[written] = folder / written
        if arrivals is not None and damaged:
            arrivals.found_damaged(damaged, self._concerned(manifest, name))
        return pictures, clip, problems

    def _concerned(self, manifest: Manifest, name: str) -> set[str]:
        """What the videos are called that a manifest has to do with."""
        if manifest.base is None:
            return {manifest.name or Path(name).stem}
        written = manifest.base[1]
        found = {written, written.rpartition("@")[0] or written, manifest.name or written}
        with contextlib.suppress(NotFound), self.store.read() as session:
            video = resolve(session, written, later=True).video
            found |= {video.id, video.name}
        return found

    def _base(self, manifest: Manifest, name: str) -> tuple[Reference | None, Ground | None]:
        """The video that a manifest names, and what the job stands on, unless that is for other jobs to decide."""
        if manifest.base is None:
            return None, None
        with self.store.read() as session:
            base = resolve(session, manifest.base[1], later=True)
            if base.video.tip_id is None or is_changing(session, base.video):
                return base, None
            return base, ground(session, manifest, base.video, base.length, self.home.config, self.recipes, name)

    def _plan(
        self,
        manifest: Manifest,
        pictures: Mapping[str, PictureRef],
        clip: ClipRef | None,
        below: Ground | None,
        name: str,
    ) -> Plan:
        config = self.home.config
        parent = below.parent.settings if below else None
        again = below.takes[0].index + 1 if below is not None and manifest.reproduce is not None else None
        recipe, model = chosen(manifest, config, self.recipes, parent, name, again)
        self._check_model(recipe, model)
        self._check_prompts(manifest, model, name)
        if below is not None:
            plan = below.plan(manifest, config, self.recipes, pictures, name)
            self._check_options(plan, name)
        else:
            plan = build_plan(manifest, config, self.recipes, pictures, None, name, clip)
        self._check_loras(plan)
        return plan

    def _check_model(self, recipe: str, model: str) -> None:
        from svid.wan.folder import check_base, read_summary

        path = weights_path(self.home.config.models[model].path, self.home.root)
        read_summary(path)
        check_base(path, self.recipes[recipe])

    def _check_options(self, plan: Plan, name: str) -> None:
        """Raise ManifestError for options that are handed on and that no plugin takes any more."""
        held = [plan.settings.options, *(one.settings.options for one in plan.segments)]
        problems = [problem for tables in held for problem in handed_on(tables, name, self.options)]
        refuse(dict.fromkeys(problems))

    def _check_loras(self, plan: Plan) -> None:
        """Raise LoraError for what a segment needs and svid.toml names, but is not there or, by its header, no LoRA."""
        from svid.wan.lora.sort import check_lora

        needed, files = set(), set[Path]()
        for one in plan.segments:
            experts = self.recipes[one.settings.recipe].experts
            needed |= {(one.settings.model, lora.name, experts) for lora in one.loras}
            needed |= {(one.settings.model, one.cut.lora, ("high",))} if one.cut else set()
        for model, name, experts in sorted(needed):
            files.update(self.home.config.lora_files(model, name, experts, self.home.root).values())
        problems: list[Problem] = []
        for file in sorted(files):
            try:
                check_lora(file)
            except LoraError as error:
                problems += error.problems
        if problems:
            raise LoraError(problems)

    def _check_prompts(self, manifest: Manifest, model: str, name: str) -> None:
        """Raise ManifestError for prompts whose ends the model would not see."""
        from svid.wan.tokens import TOKENS, too_long

        folder = weights_path(self.home.config.models[model].path, self.home.root)
        written = [("negative", manifest.negative or "")]
        written += [(f"prompts[{place}]", text) for place, text in enumerate(manifest.prompts or ())]
        written += [(f"cuts[{place}].prompt", cut.prompt) for place, cut in enumerate(manifest.cuts)]
        counts = {where: too_long(text, folder) for where, text in written}
        refuse(
            Problem(name, where, f"expected at most {TOKENS} tokens, found {count}", "the model would not see the rest")
            for where, count in counts.items()
            if count
        )


def _named(manifest: Manifest) -> list[tuple[str, str]]:
    """The pictures and the clip that a manifest names, by their places."""
    return [*named_pictures(manifest), *([("clip", manifest.clip)] if manifest.clip else [])]


def _misnamed(manifest: Manifest, base: Reference | None, file: str) -> list[Problem]:
    """A name for another video where none can come of it."""
    if base is None or manifest.branch is not None or manifest.name in (None, base.video.name):
        return []
    if manifest.extend is not None and base.length is not None:
        return []  # `extend = "ID@k"` becomes a branch if more segments follow when it begins
    message = f"expected no name, or the video's own, {base.video.name!r}, found {manifest.name!r}"
    return [Problem(file, "name", message, "`branch` makes a video of another name")]


def known_names(home: Home, recipes: Mapping[str, Any]) -> Known:
    """The names that a manifest may use in this home."""
    from svid.media.codecs import CODECS
    from svid.wan.samplers import SAMPLERS

    config = home.config
    return Known(
        recipes=recipes.keys(), models=config.models.keys(), loras=config.lora_names(), samplers=SAMPLERS, codecs=CODECS
    )


def accept(desk: Desk, claimed: Claimed, arrivals: Arrivals | None = None) -> Job | None:
    """Make a job of a claimed file and return it; None where the file is still being written, or is this daemon's no
    more.

    Raises ManifestError where it can't become a job, StorageError where the disk does not let it and, with `arrivals`,
    Arriving where a picture or the clip is still on its way.
    """
    with storage_errors():
        return _accept(desk, claimed, arrivals)


def _accept(desk: Desk, claimed: Claimed, arrivals: Arrivals | None) -> Job | None:
    try:
        refusal = _why_not(claimed.path)
        data = None if refusal else read_quiet(claimed.path)
    except OSError as error:
        raise ManifestError(Problem(claimed.name, "", f"can't be read: {error.strerror}")) from error
    if refusal:
        raise ManifestError(Problem(claimed.name, "", refusal))
    if data is None:
        return None
    request = desk.understand(data, claimed.name, desk.home.inbox, arrivals)
    # Before the row: a file that is in the inbox again after a power failure would be done again.
    try:
        sync_file(claimed.path)
    except FileNotFoundError:  # adopted by another daemon, or taken away, as below
        return None
    for folder in (claimed.path.parent, desk.home.inbox):
        sync_folder(folder)
    with desk.store.write() as session:
        if not os.path.lexists(claimed.path):  # adopted by another daemon, which makes the job, or taken away
            return None
        job = _insert(session, request, claimed, desk.home.id)
    crashpoint("job-accepted")
    return job


def _why_not(path: Path) -> str:
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "is a symbolic link; svid takes regular files, so that what it reads is what was dropped"
    if not stat.S_ISREG(info.st_mode):
        return "is not a regular file"
    if info.st_size > LARGEST:
        return f"has {info.st_size} bytes; a manifest has at most {LARGEST}"
    return "" if info.st_size else "is empty"


def _insert(session: Session, request: Request, claimed: Claimed, home: str) -> Job:
    earlier = select(func.max(Job.occurrence)).where(Job.digest == request.digest)  # some may have been lost
    occurrence = (session.scalar(earlier) or 0) + 1
    id_, fresh = job_ids(request.digest, occurrence)
    video, after = _video(session, request, fresh)
    job = Job(
        id=id_,
        digest=request.digest,
        occurrence=occurrence,
        file=request.file,
        claimed=claimed.path.name,
        text=request.text,
        manifest=request.manifest.model_dump(mode="json"),
        pictures={place: ref.model_dump() for place, ref in request.inputs.items()},
        video_id=video,
        after=after,
        base_length=request.base.length if request.base else None,
        home=home,
        priority=request.manifest.priority,
    )
    session.add(job)
    return job


def _video(session: Session, request: Request, fresh: str) -> tuple[str, str | None]:
    """The video that grows, and the one it is forked from."""
    base, manifest = request.base, request.manifest
    name = manifest.name or (base.video.name if base else Path(request.file).stem)
    if base is None:
        session.add(Video(id=fresh, name=name))
        session.flush()
        return fresh, None
    video = session.get_one(Video, base.video.id)
    if manifest.branch is None and (manifest.extend is None or _goes_on(session, video, base.length)):
        return video.id, None
    session.add(Video(id=fresh, name=name, forked_from=video.id))
    session.flush()
    return fresh, video.id


def _goes_on(session: Session, video: Video, length: int | None) -> bool:
    """Whether to extend the first `length` segments of a video is to make it longer, and not a branch. While other jobs
    change it nobody knows: then the job has its turn among them, and it is decided when it begins."""
    unknown = length is None or length < 0 or is_changing(session, video)
    return unknown or length == length_of(session, video)
