"""A Wan 2.2 I2V model folder in diffusers layout: what is in it, whether it is sound, which files are its identity.

Nothing here imports torch, except `load_folder` while it runs, so the command line can describe a folder at once.
Layout: `transformer/` is the high-noise expert, `transformer_2/` the low-noise one, as Wan-AI's own repositories have
it; `vae/`, `text_encoder/`, `tokenizer/`. The scheduler of a folder is not read: a recipe brings its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from svid.errors import Problem, WeightsError
from svid.wan.headers import PICKLE_SUFFIXES, read_header

if TYPE_CHECKING:
    import torch

    from svid.wan.model import WanModel

STEMS = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
TOKENIZER_SUFFIXES = (".json", ".model", ".txt")
FLOATS = ("F32", "F16", "BF16")
LAYOUT = "a Wan 2.2 I2V folder has transformer, transformer_2, vae, text_encoder and tokenizer"
_EXPERT = (
    ("_class_name", None, "WanTransformer3DModel", ""),
    ("in_channels", 16, 36, "16 latent, 4 mask and 16 image channels: only image-to-video models have them"),
    ("out_channels", 16, 16, ""),
    ("image_dim", None, None, "a model with an image encoder is Wan 2.1"),
)
EXPECTED: Mapping[str, tuple[tuple[str, Any, Any, str], ...]] = {
    "transformer": _EXPERT,
    "transformer_2": _EXPERT,
    "vae": (
        ("_class_name", None, "AutoencoderKLWan", ""),
        ("z_dim", 16, 16, "48 is the VAE of Wan 2.2 TI2V-5B, another model"),
        ("patch_size", None, None, "a VAE with patches is that of Wan 2.2 TI2V-5B"),
    ),
    "text_encoder": (("model_type", None, "umt5", ""),),
}
"""Per component: key, its default where the file leaves it out, what Wan 2.2 I2V has, a hint."""

T = TypeVar("T")


@dataclass(frozen=True)
class ComponentSummary:
    """One sub-folder: its files, how many values they hold, in how many bytes, and its configuration."""

    files: tuple[Path, ...]
    parameters: int
    nbytes: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class FolderSummary:
    """What a model folder holds. `dim` and `layers` are those of each expert."""

    path: Path
    components: Mapping[str, ComponentSummary]
    dim: int
    layers: int
    text_dim: int

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters, as they are stored."""
        return sum(component.nbytes for component in self.components.values())


def is_wan_folder(path: Path) -> bool:
    """Whether `path` is a folder in diffusers layout that says it is Wan, sound or not."""
    for name in ("model_index.json", "transformer/config.json"):
        try:
            config = json.loads((path / name).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and str(config.get("_class_name", "")).startswith("Wan"):
            return True
    return False


def read_summary(path: Path) -> FolderSummary:
    """Describe the Wan 2.2 I2V folder `path` from its JSON files and safetensors headers.

    Raises:
        WeightsError: every missing part, pickle, broken header, missing shard and wrong dimension, all at once.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise WeightsError(Problem(path.name, "", f"expected a model folder in diffusers layout, found {found}"))
    problems: list[Problem] = []
    components = {}
    for name in STEMS:
        component = _gather(problems, _read_component, path, name)
        if component is not None:
            components[name] = component
    _gather(problems, _tokenizer_files, path)
    problems += _check_dimensions(path, {name: component.config for name, component in components.items()})
    if problems:
        raise WeightsError(problems)
    expert = components["transformer"].config
    dim = _number(expert, "num_attention_heads", 40) * _number(expert, "attention_head_dim", 128)
    return FolderSummary(path, components, dim, _number(expert, "num_layers", 40), _number(expert, "text_dim", 4096))


def weights_files(path: Path) -> list[Path]:
    """The files whose digests identify the model, sorted: the safetensors that are loaded, `config.json`s, tokenizer.

    Raises:
        WeightsError: as `read_summary` does for files that are missing; contents are not looked at.
    """
    problems: list[Problem] = []
    files = list(_gather(problems, _tokenizer_files, path) or [])
    for name in STEMS:
        files += _gather(problems, _weights_of, path, name) or []
        files.append(path / name / "config.json")
    if problems:
        raise WeightsError(problems)
    return sorted(files)


def load_folder(path: Path, device: torch.device | str, dtype: torch.dtype | None = None) -> WanModel:
    """Check the folder, then load it onto `device`: fp32 on a CPU, bf16 elsewhere unless `dtype` says otherwise.

    Raises:
        WeightsError: see `read_summary`; also where a checkpoint lacks tensors or has some that nobody uses.
    """
    from svid.wan.load import load_components

    read_summary(path)
    return load_components(path, device, dtype)


def _gather(problems: list[Problem], read: Callable[..., T], *args: Any) -> T | None:
    try:
        return read(*args)
    except WeightsError as error:
        problems += error.problems
        return None


def _label(root: Path, *parts: str) -> str:
    return "/".join((root.name, *parts))


def _read_json(root: Path, *parts: str) -> dict[str, Any]:
    name = _label(root, *parts)
    try:
        value = json.loads(root.joinpath(*parts).read_bytes())
    except OSError:
        raise WeightsError(Problem(name, "", "expected a JSON file, found nothing", LAYOUT)) from None
    except ValueError as error:
        raise WeightsError(Problem(name, "", f"expected JSON, found something else: {error}")) from None
    if not isinstance(value, dict):
        raise WeightsError(Problem(name, "", f"expected a JSON object, found {type(value).__name__}"))
    return value


def _read_component(root: Path, name: str) -> ComponentSummary:
    if not (root / name).is_dir():
        raise WeightsError(Problem(_label(root, name), "", "expected a folder, found nothing", LAYOUT))
    problems: list[Problem] = []
    config = _gather(problems, _read_json, root, name, "config.json")
    files = _gather(problems, _weights_of, root, name) or []
    parameters = nbytes = 0
    for file in files:
        label = _label(root, name, file.name)
        for key, info in (_gather(problems, read_header, file, label, WeightsError) or {}).items():
            parameters, nbytes = parameters + info.count, nbytes + info.nbytes
            if info.dtype not in FLOATS:
                message = f"expected one of {', '.join(FLOATS)}, found {info.dtype}"
                problems.append(Problem(label, key, message, "quantized weights are not supported in this layout"))
    if problems or config is None:
        raise WeightsError(problems)
    return ComponentSummary(tuple(files), parameters, nbytes, config)


def _weights_of(root: Path, name: str) -> list[Path]:
    folder, stem = root / name, STEMS[name]
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file() and index.is_file():
        message = f"expected one checkpoint, found {single.name} and {index.name}"
        raise WeightsError(Problem(_label(root, name), "", message, "remove the one that is not meant"))
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(root, name, index)
    pickles = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        message = f"expected {single.name}, found the pickle {pickles[0]}, which could run code"
        raise WeightsError(Problem(_label(root, name), "", message, "convert it with `svid models convert`"))
    raise WeightsError(Problem(_label(root, name), "", f"expected {single.name}, found no weights", LAYOUT))


def _shards(root: Path, name: str, index: Path) -> list[Path]:
    shards = _read_json(root, name, index.name).get("weight_map")
    label = _label(root, name, index.name)
    if not isinstance(shards, dict) or not shards:
        raise WeightsError(Problem(label, "weight_map", "expected file names by tensor, found nothing of the kind"))
    problems, files = [], []
    for shard in sorted({str(value) for value in shards.values()}):
        file = index.parent / shard
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            problems.append(Problem(label, "weight_map", f"expected safetensors files beside it, found {shard!r}"))
        elif not file.is_file():
            message = f"expected the shard {shard}, found nothing"
            problems.append(Problem(label, "weight_map", message, "fetch the missing file"))
        files.append(file)
    if problems:
        raise WeightsError(problems)
    return files


def _tokenizer_files(root: Path) -> list[Path]:
    folder = root / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        message = "expected tokenizer.json, found nothing"
        raise WeightsError(Problem(_label(root, "tokenizer"), "", message, LAYOUT))
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in TOKENIZER_SUFFIXES)


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    return value if isinstance(value, int) else default


def _check_dimensions(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Compare what the configurations say with Wan 2.2 I2V A14B (WAN22 wan/configs/wan_i2v_A14B.py)."""
    problems = []
    for name, config in configs.items():
        for key, default, expected, hint in EXPECTED[name]:
            found = config.get(key, default)
            if found != expected:
                message = f"expected {json.dumps(expected)}, found {json.dumps(found)}"
                problems.append(Problem(_label(root, name, "config.json"), key, message, hint))
    return problems + _compare_experts(root, configs)


def _compare_experts(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    high, low = configs.get("transformer"), configs.get("transformer_2")
    text = configs.get("text_encoder")
    problems = []
    if high is not None and low is not None:
        for key in ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "text_dim"):
            if high.get(key) != low.get(key):
                message = f"expected {high.get(key)} as in transformer/, found {low.get(key)}"
                problems.append(Problem(_label(root, "transformer_2", "config.json"), key, message))
    if high is not None and text is not None and text.get("d_model") != high.get("text_dim", 4096):
        message = f"expected the transformer's text_dim {high.get('text_dim', 4096)}, found {text.get('d_model')}"
        problems.append(Problem(_label(root, "text_encoder", "config.json"), "d_model", message))
    return problems
