"""Checkpoints and LoRAs that are not what they say."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svid.config import EMBEDDED
from svid.errors import LoraError, WeightsError
from svid.wan.folder import read_summary
from svid.wan.headers import HEADER_LIMIT, read_header
from svid.wan.load import load_folder
from svid.wan.lora.read import read_lora


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(EMBEDDED / "wan22-mini", tmp_path / "mini")


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (self.mark, os.O_CREAT)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["a.safetensors", "a.sft", "a", "a.safetensors.json"])
def test_a_pickle_under_any_name_is_not_opened(tmp_path: Path, name: str, protocol: int) -> None:
    path, mark = tmp_path / name, tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Bomb(mark), protocol))
    with pytest.raises(LoraError, match="expected a safetensors file"):
        read_lora(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(_Bomb(mark)))
    with pytest.raises(LoraError, match="found a pickle, which could run code"):
        read_lora(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Bomb(mark), protocol))  # had one been opened, it would show
    assert mark.exists()


def test_a_giant_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 32) + b"{")
        file.truncate(1 << 34)
    began = time.process_time()
    with pytest.raises(LoraError, match=f"at most {HEADER_LIMIT} bytes of header"):
        read_lora(path)
    assert time.process_time() - began < 0.5


def test_a_pipe_or_a_device_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", Path("/dev/zero")):
        with pytest.raises(WeightsError, match="no regular file"):
            read_header(path, "a", WeightsError)


def test_a_million_bad_keys_make_a_short_error(tmp_path: Path) -> None:
    header = json.dumps({f"\x1b[31m{number}": 0 for number in range(100_000)}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(LoraError) as caught:
        read_lora(tmp_path / "a.safetensors")
    assert len(str(caught.value)) < 100_000
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["transformer_2/diffusion_pytorch_model", "vae/diffusion_pytorch_model"])
def test_weights_that_are_not_finite_are_named(folder: Path, name: str) -> None:
    file = folder / f"{name}.safetensors"
    tensors = load_file(file)
    key = sorted(tensors)[-1]
    tensors[key].view(-1)[-1] = float("nan")
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="expected finite numbers, found infinite ones or NaN") as caught:
        load_folder(folder, "cpu")
    assert key in str(caught.value)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    key = next(key for key, value in tensors.items() if value.ndim == 2)
    tensors[key] = torch.zeros(3, 5)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="mini/transformer"):
        load_folder(folder, "cpu")


BAD_CONFIGS = ("[" * 100_000, '{"a":' * 100_000, "[]", "null", '"Wan"', "\ud800", '{"num_layers": 1e999}')


@pytest.mark.parametrize("config", BAD_CONFIGS)
@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_a_configuration_of_anything_is_refused(folder: Path, part: str, config: str) -> None:
    (folder / part / "config.json").write_bytes(config.encode("utf-8", "surrogatepass"))
    with pytest.raises(WeightsError, match="mini/"):
        read_summary(folder)


@pytest.mark.parametrize("changes", [{"num_layers": "two"}, {"num_layers": -1}, {"patch_size": [0, 0, 0]}])
def test_a_configuration_of_wrong_values_is_refused(folder: Path, changes: dict[str, object]) -> None:
    for part in ("transformer", "transformer_2"):
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(WeightsError, match="mini/"):
        load_folder(folder, "cpu")
