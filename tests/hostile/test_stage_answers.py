"""What stages answer with is checked where they give it: a wrong answer is told there, with the plugin's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from svid.errors import StageError
from svid.workbench import Workbench
from tests.e2e.tools import bench_in, new

WRONG = """
from dataclasses import replace
from pathlib import Path
import svid
import torch

MODE = Path(__file__).with_suffix(".mode")

def how(stage):
    mode = MODE.read_text() if MODE.exists() else ""
    return mode.partition(" ")[2] if mode.partition(" ")[0] == stage else ""

@svid.hookimpl(wrapper=True)
def svid_load_model():
    answer = yield
    return {"text": "a model", "generator": (one for one in ()), "class": dict}.get(how("load_model"), answer)

@svid.hookimpl(wrapper=True)
def svid_build_conditioning():
    answer = yield
    y = answer.y
    return {
        "tensor": y,
        "number": 3,
        "channels": replace(answer, y=y[:, 4:]),
        "size": replace(answer, y=y[..., :1]),
        "dtype": replace(answer, y=y.int()),
        "list": replace(answer, y=y.tolist()),
        "nan": replace(answer, y=y * float("nan")),
        "picture": replace(answer, image_embeds=torch.zeros(3)),
    }.get(how("build_conditioning"), answer)

@svid.hookimpl(wrapper=True)
def svid_apply_loras():
    answer = yield
    plain = {"": answer, "report": {}, "generator": (one for one in ())}
    return plain.get(how("apply_loras"), Other(answer))

class Other:
    def __init__(self, inner):
        self.inner = inner

    def __enter__(self):
        applied = self.inner.__enter__()
        return {
            "nothing": None,
            "a number": replace(applied, begin_step=5),
            "no report": replace(applied, report=[1]),
            "not json": replace(applied, report={"high": torch.zeros(1)}),
        }[how("apply_loras")]

    def __exit__(self, *error):
        return self.inner.__exit__(*error)

@svid.hookimpl(wrapper=True)
def svid_sample():
    state = yield
    latents = state["latents"]
    if how("sample") == "in place":
        state["latents"] = latents.half()
    return {
        "tensor": latents,
        "list": {"latents": latents.tolist()},
        "empty": {},
        "keys": {1: latents},
        "width": {"latents": latents[..., :2]},
        "channels": {"latents": latents[:, :8]},
        "dtype": {"latents": latents.double()},
        "nan": {"latents": latents / 0},
        "meta": {"latents": latents.to("meta")},
        "sparse": {"latents": latents.to_sparse()},
        "others": {"latents": latents, "more": 3},
        "reserved": {"latents": latents, "__metadata__": latents},
        "unwritable": {"latents": latents, "half " + chr(0xD800): latents},
        "nameless": {"latents": latents, "": latents},
        "complex": {"latents": latents, "phase": latents.to(torch.complex128)},
        "float8": {"latents": latents, "small": latents.to(torch.float8_e4m3fn)},
    }.get(how("sample"), state)

@svid.hookimpl(wrapper=True)
def svid_decode():
    frames = yield
    plain = {"number": 4, "mapping": {"frames": 1}}
    return plain.get(how("decode"), (changed(some) for some in frames))

def changed(some):
    return {
        "dtype": some.float() / 255,
        "size": some[:, :, :16],
        "channels": some[..., :1],
        "one": some[0],
        "array": some.numpy(),
        "few": some[:1],
        "many": some.repeat(9, 1, 1, 1),
    }.get(how("decode"), some)

@svid.hookimpl(wrapper=True)
def svid_encode(out):
    made = yield
    own = Path(__file__).with_suffix(".mp4")
    if how("encode") == "elsewhere":
        own.write_bytes(out.read_bytes())
    return {"text": str(made.path), "elsewhere": replace(made, path=own)}.get(how("encode"), made)

@svid.hookimpl(wrapper=True)
def svid_join(out, clips):
    made = yield
    if how("join") == "byte":
        out.write_bytes(b"1")
    elif how("join") == "gone":
        out.unlink()
    elif how("join") == "other clip":
        out.write_bytes(clips[0].path.read_bytes())
    return {
        "text": str(made.path),
        "elsewhere": replace(made, path=Path("x.mp4")),
        "count": replace(made, frames=made.frames + 1),
        "kind": replace(made, frames="9"),
        "fps": replace(made, fps=0),
        "codec": replace(made, codec=None),
    }.get(how("join"), made)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bench_in(tmp_path_factory.mktemp("answers") / "home", wrong=WRONG)


def told(bench: Workbench, mode: str, *, prompts: int = 1) -> str:
    """What a job fails with while the plugin answers in a wrong way."""
    switch = Path(bench.home.plugins / "wrong.mode")
    switch.write_text(mode)
    if mode.startswith("load_model"):
        bench.studio._warm = None
    try:
        with pytest.raises(StageError) as caught:
            bench.run(new(mode, *["fine"] * prompts, reuse=False))
    finally:
        switch.unlink()
    (problem,) = caught.value.problems
    assert problem.file == "plugins/wrong.py"
    assert problem.where == f"svid_{mode.partition(' ')[0]}"
    assert problem.message.startswith("plugin wrong: ")
    return problem.message.removeprefix("plugin wrong: ")


MISTAKES = {
    "load_model text": "expected a model, found a str",
    "load_model generator": "expected a model, found a generator",
    "load_model class": "expected a model, found the class dict",
    "build_conditioning tensor": "expected a svid.api.Conditioning, found a Tensor",
    "build_conditioning number": "expected a svid.api.Conditioning, found a int",
    "build_conditioning channels": "y: expected floating point [1, 20, 3, 4, 4], found float32 [1, 16, 3, 4, 4]",
    "build_conditioning size": "y: expected floating point [1, 20, 3, 4, 4], found float32 [1, 20, 3, 4, 1]",
    "build_conditioning dtype": "y: expected floating point [1, 20, 3, 4, 4], found int32 [1, 20, 3, 4, 4]",
    "build_conditioning list": "y: expected a tensor, found a list",
    "build_conditioning nan": "y: expected finite numbers, found NaN or infinity",
    "build_conditioning picture": "image_embeds: expected floating point [1, n, D], found float32 [3]",
    "apply_loras report": "expected a context manager, found a dict",
    "apply_loras generator": "expected a context manager, found a generator",
    "apply_loras nothing": "expected a context of svid.api.Applied, found one of NoneType",
    "apply_loras a number": "begin_step: expected a function or None, found a int",
    "apply_loras no report": "report: expected a mapping, found a list",
    "apply_loras not json": "report: expected plain JSON data",
    "sample tensor": "expected a mapping of tensors, found a Tensor",
    "sample list": "latents: expected a tensor, found a list",
    "sample empty": "expected a mapping of tensors, found an empty one",
    "sample keys": "expected names as keys, found 1",
    "sample width": "latents: expected float32 [1, 16, 3, 4, 4], found float32 [1, 16, 3, 4, 2]",
    "sample channels": "latents: expected float32 [1, 16, 3, 4, 4], found float32 [1, 8, 3, 4, 4]",
    "sample dtype": "latents: expected float32 [1, 16, 3, 4, 4], found float64 [1, 16, 3, 4, 4]",
    "sample in place": "latents: expected float32 [1, 16, 3, 4, 4], found float16 [1, 16, 3, 4, 4]",
    "sample nan": "latents: expected finite numbers, found NaN or infinity",
    "sample meta": "latents: expected a tensor with its values, found one on the device meta",
    "sample sparse": "latents: expected a dense tensor, found one in the layout sparse_coo",
    "sample others": "more: expected a tensor, found a int",
    "sample reserved": "expected names as keys, found '__metadata__'",
    "sample unwritable": "expected names as keys, found 'half \\ud800'",
    "sample nameless": "expected names as keys, found ''",
    "sample complex": "phase: expected one of the dtypes float32, float16, bfloat16, float64, uint8,",
    "sample float8": "small: expected one of the dtypes float32, float16, bfloat16, float64, uint8,",
    "decode number": "expected an iterator of frames, found a int",
    "decode mapping": "expected an iterator of frames, found a dict",
    "decode dtype": "expected frames of uint8 [n, 32, 32, 3], found float32 [1, 32, 32, 3]",
    "decode size": "expected frames of uint8 [n, 32, 32, 3], found uint8 [1, 32, 16, 3]",
    "decode channels": "expected frames of uint8 [n, 32, 32, 3], found uint8 [1, 32, 32, 1]",
    "decode one": "expected frames of uint8 [n, 32, 32, 3], found uint8 [32, 32, 3]",
    "decode array": "expected frames of uint8 [n, 32, 32, 3], found a ndarray",
    "decode few": "expected 9 frames, found 3",
    "decode many": "expected 9 frames, found more",
    "encode text": "expected a svid.api.Clip, found a str",
    "encode elsewhere": "path: expected the one that it was given, found",
    "join text": "expected a svid.api.Artifact, found a str",
    "join byte": "the file: expected a whole MP4, MOV, MKV or WebM video",
    "join gone": "the file: expected a video file, found none",
    "join elsewhere": "path: expected the one that it was given, found x.mp4",
    "join count": "frames: expected 9, found 10",
    "join kind": "frames: expected 9, found '9'",
    "join fps": "fps: expected a number above 0, found 0",
    "join codec": "codec: expected a name, found None",
}


@pytest.mark.parametrize("mode", MISTAKES)
def test_a_wrong_answer_is_told_where_it_is_given(bench: Any, mode: str) -> None:
    assert re.sub(r"^segment 1: ", "", told(bench, mode)).startswith(MISTAKES[mode])


def test_a_file_of_a_plugin_stays_its_own(bench: Any) -> None:
    assert told(bench, "encode elsewhere").endswith("wrong.mp4")
    assert Path(bench.home.plugins / "wrong.mp4").read_bytes()


def test_a_file_of_too_few_frames_is_no_video(bench: Any) -> None:
    assert told(bench, "join other clip", prompts=2) == "the file: expected 13 frames after joining, found 9"
