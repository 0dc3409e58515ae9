"""The stages of `plugins/` on the embedded model: a chain of both variants, end to end, without the daemon."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import svid
from svid.api import (
    EXPERTS,
    Carry,
    Cut,
    Encoding,
    Job,
    Layout,
    Lora,
    ModelSource,
    Picture,
    RecipeLora,
    Sampling,
    Segment,
    TailOf,
)
from svid.errors import LoraError, Refused, WeightsError
from svid.render.checkpoint import NoCheckpoint

EMBEDDED = Path(svid.__file__).parent / "embedded"
PLUGINS = Path(__file__).parents[2] / "plugins"
NAMES = ("wan_loader", "i2v", "svi_pro", "loras", "sampler", "decoder")
CONDITIONING = {"svi-2.0-pro": "svi_pro", "i2v": "i2v"}


def plugin(name):
    spec = importlib.util.spec_from_file_location(f"wan_plugin_{name}", PLUGINS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAGES = {name: plugin(name) for name in NAMES}


def lora(name, *experts):
    files = {expert: EMBEDDED / "wan22-mini-loras" / f"{name}_{expert}.safetensors" for expert in experts}
    return Lora(name, files, dict.fromkeys(files, ""), dict.fromkeys(files, 1.0))


def job(variant="svi-2.0-pro", path=EMBEDDED / "wan22-mini"):
    recipe = STAGES[CONDITIONING[variant]].svid_recipes()[0]
    return Job("j", "n", "v", recipe, ModelSource("m", path, {"a": "b"}, "float32"), 15, Encoding())


@pytest.fixture(scope="module")
def model():
    return STAGES["wan_loader"].svid_load_model(job(), "cpu")


@pytest.fixture
def picture(tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.png")
    return Picture(tmp_path / "a.png", "s", str(tmp_path))


def segment(work, picture, index=0, **changes):
    recipe = work.recipe
    loras = tuple(lora(needed.name, *EXPERTS) for needed in recipe.loras)
    sampling = Sampling(recipe.sampler, 4, recipe.shift, recipe.guidance.model_dump(), recipe.boundary)
    one = Segment(
        index, "a gull lands", recipe.negative, recipe.seed_stride * index, 17, 32, 32, picture,
        None if index else picture, sampling, recipe.layout, recipe.layout.overlap, loras=loras,
    )  # fmt: skip
    return replace(one, **changes)


def render(work, model, one, carry):
    """(latents, frames, report) of one segment."""
    conditioning = STAGES[CONDITIONING[work.recipe.variant]].svid_build_conditioning(work, model, one, carry)
    with STAGES["loras"].svid_apply_loras(work, model, one) as applied:
        state = STAGES["sampler"].svid_sample(work, model, one, conditioning, lambda step, steps: None, NoCheckpoint())
    frames = torch.cat(list(STAGES["decoder"].svid_decode(work, model, one, state, carry)))
    return state, frames, applied.report


def chain(work, model, picture, count=3):
    carry, out = None, []
    for index in range(count):
        state, frames, _ = render(work, model, segment(work, picture, index), carry)
        out.append((state["latents"], frames))
        carry = Carry("", state, frames[-9:])
    return out


def test_the_recipes_are_the_published_numbers():
    pro, plain = (STAGES[name].svid_recipes()[0] for name in ("svi_pro", "i2v"))
    assert (pro.steps, pro.shift, pro.boundary, pro.sampler, pro.fps) == (50, 5.0, 0.875, "euler", 15)
    assert (pro.guidance.high, pro.guidance.low, pro.layout.overlap, pro.loras) == (
        4,
        4,
        5,
        (RecipeLora(name="svi-2.0-pro"),),
    )
    assert (plain.steps, plain.shift, plain.boundary, plain.sampler, plain.fps) == (40, 5.0, 0.9, "unipc", 16)
    assert (plain.guidance.high, plain.guidance.low, plain.layout.overlap, plain.loras) == (3.5, 3.5, 1, ())
    assert {(recipe.frames, recipe.width, recipe.height) for recipe in (pro, plain)} == {(81, 832, 480)}
    assert pro.negative == plain.negative != ""


@pytest.mark.parametrize("variant", CONDITIONING)
def test_a_chain_is_finite_lively_and_reproducible(variant, model, picture):
    work = job(variant)
    first, second = chain(work, model, picture), chain(work, model, picture)
    for (latents, frames), again in zip(first, second, strict=True):
        assert latents.shape == (1, 16, 5, 4, 4)
        assert latents.dtype == torch.float32
        assert latents.isfinite().all()
        assert frames.shape == (17, 32, 32, 3)
        assert frames.float().std() > 5
        assert ((frames == 0) | (frames == 255)).float().mean() < 0.2
        assert torch.equal(latents, again[0])
        assert torch.equal(frames, again[1])
    assert not torch.equal(first[0][0], first[1][0])


def test_the_anchor_is_encoded_once(model, picture, monkeypatch):
    calls, work = [], job()
    encode = type(model.vae).encode
    monkeypatch.setattr(type(model.vae), "encode", lambda *a, **k: (calls.append(1), encode(*a, **k))[1])
    chain(work, model, replace(picture, pixels="new"))
    assert len(calls) == 1
    STAGES["svi_pro"].svid_build_conditioning(work, model, segment(work, picture, width=48), None)
    assert len(calls) == 2


def test_i2v_continues_from_the_tail(model, picture):
    work = job("i2v")
    tail = torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8)
    build = STAGES["i2v"].svid_build_conditioning
    y = build(work, model, segment(work, picture, 1), Carry("", {}, tail)).y
    assert torch.equal(y, build(work, model, segment(work, picture, 1), Carry("", {}, tail[-1:])).y)
    assert not torch.equal(y, build(work, model, segment(work, picture, 1), Carry("", {}, tail[:-1])).y)
    with pytest.raises(Refused, match="expected 3 frames of the segment before, found 1"):
        build(work, model, segment(work, picture, 1, layout=Layout(motion_frames=3)), Carry("", {}, tail[:1]))
    with pytest.raises(Refused, match="expected a start image"):
        build(work, model, segment(work, picture, 0, image=None), None)


def test_pro_refuses_what_it_cannot_continue(model, picture):
    work, build = job(), STAGES["svi_pro"].svid_build_conditioning
    tail = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    with pytest.raises(Refused, match="another backend"):
        build(work, model, segment(work, picture, 1), Carry("", {"cache": tail}, tail))
    with pytest.raises(Refused, match="keep the size"):
        build(work, model, segment(work, picture, 1), Carry("", {"latents": torch.zeros(1, 16, 5, 8, 8)}, tail))
    with pytest.raises(Refused, match="expected a picture"):
        build(work, model, segment(work, TailOf(0), 1), None)


def test_the_cut_is_on_the_high_expert_only(model, picture):
    work = job()
    one = segment(work, picture, 0, cut=Cut(lora("hard-cut", "high"), 0.8))
    plain, _, _ = render(work, model, segment(work, picture, 0), None)
    cut, _, report = render(work, model, one, None)
    assert [entry["name"] for entry in report["high"]] == ["svi-2.0-pro", "hard-cut"]
    assert report["high"][1]["strength"] == 0.8
    assert [entry["name"] for entry in report["low"]] == ["svi-2.0-pro"]
    assert not torch.equal(plain["latents"], cut["latents"])
    again, _, _ = render(work, model, segment(work, picture, 0), None)
    assert torch.equal(plain["latents"], again["latents"])
    with pytest.raises(LoraError, match="high-noise expert"):
        STAGES["loras"].svid_apply_loras(work, model, replace(one, cut=Cut(lora("svi-2.0-pro", "low"), 1.0)))


def test_each_variant_takes_part_in_its_own_segments_only(picture):
    for variant in CONDITIONING:
        work = job(variant)
        one = segment(work, picture)
        asked = {name: STAGES[name].svid_ask(work, one) for name in NAMES}
        assert asked.pop(CONDITIONING[variant]) == {}
        other = next(name for name in ("i2v", "svi_pro") if name != CONDITIONING[variant])
        assert asked.pop(other) is None
        assert set(map(str, asked.values())) == {"{}"}
        assert STAGES[other].svid_build_conditioning(work, None, one, None) is None


def test_the_loader_declines_what_is_not_wan_and_refuses_what_is_broken(tmp_path, model):
    load = STAGES["wan_loader"].svid_load_model
    assert model.digests == {"a": "b"}
    (tmp_path / "other").mkdir()
    assert load(job(path=tmp_path / "other"), "cpu") is None
    with pytest.raises(WeightsError, match="found nothing"):
        load(job(path=tmp_path / "none"), "cpu")
    (tmp_path / "other/model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    with pytest.raises(WeightsError, match="other/transformer: expected a folder"):
        load(job(path=tmp_path / "other"), "cpu")


def test_the_decoder_declines_another_backends_state(model, picture):
    assert STAGES["decoder"].svid_decode(job(), model, segment(job(), picture), {"cache": torch.zeros(1)}, None) is None


def test_plugins_import_no_torch():
    """The command line lists plugins, so importing one must not take seconds."""
    code = "import runpy, sys; [runpy.run_path(p) for p in sys.argv[1:]]; sys.exit('torch' in sys.modules)"
    files = [str(PLUGINS / f"{name}.py") for name in NAMES]
    assert subprocess.run([sys.executable, "-c", code, *files], check=False).returncode == 0
