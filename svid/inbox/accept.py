"""From a claimed file to a job, or to an answer that says what is wrong with it."""

from __future__ import annotations

import hashlib
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
from svid.errors import ManifestError, MediaError, NotFound, Problem, SvidError, UnknownVideo
from svid.home import Home
from svid.inbox.claim import Claimed, read_quiet
from svid.inbox.pictures import PictureStore, named_pictures
from svid.inbox.scan import LARGEST
from svid.manifest.model import Manifest
from svid.manifest.read import Known, parse, validate
from svid.plan.build import Parent, build_plan, chosen
from svid.plan.settings import PictureRef, Settings
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.lineage import Reference, resolve, settings_after
from svid.store.models import Job, Segment, Video

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins


@dataclass(frozen=True)
class Request:
    """A manifest that was understood: what it asks for and what it stands on."""

    file: str
    text: str
    manifest: Manifest
    pictures: Mapping[str, PictureRef]
    base: Reference | None

    @property
    def digest(self) -> str:
        """The same for the same text and the same pictures, in any home."""
        return digest({"text": self.text, "pictures": {at: ref.sha256 for at, ref in self.pictures.items()}})


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
        self.roots = [home.root / root for root in config.media.roots]
        self.known = known_names(home, self.recipes)

    def understand(self, data: bytes, name: str, folder: Path) -> Request:
        """Raises Refused or NotFound with everything that is wrong, as far as it can be told before rendering."""
        manifest = validate(parse(data, Path(name).suffix.lower(), name), name, self.options, self.known)
        problems: list[Problem] = []
        pictures: dict[str, PictureRef] = {}
        for place, written in named_pictures(manifest):
            try:
                pictures[place] = self.pictures.take(written, folder, self.roots)
            except MediaError as error:
                problems += [
                    Problem(name, place, f"{problem.file}: {problem.message}", problem.hint)
                    for problem in error.problems
                ]
        base, refusal = None, ManifestError
        try:
            base, parent = self._base(manifest)
            ready = manifest.image is not None or parent is not None
            if ready and not problems:
                self._check_model(*chosen(manifest, self.home.config, parent))
                build_plan(manifest, self.home.config, self.recipes, pictures, parent, name)
        except NotFound as error:
            place, refusal = "extend" if manifest.extend else "branch", UnknownVideo
            problems += [
                Problem(name, place, f"{problem.file!r}: {problem.message}", problem.hint) for problem in error.problems
            ]
        except SvidError as error:
            problems += error.problems
        if problems:
            raise refusal(problems)
        return Request(name, data.decode("utf-8-sig"), manifest, pictures, base)

    def _base(self, manifest: Manifest) -> tuple[Reference | None, Parent | None]:
        """The video that is extended or branched, and what of it is known already (it may still be in the queue)."""
        written = manifest.extend or manifest.branch
        if written is None:
            return None, None
        with self.store.read() as session:
            base = resolve(session, written)
            if base.video.tip_id is None:
                return base, None
            length = base.length or session.get_one(Segment, base.video.tip_id).index + 1
            settings = Settings.model_validate(settings_after(session, base.video, length - 1))
            return base, Parent(base.video.id, length, settings)

    def _check_model(self, recipe: str, model: str) -> None:
        from svid.wan.folder import check_base, read_summary

        path = weights_path(self.home.config.models[model].path, self.home.root)
        read_summary(path)
        check_base(path, self.recipes[recipe])


def known_names(home: Home, recipes: Mapping[str, Any]) -> Known:
    """The names that a manifest may use in this home."""
    from svid.media.codecs import CODECS
    from svid.wan.samplers import SAMPLERS

    config = home.config
    return Known(
        recipes=recipes.keys(), models=config.models.keys(), loras=config.lora_names(), samplers=SAMPLERS, codecs=CODECS
    )


def accept(desk: Desk, claimed: Claimed) -> Job | None:
    """Make a job of a claimed file and return it; None where the file is still being written.

    Raises ManifestError where it can't become a job.
    """
    refusal = _why_not(claimed.path)
    if refusal:
        raise ManifestError(Problem(claimed.name, "", refusal))
    data = read_quiet(claimed.path)
    if data is None:
        return None
    request = desk.understand(data, claimed.name, desk.home.inbox)
    with desk.store.write() as session:
        job = _insert(session, request, claimed)
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


def _insert(session: Session, request: Request, claimed: Claimed) -> Job:
    """Ids come from what was asked, and how often it was asked in this home, so that two homes that are asked the same
    things give the same names, and files with the names inside the same bytes."""
    earlier = select(func.count(Job.seq)).where(Job.digest == request.digest)
    occurrence = (session.scalar(earlier) or 0) + 1
    fingerprint = hashlib.sha256(f"{request.digest} {occurrence}".encode()).hexdigest()
    id_ = f"j{fingerprint[:12]}"
    video, after, length = _video(session, request, f"v{fingerprint[12:24]}")
    job = Job(
        id=id_,
        digest=request.digest,
        occurrence=occurrence,
        file=request.file,
        claimed=claimed.path.name,
        text=request.text,
        manifest=request.manifest.model_dump(mode="json"),
        pictures={place: ref.model_dump() for place, ref in request.pictures.items()},
        video_id=video,
        after=after,
        base_length=length,
        priority=request.manifest.priority,
    )
    session.add(job)
    return job


def _video(session: Session, request: Request, fresh: str) -> tuple[str, str | None, int | None]:
    """The video that grows, the one it is forked from, and how many of that one's segments are meant."""
    base, manifest = request.base, request.manifest
    name = manifest.name or (base.video.name if base else Path(request.file).stem)
    if base is None:
        session.add(Video(id=fresh, name=name))
        session.flush()
        return fresh, None, None
    video = session.get_one(Video, base.video.id)
    length = base.length
    grows = manifest.extend is not None and length is None
    if manifest.extend is not None and length is not None and video.tip_id is not None:
        # `extend = "V@3"` on a video of three segments is the video itself; on a longer one it is a branch.
        grows = session.get_one(Segment, video.tip_id).index + 1 == length
    if grows:
        return video.id, None, None
    session.add(Video(id=fresh, name=name, forked_from=video.id))
    session.flush()
    return fresh, video.id, length
