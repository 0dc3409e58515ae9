"""What rendering stands on: the home, its store, the plugins, and the models that stay warm between jobs."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svid.api import Cut, Encoding, Expert, Footage, Job, Lora, ModelSource, Picture, Recipe, Sampling, Segment, TailOf
from svid.canonical import digest
from svid.config import weights_path
from svid.errors import NoStage, Problem, WeightsError
from svid.home import Home
from svid.layout import seams
from svid.manifest.read import build_options
from svid.memory import ANY, first_plan
from svid.plan.build import CutPlan, Planned
from svid.plan.settings import ClipRef, PictureRef, Settings
from svid.render import answers
from svid.render.checkpoint import Pace
from svid.render.env import choose_device, choose_dtype
from svid.render.loras import HeldLoras
from svid.render.weights import Print, changed, fingerprint
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.files import sha256_of
from svid.store.models import Asset, FileDigest
from svid.store.receipt import Receipts
from svid.store.snapshots import Snapshots

if TYPE_CHECKING:
    from svid.plugin.manager import Plugins


class Studio:
    """Turns plans into what stages see, and keeps the model of the last job warm."""

    def __init__(self, home: Home, store: Store, plugins: Plugins) -> None:
        self.home = home
        self.config = home.config
        self.store = store
        self.blobs = Blobs(home.blobs, home.tmp)
        self.snapshots = Snapshots(home.snapshots, home.tmp)
        self.receipts = Receipts(home.receipts, home.tmp)
        self.pace = Pace(home.config.render.snapshot_seconds)
        self.plugins = plugins
        self.recipes: dict[str, Recipe] = plugins.recipes()
        self.device, self.device_reason = choose_device(self.config.render.device)
        self.dtype, self.dtype_reason = choose_dtype(self.config.render.dtype, self.device)
        self.plans: Mapping[str, str] = {}
        """The memory plans of models, by name, that are not placed as svid.toml says."""
        self.loras = HeldLoras()
        self._warm: tuple[str, Any, Print] | None = None

    def load(self, job: Job, segment: Segment) -> Any:
        """The model of a job: the warm one where it was loaded alike, else loaded in its place."""
        model, loading = job.model, self.plugins.loading(job, segment)
        key = digest({"digests": dict(model.digests), "dtype": model.dtype, "memory": model.memory, "loading": loading})
        if self._warm is None or self._warm[0] != key:
            self.loras.release()
            self._warm = None  # let go of the old one first: two of them may not fit
            gc.collect()  # hooks on a model's blocks point back at it
            made = self.plugins.call("svid_load_model", job, segment, check=answers.model, job=job, device=self.device)
            with self.plugins.blame("svid_load_model"):
                self._warm = (key, made, fingerprint(made))
        return self._warm[1]

    def settle(self) -> list[str]:
        """After a job: restore the weights, and let go of a model whose weights are not those that were loaded.
        Returns the names of the parameters that are not. Raises StageError where a plugin fails to restore them."""
        try:
            self.loras.release()
        except BaseException:
            self._warm = None  # nobody knows what its weights are
            raise
        names = changed(self._warm[2], fingerprint(self._warm[1])) if self._warm else []
        if names:
            self._warm = None
        return names

    def file_digest(self, file: Path) -> str:
        """The sha256 of a weights file, computed once as long as it stays the same file."""
        info = file.stat()
        signature = f"{info.st_size} {info.st_mtime_ns} {info.st_ino}"
        with self.store.read() as session:
            known = session.get(FileDigest, str(file))
            if known is not None and known.signature == signature:
                return known.sha256
        try:
            found = sha256_of(file)
        except OSError as error:
            raise WeightsError(Problem(str(file), "", f"can't be read: {error.strerror}")) from error
        with self.store.write() as session:
            session.merge(FileDigest(path=str(file), signature=signature, sha256=found))
        return found

    def job(self, id_: str, name: str, video: str, settings: Settings) -> Job:
        """The job as stages see it, under these settings."""
        recipe = self.recipes.get(settings.recipe)
        if recipe is None:
            raise NoStage(Problem("plugins", settings.recipe, "no plugin brings this recipe any more"))
        return Job(
            id=id_,
            name=name,
            video=video,
            recipe=recipe,
            model=self.source(settings.model, recipe),
            fps=settings.fps,
            encoding=Encoding(settings.codec, settings.quality),
            options=self.options(settings.options),
        )

    def options(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """Every plugin's options, its defaults where nothing is written."""
        return dict(build_options(written, self.plugins.option_models()))

    def source(self, name: str, recipe: Recipe) -> ModelSource:
        """The weights of a model of svid.toml, for a recipe. Raises WeightsError."""
        from svid.wan.folder import check_base, weights_files

        if name not in self.config.models:
            raise WeightsError(Problem("svid.toml", f"models.{name}", "the entry is gone"))
        path = weights_path(self.config.models[name].path, self.home.root)
        files = weights_files(path)
        check_base(path, recipe)  # an extension of what was in the queue is planned here first
        if not files:
            raise WeightsError(Problem(str(path), "", "expected a model folder in diffusers layout"))
        digests = {file.relative_to(path).as_posix(): self.file_digest(file) for file in files}
        memory = self.plans.get(name, self.plans.get(ANY, first_plan(self.config.render.memory)))
        return ModelSource(name, path, digests, self.dtype, memory)

    def segment(self, planned: Planned, recipe: Recipe, anchor: Picture) -> Segment:
        """A planned segment as stages see it, with the anchor that is known by now."""
        settings = planned.settings
        sampling = settings.sampling
        seam = seams(settings.layout, first=planned.index == 0, cut=planned.cut is not None)
        return Segment(
            index=planned.index,
            prompt=settings.prompt,
            negative=settings.negative,
            seed=planned.seed,
            frames=settings.frames,
            width=settings.width,
            height=settings.height,
            anchor=anchor,
            image=self._picture(planned.image),
            end_image=self._picture(planned.end),
            layout=settings.layout,
            overlap=seam.overlap,
            parent_trim=seam.parent_trim,
            blend=seam.blend,
            stream=settings.stream,
            sampling=Sampling(
                sampler=sampling.sampler,
                steps=sampling.steps,
                shift=sampling.shift,
                guidance={"high": sampling.guidance_high, "low": sampling.guidance_low},
                boundary=sampling.boundary,
                sigmas=sampling.sigmas,
            ),
            loras=tuple(
                self._lora(settings, lora.name, {expert: lora.of(expert) for expert in recipe.experts}, lora.steps)
                for lora in planned.loras
            ),
            cut=self._cut(settings, planned.cut) if planned.cut else None,
        )

    def footage(self, planned: Planned, clip: ClipRef) -> Segment:
        """A clip as the first segment of a chain, which nothing is asked of but to be read."""
        settings, sampling = planned.settings, planned.settings.sampling
        with self.store.read() as session:
            asset = session.get(Asset, clip.sha256)
        name = asset.source if asset is not None else ""
        return Segment(
            index=planned.index,
            prompt="",
            negative="",
            seed=0,
            frames=clip.frames,
            width=settings.width,
            height=settings.height,
            anchor=TailOf(planned.index),
            image=None,
            sampling=Sampling(sampling.sampler, 0, sampling.shift, {"high": 1.0, "low": 1.0}, sampling.boundary),
            clip=Footage(self.blobs.verified(clip.sha256), clip.sha256, settings.frames, name),
        )

    def _cut(self, settings: Settings, cut: CutPlan) -> Cut:
        return Cut(self._lora(settings, cut.lora, {"high": cut.strength}), cut.strength)

    def _lora(
        self,
        settings: Settings,
        name: str,
        strength: Mapping[Expert, float],
        steps: tuple[int, int] | None = None,
    ) -> Lora:
        found = self.config.lora_files(settings.model, name, strength, self.home.root)
        files: dict[Expert, Path] = {expert: found[expert] for expert in strength if expert in found}
        digests = {expert: self.file_digest(file) for expert, file in files.items()}
        return Lora(name, files, digests, {expert: strength[expert] for expert in files}, steps)

    def _picture(self, ref: PictureRef | None) -> Picture | None:
        return self.picture(ref.sha256, ref.pixels) if ref else None

    def picture(self, sha256: str, pixels: str) -> Picture:
        """A stored picture, its bytes checked."""
        return Picture(self.blobs.verified(sha256), sha256, pixels)

    def frame_as_picture(self, tail: str) -> Picture:
        """The last frame of a segment as a picture, so that it can be an anchor."""
        from PIL import Image

        from svid.media.images import pixel_digest, write_png

        frame = self.blobs.get_tensors(tail)["tail"][-1]
        pixels = pixel_digest(Image.fromarray(frame.numpy()))
        file = self.blobs.scratch(".png")  # swept when this process has ended
        write_png(frame, file)
        return Picture(file, hashlib.sha256(file.read_bytes()).hexdigest(), pixels)
