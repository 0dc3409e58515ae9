"""`svid models` and `svid models inspect`: what a file is, from its header, without torch."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import svid
from svid.cli import main
from svid.cli.models import describe
from svid.errors import WeightsError
from svid.wan.lora.describe import expert_hint, ranges

from .loras import FORMATS, LOHA, LORA, ROWS, on_ffn

PACKAGE = Path(svid.__file__).parent
MINI, LORAS = PACKAGE / "embedded/wan22-mini", PACKAGE / "embedded/wan22-mini-loras"


def write(path, shapes, dtype="float16", metadata=None):
    save_file({key: np.zeros(shape, dtype) for key, shape in shapes.items()}, path, metadata)
    return path


def write_raw(path, entries):
    """A file of zeros whose header says whatever `entries` (key: dtype, shape, bytes) say: numpy lacks fp8 and bf16."""
    header, at = {}, 0
    for key, (dtype, shape, nbytes) in entries.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    return path


def say(*arguments, home=None):
    return CliRunner().invoke(main, [*(["--home", str(home)] if home else []), "models", *map(str, arguments)])


def transformer(channels=36, image=False, layers=2, prefix="", patch=(1, 2, 2)):
    shapes = {"patch_embedding.weight": (8, channels, *patch), "head.head.weight": (64, 8)}
    for block in range(layers):
        shapes[f"blocks.{block}.self_attn.q.weight"] = (8, 8)
        if image:
            shapes[f"blocks.{block}.cross_attn.k_img.weight"] = (8, 8)
    return {prefix + key: shape for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (transformer(), "Wan 2.2 I2V A14B"),
        (transformer(prefix="model.diffusion_model."), "Wan 2.2 I2V A14B"),
        (transformer(image=True), "Wan 2.1 I2V"),
        (transformer(16), "Wan T2V"),
        (transformer(48), "Wan 2.2 TI2V 5B"),
        (transformer(52), "52 input channels, unknown"),
        (transformer(patch=(1, 4, 4)), "patches of [1, 4, 4]"),
        (transformer() | {"vace_blocks.0.after_proj.weight": (2, 2)}, "VACE"),
        ({"blocks.7.self_attn.q.weight": (8, 8)}, "part of a Wan transformer"),
    ],
)
def test_transformers(tmp_path, shapes, words):
    found = describe(write(tmp_path / "wan_high_noise_14B.safetensors", shapes))
    assert found["kind"] == "transformer"
    assert words in found["model"]
    assert found["dim"] == 8
    assert found["expert_hint"] == "high"
    assert found["whole"] == ("blocks.7.self_attn.q.weight" not in shapes)
    assert found["dtypes"] == {"F16": len(shapes)}


def test_fp8_is_noted(tmp_path):
    entries = {key: ("F8_E4M3", list(shape), int(np.prod(shape))) for key, shape in transformer().items()}
    assert describe(write_raw(tmp_path / "a.safetensors", entries))["quantized"] == "F8_E4M3, not scaled"
    entries["blocks.0.self_attn.q.scale_weight"] = ("F32", [], 4)
    assert describe(write_raw(tmp_path / "a.safetensors", entries))["quantized"] == "F8_E4M3, scaled"
    assert "quantized: F8_E4M3, scaled" in say("inspect", tmp_path / "a.safetensors").stdout


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (MINI / "transformer/diffusion_pytorch_model.safetensors",
         {"kind": "transformer", "model": "Wan 2.2 I2V A14B, one of its two experts", "keys": "diffusers", "layers": 6,
          "dim": 128, "in_channels": 36, "image_branch": False, "whole": True}),
        (MINI / "vae/diffusion_pytorch_model.safetensors",
         {"kind": "vae", "model": "the VAE of Wan 2.1 and of Wan 2.2 A14B", "keys": "diffusers", "z_dim": 16}),
        (MINI / "text_encoder/model.safetensors",
         {"kind": "text-encoder", "model": "umT5", "keys": "transformers", "dim": 64, "layers": 2}),
        (LORAS / "hard-cut_high.safetensors",
         {"kind": "lora", "formats": ["ComfyUI, Kijai or lightx2v (diffusion_model.)"], "methods": ["LoRA"],
          "ranks": [6], "alphas": None, "modules": 60, "blocks": "0-5", "image_keys": 0, "unknown_keys": [],
          "expert_hint": "high"}),
        (MINI, {"kind": "folder", "dim": 128, "layers": 6}),
    ],
)  # fmt: skip
def test_what_svid_brings_along(file, expected):
    found = describe(file)
    assert {key: found[key] for key in expected} == expected
    assert found["bytes"] > 0
    printed = say("inspect", file)
    assert printed.exit_code == 0
    assert printed.stdout.startswith(f"{file.name}: ")
    assert json.loads(say("inspect", file, "--json").stdout) == found


def test_the_official_names_of_the_vae_and_the_text_encoder(tmp_path):
    vae = {"conv2.weight": (16, 16, 1, 1, 1), "decoder.conv1.weight": (8, 16, 3, 3, 3)}
    assert describe(write(tmp_path / "a.safetensors", vae))["keys"] == "official, ComfyUI"
    vae["conv2.weight"] = (48, 48, 1, 1, 1)
    assert "5B" in describe(write(tmp_path / "a.safetensors", vae))["model"]
    text = {"token_embedding.weight": (9, 4)}
    for block in (0, 1):
        text |= {f"blocks.{block}.attn.q.weight": (4, 4), f"blocks.{block}.pos_embedding.embedding.weight": (2, 2)}
    found = describe(write(tmp_path / "a.safetensors", text))
    assert (found["model"], found["keys"], found["vocabulary"]) == ("umT5", "official", 9)
    del text["blocks.1.pos_embedding.embedding.weight"]
    assert describe(write(tmp_path / "a.safetensors", text))["model"].startswith("T5")
    clip = {"visual.transformer.0.attn.weight": (2, 2)}
    assert describe(write(tmp_path / "a.safetensors", clip))["kind"] == "image-encoder"


def numpy(tensors):
    return {key: value.numpy() for key, value in tensors.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_every_lora_format_is_recognised(tmp_path, form):
    save_file(numpy(FORMATS[form]), tmp_path / "a.safetensors")
    found = describe(tmp_path / "a.safetensors")
    assert (found["kind"], found["modules"], found["blocks"]) == ("lora", 3, "0")
    assert found["unknown_keys"] == []
    assert found["expert_hint"] is None
    assert len(found["formats"]) == 1
    method = {"loha": "LoHa", "lokr of a product": "LoKr", "lokr of matrices": "LoKr", "lycoris full": "diff"}
    assert found["methods"] == [method.get(form, "diff" if form == "diff" else "LoRA")]
    assert found["ranks"] == ([] if "diff" in found["methods"] or form == "lokr of matrices" else [3])


def test_what_a_lora_has_beside_pairs(tmp_path):
    tensors = on_ffn(LORA | {"dora_scale": ROWS}) | on_ffn(LOHA, "transformer_2.blocks.7.ffn.0.")
    tensors |= on_ffn(LORA, "diffusion_model.blocks.3.cross_attn.k_img.")
    tensors["dwpose_embedding.0.weight"] = ROWS * 2
    save_file({key: np.array(value.numpy()) for key, value in tensors.items()}, tmp_path / "x_LOW_noise.safetensors")
    found = describe(tmp_path / "x_LOW_noise.safetensors")
    assert found["methods"] == ["DoRA", "LoHa", "LoRA"]
    assert (found["image_keys"], found["blocks"], found["alphas"]) == (3, "0, 7", [3.0])
    assert found["unknown_keys"] == ["dwpose_embedding.0.weight"]
    assert (found["experts"], found["expert_hint"]) == (["high", "low"], "low")
    lines = say("inspect", tmp_path / "x_LOW_noise.safetensors").stdout
    assert "perhaps low-noise (a hint from the file's name, no more)" in lines
    assert "unknown keys: 1, for which svid refuses the file\n    dwpose_embedding.0.weight\n" in lines


def test_whole_alphas_and_tensors_that_would_be_refused(tmp_path):
    key = "lora_unet_blocks_0_ffn_0."
    tensors = {
        f"{key}lora_down.weight": np.ones((2, 24), np.float32),
        f"{key}lora_up.weight": np.ones((32, 2), np.float32),
    }
    save_file(tensors | {f"{key}alpha": np.array(2)}, tmp_path / "a.safetensors")
    found = describe(tmp_path / "a.safetensors")
    assert (found["alphas"], found["unknown_keys"]) == ([2.0], [])
    tensors[f"{key}lora_up.weight"] = np.ones((32, 2), np.int8)
    save_file(tensors, tmp_path / "a.safetensors")
    assert describe(tmp_path / "a.safetensors")["unknown_keys"] == [f"{key}lora_up.weight"]


def test_alphas_that_are_not_tensors_or_not_readable(tmp_path):
    shapes = {"transformer.blocks.0.attn1.to_q.lora_A.weight": (2, 4)}
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 8})}
    assert describe(write(tmp_path / "a.safetensors", shapes, metadata=metadata))["alphas"] == [8.0]
    assert describe(write(tmp_path / "a.safetensors", shapes))["alphas"] == []
    assert "no alphas: the scale is 1" in say("inspect", tmp_path / "a.safetensors").stdout
    write(tmp_path / "a.safetensors", shapes, metadata={"lora_adapter_metadata": "{"})
    assert describe(tmp_path / "a.safetensors")["alphas"] == []
    entries = {"blocks.0.ffn.0.lora_A.weight": ("BF16", [2, 4], 16), "blocks.0.ffn.0.alpha": ("BF16", [], 2)}
    assert describe(write_raw(tmp_path / "a.safetensors", entries))["alphas"] is None
    assert "alphas" not in say("inspect", tmp_path / "a.safetensors").stdout


def test_a_file_that_is_nothing_of_the_kind(tmp_path):
    found = describe(write(tmp_path / "a.safetensors", {f"decoder.layer.{n}.alpha": (2,) for n in range(20)}))
    assert (found["kind"], len(found["first_keys"])) == ("unknown", 8)
    printed = say("inspect", tmp_path / "a.safetensors")
    assert printed.exit_code == 0
    assert "that svid does not know" in printed.stdout
    assert "    decoder.layer.0.alpha\n" in printed.stdout


@pytest.mark.parametrize(
    ("content", "word"), [(pickle.dumps({}), "pickle"), (b"", "empty"), (b"x" * 99, "something else"), (None, "read")]
)
def test_pickles_and_broken_files_exit_with_3(tmp_path, content, word):
    if content is not None:
        (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=word):
        describe(tmp_path / "a.safetensors")
    result = say("inspect", tmp_path / "a.safetensors")
    assert (result.exit_code, result.stdout) == (3, "")
    assert word in result.stderr


def test_other_folders_exit_with_3(tmp_path):
    assert say("inspect", tmp_path).exit_code == 3
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    result = say("inspect", tmp_path)
    assert result.exit_code == 3
    assert "transformer_2" in result.stderr


def test_the_list_says_what_is_missing(home):
    text = (home.root / "svid.toml").read_text()
    more = '\n[models.big]\npath = "no/where"\n[loras.wide]\npath = "no/file.safetensors"\n'
    (home.root / "svid.toml").write_text(text + more)
    rows = json.loads(say("--json", home=home.root).stdout)
    found = {(row["kind"], row["name"], row["expert"], row["model"]): row["found"] for row in rows}
    expected = {
        ("model", "wan22-mini", "", ""): True,
        ("model", "big", "", ""): False,
        ("lora", "wide", "high", ""): False,
        ("lora", "wide", "low", ""): False,
        ("lora", "svi-2.0-pro", "high", "wan22-mini"): True,
        ("lora", "svi-2.0-pro", "low", "wan22-mini"): True,
        ("lora", "hard-cut", "high", "wan22-mini"): True,
    }
    assert {row: found.get(row) for row in expected} == expected
    assert ("lora", "hard-cut", "low", "wan22-mini") not in found
    lines = say(home=home.root).stdout.splitlines()
    assert f"missing model big: {home.root / 'no/where'}" in lines
    assert any(line.startswith("ok      lora hard-cut high (wan22-mini): ") for line in lines)


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("SVI_v2_PRO_Wan2.2-I2V-A14B_HIGH_lora_rank_128_fp16.safetensors", "high"),
        ("wan2.2_i2v_A14b_low_noise_lora_rank64_lightx2v_4step_1022.safetensors", "low"),
        ("hard_cut_3_wan_i2v_high.safetensors", "high"),
        ("Wan2.2-I2V-A14B-HighNoise-Q8.safetensors", "high"),
        ("highway_lora.safetensors", None),
        ("slow_motion.safetensors", None),
        ("high_and_low.safetensors", None),
    ],
)
def test_hints_in_names(name, expert):
    assert expert_hint(name) == expert


def test_ranges():
    assert ranges([3, 1, 2, 7, 7]) == "1-3, 7"
    assert ranges([]) == ""


@pytest.mark.slow
def test_it_needs_no_torch():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from svid.cli.models import describe\n"
        "from pathlib import Path\n"
        "for path in sys.argv[1:]:\n"
        "    describe(Path(path))\n"
    )
    paths = [str(LORAS / "hard-cut_high.safetensors"), str(MINI), str(MINI / "vae/diffusion_pytorch_model.safetensors")]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code, *paths], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
