"""Frames that a video has shown stay what they were, whatever it is gone on with: they are decoded with what they were
made with, or taken from a lossless clip, or the job is refused before anything is rendered."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sqlalchemy import select

from svid.cli.open import desk_of
from svid.config import EMBEDDED
from svid.errors import Cancelled, MadeOtherwise
from svid.render.watch import Watch
from svid.store import queue
from svid.store.models import Clip
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import frames_of, new, value

TAIL = {
    "recipe": "i2v",
    "model": "first",
    "conditioning": {"motion_frames": 3, "seam": "tail"},
    "encode": {"quality": 0},
}
"""Segments whose last three frames are left out when others follow. Without loss in what the encoder gets, so that a
clip of fewer frames has the same ones, but not for who asks for what was decoded."""
TINT = """
from svid import hookimpl

CACHE_VERSION = 1
{more}

@hookimpl(wrapper=True)
def svid_decode(job, segment):
    frames = yield
    return ({change} for one in frames)
"""

MARK = """
from svid import hookimpl
from svid.api import Clip
from svid.media.clips import write_clip

@hookimpl
def svid_encode(job, frames, out):
    return Clip(out, write_clip((255 - one for one in frames), out, job.fps, job.encoding))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A home with two models, which decode otherwise, and otherwise than the one that comes with svid."""
    home = quick_home(tmp_path / "home")
    for name, by in (("first", 0.1), ("second", 0.2)):
        shutil.copytree(EMBEDDED / "wan22-mini", home.root / "models" / name)
        changed(home.root / "models" / name, by)
    text = "".join(f'[models.{name}]\npath = "models/{name}"\n\n' for name in ("first", "second"))
    (home.root / "svid.toml").write_text((home.root / "svid.toml").read_text() + text)
    return reopened(home)


def reopened(bench: Any) -> Workbench:
    """The home as another process opens it."""
    home = getattr(bench, "home", bench)
    return Workbench(home, desk_of(home))


def changed(model: Path, by: float = 0.3) -> None:
    """Other weights in the decoder of the model in a folder."""
    (file,) = (model / "vae").glob("*.safetensors")
    tensors = load_file(file)
    tensors["decoder.conv_out.bias"] = tensors["decoder.conv_out.bias"] + by
    save_file(tensors, file, metadata={"format": "pt"})


def plugin(bench: Workbench, change: str, more: str = "") -> None:
    (bench.home.root / "plugins").mkdir(exist_ok=True)
    (bench.home.root / "plugins/tint.py").write_text(TINT.format(change=change, more=more))


def shown(video: dict[str, Any]) -> torch.Tensor:
    return frames_of(video["artifacts"][-1]["path"])


def extended(bench: Workbench, name: str, **more: Any) -> torch.Tensor:
    return shown(bench.run({"extend": name, "prompts": ["three"], **more}))


def refused(bench: Workbench, name: str, **more: Any) -> str:
    """What an extension is refused with, before it renders anything."""
    count = value(bench.home, "SELECT count(*) FROM segment")
    with pytest.raises(MadeOtherwise) as caught:
        bench.run({"extend": name, "prompts": ["three"], **more})
    assert value(bench.home, "SELECT count(*) FROM segment") == count
    return str(caught.value)


def test_another_model_decodes_only_what_is_new(bench: Workbench) -> None:
    before = shown(bench.run(new("sea", "one", "two", **TAIL)))
    after = extended(bench, "sea", model="second")
    assert torch.equal(after[:12], before[:12])
    assert not torch.equal(after[12:15], before[12:])


def test_weights_that_are_other_ones_now_are_refused_and_the_hint_leads_on(bench: Workbench) -> None:
    before = shown(bench.run(new("sea", "one", "two", **TAIL)))
    changed(bench.home.root / "models/first")
    bench = reopened(bench)
    said = refused(bench, "sea")
    assert said.startswith(
        "segment 2: conditioning.seam: expected to decode it as it was made, to leave out its last 3"
    )
    assert "frames, which segment 3 shows in their place; found that vae/diffusion_pytorch_model.safetensors of" in said
    assert "first was " in said
    assert '[conditioning] seam = "head" leaves it as it is' in said
    after = extended(bench, "sea", conditioning={"motion_frames": 3, "seam": "head"})
    assert torch.equal(after[:15], before)


def test_weights_that_are_found_under_another_name_will_do(bench: Workbench) -> None:
    before, models = shown(bench.run(new("named", "one", "two", **TAIL))), bench.home.root / "models"
    shutil.rmtree(models / "second")
    shutil.copytree(models / "first", models / "second")
    changed(models / "first")
    assert torch.equal(extended(reopened(bench), "named")[:12], before[:12])


def test_weights_that_decode_nothing_may_be_other_ones(bench: Workbench) -> None:
    bench.run(new("finer", "one", "two", **TAIL))
    file = next((bench.home.root / "models/first/transformer").glob("*.safetensors"))
    tensors = load_file(file)
    save_file({name: one * 1.01 for name, one in tensors.items()}, file, metadata={"format": "pt"})
    assert len(extended(reopened(bench), "finer")) == 21


def test_a_plugin_that_came_later_does_not_touch_what_was_shown(bench: Workbench) -> None:
    bench.run(new("plain", "one", "two", **TAIL))
    plugin(bench, "255 - one")
    said = refused(reopened(bench), "plain")
    assert "found that plugin tint.cache_version was None, is 1" in said


def test_a_plugin_that_is_gone_is_missed(bench: Workbench) -> None:
    plugin(bench, "255 - one")
    bench = reopened(bench)
    bench.run(new("negative", "one", "two", **TAIL))
    (bench.home.root / "plugins/tint.py").unlink()
    assert "found that plugin tint.cache_version was 1, is None" in refused(reopened(bench), "negative")


def test_a_plugin_that_decodes_nothing_may_go(bench: Workbench) -> None:
    text = "from svid import hookimpl\n\n@hookimpl(wrapper=True)\ndef svid_sample(job):\n    return (yield)\n"
    (bench.home.root / "plugins").mkdir(exist_ok=True)
    (bench.home.root / "plugins/around.py").write_text(text)
    bench = reopened(bench)
    bench.run(new("around", "one", "two", **TAIL))
    (bench.home.root / "plugins/around.py").unlink()
    assert len(extended(reopened(bench), "around")) == 21


def test_a_plugin_that_does_something_else_under_its_old_version_is_found_out(bench: Workbench) -> None:
    plugin(bench, "255 - one")
    bench = reopened(bench)
    bench.run(new("liar", "one", "two", **TAIL))
    plugin(bench, "one // 2")
    assert "its last frames are not those that it left, by" in refused(reopened(bench), "liar")


def test_who_takes_part_is_what_the_old_recipe_says(bench: Workbench) -> None:
    only = '\n\n@hookimpl\ndef svid_ask(job, segment):\n    return {} if job.recipe.name == "i2v" else None\n'
    plugin(bench, "255 - one", only)
    bench = reopened(bench)
    before = shown(bench.run(new("kept", "one", "two", **TAIL | {"model": "wan22-mini"})))
    turned = {"recipe": "svi-2.0-wan22", "conditioning": {"motion_frames": 3, "seam": "tail"}}
    assert torch.equal(extended(bench, "kept", **turned)[:12], before[:12])


def test_a_lossless_clip_has_the_frames(bench: Workbench) -> None:
    before = shown(bench.run(new("exact", "one", "two", **TAIL | {"encode": {"codec": "ffv1"}})))
    changed(bench.home.root / "models/first")
    plugin(bench, "255 - one")
    after = extended(reopened(bench), "exact")
    assert torch.equal(after[:12], before[:12])


def test_a_lossless_clip_that_an_encoder_has_changed_is_not_taken_for_the_frames(bench: Workbench) -> None:
    (bench.home.root / "plugins").mkdir(exist_ok=True)
    (bench.home.root / "plugins/mark.py").write_text(MARK)
    bench = reopened(bench)
    before = shown(bench.run(new("marked", "one", "two", **TAIL | {"encode": {"codec": "ffv1"}})))
    assert torch.equal(extended(bench, "marked")[:12], before[:12])


def test_another_encoding_of_what_can_not_be_decoded_is_refused(bench: Workbench) -> None:
    bench.run(new("coded", "one", "two", **TAIL))
    changed(bench.home.root / "models/first")
    bench = reopened(bench)
    said = refused(bench, "coded", encode={"quality": 30}, conditioning={"motion_frames": 3, "seam": "head"})
    assert said.startswith("segment 1: encode: expected to decode it as it was made, to encode it as it was not before")
    assert "keep the codec, the quality and the rate that the video has" in said


def clip_blob(bench: Workbench, video: dict[str, Any], number: int) -> Path:
    with bench.studio.store.read() as session:
        rows = session.scalars(select(Clip).where(Clip.segment_id == video["segments"][number - 1]["id"])).all()
    assert len(rows) == 1
    return bench.studio.blobs.path(rows[0].blob)


def test_encoding_what_was_shown_is_told_and_can_be_stopped(bench: Workbench) -> None:
    bench.run(new("coded", "one", "two", recipe="i2v", model="first"))
    told: list[str] = []

    def hear(event: Mapping[str, Any]) -> None:
        told.append(f"{event['event']} {event['index']}" if event["event"] == "encoding" else event["event"])
        watch.stop_after_segment = told[-1] == "encoding 0"

    watch = Watch(hear)
    job = bench.accept({"extend": "coded", "prompts": ["three"], "encode": {"quality": 30}})
    with pytest.raises(Cancelled):
        bench.work(watch)
    assert told == ["job", "encoding 0"]
    queue.release(bench.store, job.id, 1, "stopped", "")
    told.clear()
    bench.work(watch)
    assert (told[:2], told[-1]) == (["job", "encoding 1"], "joining"), "the clip of the first one was kept"


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_clip_that_is_not_whole_any_more_is_encoded_again(bench: Workbench, how: str) -> None:
    video = bench.run(new("worn", "one", "two", recipe="i2v", model="first", encode={"quality": 0}))
    before, file = shown(video), clip_blob(bench, video, 1)
    data = file.read_bytes()
    file.chmod(0o644)
    file.unlink() if how == "gone" else file.write_bytes(data[:-9] + bytes(9))
    bench = reopened(bench)
    after = extended(bench, "worn")
    assert torch.equal(after[: len(before)], before)
    assert bench.studio.blobs.verified(clip_blob(bench, video, 1).name).is_file()


def test_a_clip_that_is_gone_and_can_not_be_decoded_as_it_was_is_named(bench: Workbench) -> None:
    video = bench.run(new("lost", "one", "two", recipe="i2v", model="first"))
    file = clip_blob(bench, video, 1)
    file.unlink()
    changed(bench.home.root / "models/first")
    said = refused(reopened(bench), "lost")
    assert said.startswith("segment 1: encode: expected to decode it as it was made, as for its clip, db/blobs/")
    assert f"put a good copy of db/blobs/{file.parent.name}/{file.name} there" in said


SHADE = """
from pydantic import BaseModel

from svid import hookimpl


class Options(BaseModel):
    shade: int = 0


@hookimpl
def svid_options():
    return Options


@hookimpl(wrapper=True)
def svid_encode(job, frames):
    return (yield)
"""


def test_clips_that_an_encoder_was_asked_for_otherwise_are_not_those(bench: Workbench) -> None:
    (bench.home.root / "plugins").mkdir(exist_ok=True)
    (bench.home.root / "plugins/shade.py").write_text(SHADE)
    bench = reopened(bench)
    video = bench.run(new("shaded", "one", recipe="i2v", model="first", options={"shade": {"shade": 1}}))

    def encodings() -> int:
        where = f"WHERE segment_id = '{video['segments'][0]['id']}'"
        return int(value(bench.home, f"SELECT count(*) FROM clip {where}"))

    extended(bench, "shaded")
    assert encodings() == 1, "an extension has the options of the video"
    extended(bench, "shaded", options={"shade": {"shade": 2}})
    assert encodings() == 2
