"""The model folder: what a sound one says, and how each way to break it is named."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import svid
from svid.api import Recipe
from svid.errors import WeightsError
from svid.wan.folder import check_base, is_wan_folder, read_summary, weights_files
from svid.wan.load import load_folder

MINI = Path(svid.__file__).parent / "embedded" / "wan22-mini"
MINI_21 = MINI.with_name("wan21-mini")
DIT = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(MINI, tmp_path / "mini"))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder):
    with pytest.raises(WeightsError) as caught:
        read_summary(folder)
    assert str(folder.parent) not in str(caught.value)
    return str(caught.value)


def test_summary_of_a_sound_folder():
    summary = read_summary(MINI)
    assert (summary.dim, summary.layers, summary.text_dim) == (128, 6, 64)
    assert set(summary.components) == {"transformer", "transformer_2", "vae", "text_encoder"}
    assert summary.nbytes == 2 * sum(part.parameters for part in summary.components.values())
    assert is_wan_folder(MINI)
    assert not is_wan_folder(MINI / "vae")


def test_a_folder_of_wan_21():
    summary = read_summary(MINI_21)
    assert (summary.base, read_summary(MINI).base) == ("wan2.1-i2v", "wan2.2-i2v")
    assert set(summary.components) == {"transformer", "vae", "text_encoder", "image_encoder"}
    names = [path.relative_to(MINI_21).as_posix() for path in weights_files(MINI_21)]
    assert len(names) == 11
    assert {"image_encoder/model.safetensors", "image_processor/preprocessor_config.json"} < set(names)


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda f: shutil.rmtree(f / "image_encoder"), ["21/image_encoder: expected a folder, found nothing"]),
        (lambda f: shutil.rmtree(f / "image_processor"), ["21/image_processor/preprocessor_config.json: expected"]),
        (lambda f: edit(f / "image_encoder/config.json", hidden_size=64), ["expected the transformer's image_dim 32"]),
        (lambda f: edit(f / "image_encoder/config.json", patch_size=16), ["patch_size: expected 14", "257"]),
        (lambda f: edit(f / "transformer/config.json", in_channels=16), ["in_channels: expected 36, found 16"]),
        (lambda f: edit(f / "transformer/config.json", pos_embed_seq_len=514), ["first and last frames"]),
        (lambda f: shutil.copytree(f / "transformer", f / "transformer_2"), ["expected null, found 32", "Wan 2.1"]),
    ],
)
def test_breakages_of_wan_21_are_named(tmp_path, breakage, words):
    folder = Path(shutil.copytree(MINI_21, tmp_path / "21"))
    breakage(folder)
    message = refused(folder)
    assert all(word in message for word in words), message


def test_a_recipe_for_another_wan_is_refused():
    recipe = Recipe(name="svi-shot", variant="svi-shot", title="", source="", base="wan2.1-i2v")
    check_base(MINI_21, recipe)
    with pytest.raises(WeightsError, match=r"wan22-mini: expected Wan 2\.1 I2V, which the recipe svi-shot is for"):
        check_base(MINI, recipe)


def test_loading_wan_21():
    model = load_folder(MINI_21, "cpu", torch.bfloat16)
    assert set(model.experts) == {"high"}
    assert model.experts["high"].dtype == torch.bfloat16
    embeds = model.image.embed(torch.zeros(20, 30, 3, dtype=torch.uint8))
    assert (embeds.shape, embeds.dtype) == ((1, 257, 32), torch.float32)
    assert load_folder(MINI, "cpu").image is None


def test_an_image_encoder_with_older_names(tmp_path):
    """Published folders were saved by transformers 4, which puts `vision_model.` before every name."""
    folder = Path(shutil.copytree(MINI_21, tmp_path / "21"))
    file, black = folder / "image_encoder/model.safetensors", torch.zeros(20, 30, 3, dtype=torch.uint8)
    weights = load_file(file)
    assert not any(name.startswith("vision_model.") for name in weights)
    save_file({f"vision_model.{name}": value for name, value in weights.items()}, file, {"format": "pt"})
    assert torch.equal(load_folder(folder, "cpu").image.embed(black), load_folder(MINI_21, "cpu").image.embed(black))


def test_the_files_that_are_the_identity():
    names = [path.relative_to(MINI).as_posix() for path in weights_files(MINI)]
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 10
    assert DIT in names
    assert "tokenizer/tokenizer.json" in names
    assert not any("scheduler" in name or "README" in name for name in names)


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda f: shutil.rmtree(f), ["mini: expected a model folder in diffusers layout, found nothing"]),
        (lambda f: shutil.rmtree(f / "transformer_2"), ["mini/transformer_2: expected a folder, found nothing"]),
        (lambda f: shutil.rmtree(f / "tokenizer"), ["mini/tokenizer: expected tokenizer.json, found nothing"]),
        (lambda f: (f / "vae/config.json").unlink(), ["mini/vae/config.json: expected a JSON file, found nothing"]),
        (lambda f: (f / "vae/config.json").write_text("{"), ["mini/vae/config.json: expected JSON"]),
        (lambda f: (f / "vae/config.json").write_text("[]"), ["expected a JSON object, found list"]),
        (lambda f: edit(f / "transformer/config.json", in_channels=16), ["in_channels: expected 36, found 16"]),
        (lambda f: edit(f / "transformer/config.json", image_dim=1280), ["expected null, found 1280", "Wan 2.1"]),
        (lambda f: edit(f / "vae/config.json", z_dim=48), ["z_dim: expected 16, found 48", "TI2V-5B"]),
        (lambda f: edit(f / "vae/config.json", _class_name="AutoencoderKL"), ['found "AutoencoderKL"']),
        (lambda f: edit(f / "transformer_2/config.json", num_layers=3), ["num_layers: expected 6", "found 3"]),
        (lambda f: edit(f / "text_encoder/config.json", d_model=32), ["d_model: expected the transformer's"]),
        (lambda f: (f / DIT).unlink(), ["expected diffusion_pytorch_model.safetensors, found no weights"]),
    ],
)
def test_breakages_are_named(folder, breakage, words):
    breakage(folder)
    message = refused(folder)
    assert all(word in message for word in words), message


def test_everything_is_named_at_once(folder):
    edit(folder / "transformer/config.json", in_channels=16)
    shutil.rmtree(folder / "vae")
    (folder / "text_encoder/model.safetensors").write_bytes(b"")
    message = refused(folder)
    for word in ("in_channels", "mini/vae: expected a folder", "text_encoder/model.safetensors: header: ", "empty"):
        assert word in message


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_a_pickle_is_not_opened(folder, suffix):
    (folder / DIT).unlink()
    (folder / "transformer" / f"diffusion_pytorch_model{suffix}").write_bytes(pickle.dumps({}))
    assert "found the pickle" in refused(folder)


def test_a_pickle_with_the_name_of_a_safetensors_file(folder):
    torch.save({}, folder / DIT)
    assert "found a pickle, which could run code" in refused(folder)
    (folder / DIT).write_bytes(pickle.dumps({"a": list(range(100))}))
    assert "found a pickle" in refused(folder)


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"", "an empty file"),
        (b"abc", "something else"),
        (struct.pack("<Q", 1 << 60) + b"{}", "something else"),
        (struct.pack("<Q", 400) + b"{}", "expected 400 bytes of header"),
        (struct.pack("<Q", 3) + b"{,}", "expected JSON"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "expected dtype, shape and data_offsets"),
        (struct.pack("<Q", 56) + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}} ', "expected"),
    ],
)
def test_broken_headers(folder, start, word):
    (folder / DIT).write_bytes(start)
    assert word in refused(folder)


def test_a_cut_file_is_named(folder):
    whole = (folder / DIT).read_bytes()
    (folder / DIT).write_bytes(whole[:-100])
    assert "of tensors, found" in refused(folder)


def test_a_header_whose_length_looks_like_a_pickle(folder):
    """A header of 128 + 256 k bytes begins with the byte that pickles begin with."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(128)
    (folder / DIT).write_bytes(struct.pack("<Q", 128) + header + b"\0" * 4)
    assert read_summary(folder).components["transformer"].parameters == 1


def test_quantized_weights_are_refused(folder):
    weights = load_file(folder / DIT)
    weights["proj_out.weight"] = weights["proj_out.weight"].to(torch.float8_e4m3fn)
    save_file(weights, folder / DIT)
    assert "proj_out.weight: expected one of F32, F16, BF16, found F8_E4M3" in refused(folder)


def shard(folder):
    weights = load_file(folder / DIT)
    names = sorted(weights)
    (folder / DIT).unlink()
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / "transformer" / file)
        index |= dict.fromkeys(part, file)
    path = folder / "transformer/diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": index}))
    return path


def test_shards(folder):
    path = shard(folder)
    assert read_summary(folder).nbytes == read_summary(MINI).nbytes
    assert len(weights_files(folder)) == 11
    model = load_folder(folder, "cpu")
    whole = load_folder(MINI, "cpu")
    for name, value in whole.experts["high"].state_dict().items():
        assert torch.equal(value, model.experts["high"].state_dict()[name])
    (folder / "transformer/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert "expected the shard diffusion_pytorch_model-00002-of-00002" in refused(folder)
    path.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    assert "expected safetensors files beside it" in refused(folder)
    path.write_text("{}")
    assert "weight_map: expected file names by tensor" in refused(folder)


def test_two_checkpoints_are_ambiguous(folder):
    (folder / f"{DIT}.index.json").write_text("{}")
    assert "expected one checkpoint" in refused(folder)


def test_loading_in_fp32():
    model = load_folder(MINI, "cpu")
    assert {value.dtype for value in model.experts["low"].parameters()} == {torch.float32}
    assert not any(value.requires_grad for value in model.experts["high"].parameters())
    assert not model.experts["high"].training
    high, low = (model.experts[name].blocks[0].attn1.to_q.weight for name in ("high", "low"))
    assert not torch.equal(high, low)


def test_loading_in_bf16_keeps_the_fp32_islands():
    model = load_folder(MINI, "cpu", torch.bfloat16)
    parameters = dict(model.experts["high"].named_parameters())
    assert parameters["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert parameters["blocks.0.scale_shift_table"].dtype == torch.float32
    assert parameters["blocks.0.norm2.weight"].dtype == torch.float32
    assert parameters["condition_embedder.time_embedder.linear_1.weight"].dtype == torch.float32
    assert model.vae.dtype == torch.float32


def test_tensors_missing_or_left_over_are_named(folder):
    weights = load_file(folder / DIT)
    weights["blocks.7.extra"] = weights.pop("blocks.1.attn1.to_q.weight")
    save_file(weights, folder / DIT)
    with pytest.raises(WeightsError) as caught:
        load_folder(folder, "cpu")
    assert "blocks.1.attn1.to_q.weight: expected this tensor, found nothing" in str(caught.value)
    assert "blocks.7.extra: found a tensor that the model does not have" in str(caught.value)


def test_the_tokenizer_takes_any_text():
    text = load_folder(MINI, "cpu").text
    for prompt in ("a boat rests at anchor", "色调艳丽，过曝 🚢", "", "x" * 3000, "\x00é"):
        embedding = text.encode(prompt)
        assert embedding.shape == (1, 512, 64)
        assert embedding.isfinite().all()
    known = text.encode("a boat rests"), text.encode("a gull lands")
    assert not torch.equal(*known)
