"""A Wan I2V model folder in diffusers layout: what is in it, whether it is sound, which files are its identity.

Nothing here imports torch, so the command line can describe a folder at once; `svid.wan.load` loads it.
Layout, as Wan-AI's own repositories have it: `transformer/`, `vae/`, `text_encoder/`, `tokenizer/`. In Wan 2.2
`transformer/` is the high-noise expert and `transformer_2/` the low-noise one; Wan 2.1 has one transformer, and
`image_encoder/` with `image_processor/`. The scheduler of a folder is not read: a recipe brings its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from svid.api import Base, Recipe
from svid.errors import Problem, WeightsError
from svid.wan.headers import PICKLE_SUFFIXES, read_header

STEMS = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "image_encoder": "model",
}
COMPONENTS: Mapping[Base, tuple[str, ...]] = {
    "wan2.1-i2v": ("transformer", "vae", "text_encoder", "image_encoder"),
    "wan2.2-i2v": ("transformer", "transformer_2", "vae", "text_encoder"),
}
TITLES: Mapping[Base, str] = {"wan2.1-i2v": "Wan 2.1 I2V", "wan2.2-i2v": "Wan 2.2 I2V"}
PROCESSOR = ("image_processor", "preprocessor_config.json")
TOKENIZER_SUFFIXES = (".json", ".model", ".txt")
FLOATS = ("F32", "F16", "BF16")
LAYOUT = (
    "a Wan 2.2 I2V folder has transformer, transformer_2, vae, text_encoder and tokenizer; a Wan 2.1 I2V folder has "
    "image_encoder and image_processor instead of transformer_2"
)
Expected = tuple[tuple[str, Any, Any, str], ...]
_TRANSFORMER: Expected = (
    ("_class_name", None, "WanTransformer3DModel", ""),
    ("in_channels", 16, 36, "16 latent, 4 mask and 16 image channels: only image-to-video models have them"),
    ("out_channels", 16, 16, ""),
    ("pos_embed_seq_len", None, None, "a model of first and last frames, which svid has no recipe for"),
)
_EXPERT: Expected = (*_TRANSFORMER, ("image_dim", None, None, "a model with an image encoder is Wan 2.1"))
EXPECTED: Mapping[str, Expected] = {
    "transformer": _EXPERT,
    "transformer_2": _EXPERT,
    "vae": (
        ("_class_name", None, "AutoencoderKLWan", ""),
        ("z_dim", 16, 16, "48 is the VAE of Wan 2.2 TI2V-5B, another model"),
        ("patch_size", None, None, "a VAE with patches is that of Wan 2.2 TI2V-5B"),
    ),
    "text_encoder": (("model_type", None, "umt5", ""),),
    "image_encoder": (
        ("model_type", None, "clip_vision_model", ""),
        ("image_size", 224, 224, "Wan 2.1 attends to 257 image tokens"),
        ("patch_size", 32, 14, "Wan 2.1 attends to 257 image tokens"),
    ),
}
"""Per component: key, its default where the file leaves it out, what Wan I2V has, a hint. In a Wan 2.1 folder
`transformer` is checked against _TRANSFORMER."""

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
    base: Base
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
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict) and str(config.get("_class_name", "")).startswith("Wan"):
            return True
    return False


def read_base(path: Path) -> Base:
    """Which Wan the folder `path` is. One transformer that wants a picture embedded, or an image encoder beside one, is
    2.1; everything else is taken for 2.2, broken or not."""
    if (path / "transformer_2").is_dir():
        return "wan2.2-i2v"
    try:
        config = json.loads((path / "transformer" / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    wants_picture = isinstance(config, dict) and config.get("image_dim") is not None
    return "wan2.1-i2v" if wants_picture or (path / "image_encoder").is_dir() else "wan2.2-i2v"


def check_base(path: Path, recipe: Recipe) -> None:
    """Raises WeightsError where `recipe` is for another Wan than the one in the folder `path`."""
    found = read_base(path)
    if found != recipe.base:
        message = f"expected {TITLES[recipe.base]}, which the recipe {recipe.name} is for, found {TITLES[found]}"
        raise WeightsError(Problem(path.name, "", message, "name another model or another recipe"))


def read_summary(path: Path) -> FolderSummary:
    """Describe the Wan I2V folder `path` from its JSON files and safetensors headers.

    Raises:
        WeightsError: every missing part, pickle, broken header, missing shard and wrong dimension, all at once.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise WeightsError(Problem(path.name, "", f"expected a model folder in diffusers layout, found {found}"))
    problems: list[Problem] = []
    components = {}
    base = read_base(path)
    for name in COMPONENTS[base]:
        component = _gather(problems, _read_component, path, name)
        if component is not None:
            components[name] = component
    _gather(problems, _tokenizer_files, path)
    if base == "wan2.1-i2v":
        _gather(problems, _read_json, path, *PROCESSOR)
    configs = {name: component.config for name, component in components.items()}
    problems += _check_dimensions(path, base, configs) + _compare(path, configs)
    if problems:
        raise WeightsError(problems)
    expert = components["transformer"].config
    dim = _number(expert, "num_attention_heads", 40) * _number(expert, "attention_head_dim", 128)
    layers, text_dim = _number(expert, "num_layers", 40), _number(expert, "text_dim", 4096)
    return FolderSummary(path, base, components, dim, layers, text_dim)


def weights_files(path: Path) -> list[Path]:
    """The files whose digests identify the model, sorted: the safetensors that are loaded, `config.json`s, tokenizer,
    and how an image encoder's input is normalized.

    Raises:
        WeightsError: as `read_summary` does for files that are missing; contents are not looked at.
    """
    problems: list[Problem] = []
    files = list(_gather(problems, _tokenizer_files, path) or [])
    base = read_base(path)
    for name in COMPONENTS[base]:
        files += _gather(problems, _weights_of, path, name) or []
        files.append(path / name / "config.json")
    if base == "wan2.1-i2v":
        _gather(problems, _read_json, path, *PROCESSOR)
        files.append(path.joinpath(*PROCESSOR))
    if problems:
        raise WeightsError(problems)
    return sorted(files)


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
    except (ValueError, RecursionError) as error:
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
        raise WeightsError(
            Problem(_label(root, name), "", message, "convert it to safetensors first, with a tool that you trust")
        )
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


def _check_dimensions(root: Path, base: Base, configs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Compare what the configurations say with Wan I2V (WAN22 wan/configs/wan_i2v_A14B.py, WAN21 wan_i2v_14B.py)."""
    problems = []
    for name, config in configs.items():
        one = name == "transformer" and base == "wan2.1-i2v"
        for key, default, expected, hint in _TRANSFORMER if one else EXPECTED[name]:
            found = config.get(key, default)
            if found != expected:
                message = f"expected {json.dumps(expected)}, found {json.dumps(found)}"
                problems.append(Problem(_label(root, name, "config.json"), key, message, hint))
    return problems


def _compare(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Where two components must agree: both experts with each other, the encoders with the transformer."""
    high, low = configs.get("transformer"), configs.get("transformer_2")
    problems = []
    if high is not None and low is not None:
        for key in ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "text_dim"):
            if high.get(key) != low.get(key):
                message = f"expected {high.get(key)} as in transformer/, found {low.get(key)}"
                problems.append(Problem(_label(root, "transformer_2", "config.json"), key, message))
    pairs = (
        ("text_encoder", "d_model", None, "text_dim", 4096),
        ("image_encoder", "hidden_size", 768, "image_dim", None),
    )
    for name, key, default, wanted, usual in pairs:
        encoder = configs.get(name)
        if high is None or encoder is None or encoder.get(key, default) == high.get(wanted, usual):
            continue
        message = f"expected the transformer's {wanted} {high.get(wanted, usual)}, found {encoder.get(key, default)}"
        problems.append(Problem(_label(root, name, "config.json"), key, message))
    return problems
