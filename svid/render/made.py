"""What a segment was decoded with, found again, so that its frames can be had again as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from svid.api import Encoding, Job, ModelSource, Recipe, Segment
from svid.config import weights_path
from svid.errors import MadeOtherwise, ManifestError, Problem, WeightsError
from svid.plan.ground import as_asked
from svid.plan.settings import Settings
from svid.plugin.info import PluginInfo
from svid.plugin.manager import Plugins
from svid.render.checkpoint import differences
from svid.render.studio import Studio
from svid.store import models
from svid.store.lineage import placed

DECODING = ("svid_load_model", "svid_decode")
"""The hooks whose plugins decide what frames a state gives."""


@dataclass(frozen=True)
class Need:
    """A clip that a committed segment lacks: what for, and how to do without."""

    row: models.Segment
    dropped: int
    """Frames at its end that are left out."""
    where: str
    purpose: str
    hint: str

    def refused(self, found: Iterable[str]) -> MadeOtherwise:
        """The error where the segment's frames can't be had again, since `found` is not as it was."""
        message = f"expected to decode it as it was made, {self.purpose}; found that {'; '.join(found)}"
        return MadeOtherwise(Problem(f"segment {self.row.index + 1}", self.where, message, self.hint))


def decoders(plugins: Plugins) -> list[str]:
    """The plugins that serve decoding, by name."""
    return sorted(info.name for info in plugins.infos if _decodes(info))


def _decodes(info: PluginInfo) -> bool:
    return not set(DECODING).isdisjoint(info.hooks)


def as_made(studio: Studio, job: Job, need: Need, segment: Segment) -> Job:
    """The job as the decoder of a committed segment saw it: its recipe, options and weights, whatever `job` asks for.
    Raises MadeOtherwise where they are not there any more."""
    asked, env = need.row.ask["plugins"], need.row.env
    settings = _settings(studio, job, need.row)
    try:
        written = settings.options | {name: part["options"] for name, part in asked.items() if "options" in part}
        options = studio.options({name: one for name, one in written.items() if name in job.options})
    except ManifestError as error:
        raise need.refused(map(str, error.problems)) from error
    recipe = studio.recipes.get(settings.recipe)
    if recipe is None:
        raise need.refused([f"the recipe {settings.recipe} is gone"])
    then = replace(
        job,
        recipe=recipe,
        model=_model(studio, job, recipe, settings, need),
        fps=settings.fps,
        encoding=Encoding(settings.codec, settings.quality),
        options=options,
    )
    now = studio.plugins.ask(then, segment)
    gone = {*asked} & {*env.get("decoders", asked)} - {info.name for info in studio.plugins.infos}
    names = {*decoders(studio.plugins), *gone}
    old, new = ({f"plugin {name}": part[name] for name in names & part.keys()} for part in (asked, now))
    if changed := differences(old, new):
        raise need.refused(changed)
    return then


def _settings(studio: Studio, job: Job, row: models.Segment) -> Settings:
    with studio.store.read() as session:
        video = session.get_one(models.Video, job.video)
        try:
            return as_asked(session, video, [row], studio.config, studio.recipes)[0].settings
        except ManifestError:  # of an older version; what held after it is the same, unless it was another take
            return Settings.model_validate(placed(session, video, row)[0].settings)


def _model(studio: Studio, job: Job, recipe: Recipe, settings: Settings, need: Need) -> ModelSource:
    """A model of svid.toml that decodes as the segment's own did. The job's own comes first, because it may be warm."""
    ask = need.row.ask
    wanted = _decoder_files(studio.plugins, ask["weights"], ask["plugins"])
    for name in dict.fromkeys((job.model.name, settings.model, *studio.config.models)):
        if name in studio.config.models and not any(_unlike(studio, name, wanted)):
            try:
                return replace(studio.source(name, recipe), dtype=ask["dtype"])
            except WeightsError:  # the same decoder in a model of another kind, or in a folder that lacks files
                continue
    if settings.model not in studio.config.models:
        raise need.refused([f"svid.toml has no model {settings.model}, nor another with its weights"])
    raise need.refused(_unlike(studio, settings.model, wanted))


def _decoder_files(plugins: Plugins, weights: Mapping[str, str], asked: Mapping[str, Any]) -> dict[str, str]:
    """Those of a model's files that decide what is decoded: the VAE's, as long as only svid's own plugins decode."""
    own = all(info.kind == "bundled" for info in plugins.infos if info.name in asked and _decodes(info))
    vae = {file: sha256 for file, sha256 in weights.items() if file.startswith("vae/")}
    return vae if own and vae else dict(weights)


def _unlike(studio: Studio, name: str, wanted: Mapping[str, str]) -> Iterator[str]:
    """What of these files a model has otherwise."""
    path = weights_path(studio.config.models[name].path, studio.home.root)
    for file, sha256 in wanted.items():
        found = studio.file_digest(path / file) if (path / file).is_file() else ""
        if found != sha256:
            yield f"{file} of {name} was {sha256[:12]}, is {found[:12] or 'gone'}"
