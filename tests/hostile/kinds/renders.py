"""Small manifests that are rendered, through the door that users take: what was promised must be what comes out."""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svid.errors import Refused
from svid.manifest.across import START
from tests.hostile import clips
from tests.hostile.kinds.kind import Kind
from tests.hostile.kinds.sensible import bundled, varied
from tests.hostile.mutate import crossed, scrambled

STARTS: tuple[dict[str, Any], ...] = (
    {"image": "harbour.png", "prompts": ["a boat"]},
    {"image": "harbour.png", "prompts": ["a boat", "a gull"], "frames": 13, "recipe": "svi-2.0-pro", "segments": 2},
    {"image": "gull.png", "prompts": ["a gull"], "model": "wan21-mini", "recipe": "svi-film", "frames": 9},
    {"image": "gull.png", "prompts": ["a gull"], "model": "wan21-mini", "recipe": "svi-shot", "segments": 2},
    {"clip": "film.mp4", "prompts": ["a boat"], "recipe": "i2v", "frames": 9},
    {"image": "harbour.png", "prompts": ["a"], "recipe": "svi-2.0-wan22", "segments": 2, "encode": {"codec": "ffv1"}},
)
MORE: tuple[dict[str, Any], ...] = (
    {"extend": "v", "prompts": ["the sea"]},
    {"extend": "v"},
    {"branch": "v@1", "prompts": ["fog"], "name": "in fog"},
    {"extend": "v@1", "prompts": ["rain"], "recipe": "i2v"},
)
"""What goes on from the video before: its id comes in the place of `v`."""
LATE = ("expected finite numbers", "can't be decoded")
"""All that can't be said before it is rendered: what numbers come out, and what is in the middle of a clip."""
LEAST: dict[str, Any] = {"recipe": "i2v", "width": 16, "height": 16, "frames": 5, "sample": {"steps": 1}}
TWICE = 0.1
"""Of the accepted are rendered a second time, to the same segments."""


def _render(dice: random.Random) -> bytes:
    manifests = [_changed(dice.choice(STARTS), dice)]
    if dice.random() < 0.3:
        manifests.append(_changed(dice.choice(MORE), dice))
    return json.dumps(manifests).encode()


def _again(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    manifests = json.loads(data)
    place = dice.randrange(len(manifests))
    manifests[place] = _small(crossed(manifests[place], json.loads(dice.choice(others))[0], dice))
    return json.dumps([_changed(one, dice) for one in manifests]).encode()


def _changed(manifest: Any, dice: random.Random) -> Any:
    if not isinstance(manifest, dict):
        return manifest
    start = {key: manifest[key] for key in (*START, "prompts") if key in manifest}
    for _ in range(dice.randint(1, 3)):
        manifest = varied(manifest, dice)
    if dice.random() < 0.9:  # nearly all that two starts or the other Wan's model would show is shown by the readers
        manifest = start | {key: value for key, value in manifest.items() if key in start or key not in START}
        if "image" in manifest or "clip" in manifest:
            recipe = bundled()[1].recipes().get(str(manifest.get("recipe", "i2v")))
            manifest["model"] = "wan21-mini" if recipe and recipe.base == "wan2.1-i2v" else "wan22-mini"
    if dice.random() < 0.03:
        manifest = scrambled(manifest, dice)
    return _small(manifest)


def _small(manifest: Any) -> Any:
    """The manifest with as little to do as it can have: a tenth of a second or two."""
    if not isinstance(manifest, dict):
        return manifest
    fresh = "image" in manifest or "clip" in manifest
    sized = {} if not fresh or "max_width" in manifest else {"width": 16, "height": 32}
    own = fresh or "recipe" in manifest  # an extension by the same recipe goes on with the numbers that there are
    made = {**sized, **({"frames": 9} if own else {}), **manifest}
    for key, most in (("width", 32), ("height", 32), ("max_width", 48), ("frames", 13), ("segments", 3)):
        if isinstance(made.get(key), int):
            made[key] = min(made[key], most)
    if isinstance(made.get("prompts"), list):
        made["prompts"] = made["prompts"][:3]
    sample = made.get("sample", {})
    if isinstance(sample, dict):
        made["sample"] = {**({"steps": 2} if own and "sigmas" not in sample else {}), **sample}
        if isinstance(made["sample"].get("steps"), int):
            made["sample"]["steps"] = min(made["sample"]["steps"], 2)
    return made


class _House:
    """A home, and its workbench."""

    def __init__(self) -> None:
        from tests.e2e.tools import bench_in

        self.folder = tempfile.TemporaryDirectory(prefix="svid-fuzz-")
        self.bench = bench_in(Path(self.folder.name) / "home")
        self.home = self.bench.home
        shutil.copy(self.home.root / "watch/examples/gull.png", self.home.inbox)
        clips.film(self.home.inbox / "film.mp4", frames=9)
        clips.film(self.home.inbox / "film.mkv", "ffv1", frames=6, rate=16)

    def render(self, manifest: Any, before: str = "") -> tuple[str, list[str]]:
        """Render a manifest that goes on from the video `before`, if any; returns the ids of its video and segments.

        Raises Refused; AssertionError where what was made is not what was promised.
        """
        from svid.plan.show import plan_as_dict

        if isinstance(manifest, dict):
            goes_on = {key: manifest[key] for key in ("extend", "branch") if str(manifest.get(key)).startswith("v")}
            manifest = manifest | {key: before + written[1:] for key, written in goes_on.items() if before}
        desk, data = self.bench.desk, json.dumps(manifest).encode()
        plan = plan_as_dict(desk, desk.understand(data, "job.json", self.home.inbox))
        job = self.bench.accept(manifest).id
        try:
            row = self.bench.work()
        except Refused as error:
            self._one_outcome(job, "failed")
            if not any(late in str(error) for late in LATE) and error.__cause__ is None:
                raise AssertionError("accepted, and refused when it was rendered") from error
            raise
        assert row.id == job
        self._one_outcome(job, "done")
        return row.video_id, self._check_video(row.video_id, job, plan)

    def _one_outcome(self, job: str, outcome: str) -> None:
        shown = self.bench.show(job)
        ends = [one["outcome"] for one in shown["attempts"]]
        assert (shown["state"], ends) == (outcome, [outcome]), "not one outcome"
        answers = [path for root in (self.home.done, self.home.failed) for path in root.glob(f"{job}/*.json")]
        told = {path.relative_to(self.home.root / "watch").as_posix() for path in answers}
        names = ("manifest.json", "receipt.json", "result.json" if outcome == "done" else "error.json")
        assert told == {f"{outcome}/{job}/{name}" for name in names}, "not one answer"
        assert not [*self.home.claimed.iterdir(), *self.home.inbox.glob("*.json")], "a manifest was left lying"

    def _check_video(self, video: str, job: str, plan: Mapping[str, Any]) -> list[str]:
        from svid.media.clips import exact_rate, probe, read_frames
        from svid.store.lineage import chain
        from svid.store.models import Video
        from svid.store.show import artifact_of
        from svid.store.verify import check_segment

        with self.bench.store.read() as session:
            segments = chain(session, session.get_one(Video, video).tip_id)
            made = artifact_of(session, self.home, job)
            problems = [check_segment(session, segment) for segment in segments]
            shown = [one.shown(after) for one, after in zip(segments, [*segments[1:], None], strict=True)]
        assert not any(problems), problems
        for segment in segments:
            self.bench.studio.blobs.verified(segment.latents)
            self.bench.studio.blobs.verified(segment.tail)
        assert len(segments) == plan["length"]
        new = len(plan["segments"])
        assert sum(shown[len(shown) - new :]) == plan["new_frames"], "other frames than planned"
        count, fps, width, height = probe(Path(made["path"]))
        assert count == sum(shown) == made["frames"], "the file has other frames than its segments"
        assert f"{width}x{height}" == plan["size"]
        assert abs(fps / float(exact_rate(plan["fps"])) - 1) < 1e-3, f"{fps} frames a second, not {plan['fps']}"
        sizes = [tuple(frame.shape) for frame in read_frames(Path(made["path"]))]
        assert sizes == [(height, width, 3)] * count
        return [segment.id for segment in segments]


@functools.cache
def _house() -> _House:
    return _House()


def render(manifests: Sequence[Any], beside: Mapping[str, bytes] | None = None) -> None:
    """Render manifests, each after the first going on from the one before, with files that lie beside them.

    The home is used again, unless something was wrong in it. Raises what `_House.render` raises.
    """
    house, video = _house(), ""
    try:
        for name, data in (beside or {}).items():
            (house.home.inbox / name).write_bytes(data)
        for manifest in manifests:
            video, segments = house.render(manifest, video)
            if random.Random(zlib.crc32(json.dumps(manifest).encode())).random() < TWICE and "image" in manifest:
                assert house.render({**manifest, "reuse": False})[1] == segments, "another result the second time"
    except Refused:
        raise
    except BaseException:
        _house.cache_clear()
        raise


def use(name: str, data: bytes, whole: bool = True) -> None:
    """Render a video that begins with a picture or a clip which its reader accepts, for every second one of them. It
    must be refused where not the whole of it can be decoded, and only there."""
    if zlib.crc32(data) % 2:
        return
    start = {"clip" if name.endswith(".mp4") else "image": name}
    try:
        render([{**start, "prompts": ["a"], **LEAST}], {name: data})
    except Refused as error:
        if whole:
            raise AssertionError("read, and refused when it was to be rendered") from error
    else:
        assert whole, "rendered, though not all of it can be decoded"


def _read_render(data: bytes, folder: Path) -> None:
    render(json.loads(data))


@functools.cache
def ready() -> None:
    """Have the model loaded, and what a render imports."""
    render([{"image": "harbour.png", "prompts": ["a"], **LEAST}])


KIND = Kind(_render, _read_render, _again, ready)
