"""`svid models`: the models and LoRAs of a home, and what a file is. Nothing here waits for torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from svid.cli import home_of
from svid.config import LoraTable, weights_path
from svid.errors import Problem, WeightsError
from svid.home import Home
from svid.wan.headers import TensorInfo, read_header
from svid.wan.lora.describe import describe_lora, expert_hint, is_lora, ranges
from svid.wan.lora.keys import is_image_branch

BASE_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "pipe.dit.")
SHOWN = 8
PATCH = (1, 2, 2)
Header = Mapping[str, TensorInfo]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def models(ctx: click.Context, *, as_json: bool) -> None:
    """List the models and LoRAs that svid.toml names, and whether their files are there."""
    if ctx.invoked_subcommand is not None:
        return
    rows = rows_of(home_of(ctx))
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        who = " ".join(filter(None, (row["kind"], row["name"], row["expert"], row["model"] and f"({row['model']})")))
        click.echo(f"{'ok' if row['found'] else 'missing':8}{who}: {row['path']}")


def rows_of(home: Home) -> list[dict[str, Any]]:
    """The models and LoRAs that svid.toml names, a row for each file, and whether it is there."""
    rows = [_row("model", name, table.path, home.root) for name, table in home.config.models.items()]
    for name, lora in home.config.loras.items():
        rows += _lora_rows(name, lora, home.root)
    for model, table in home.config.models.items():
        for name, lora in table.loras.items():
            rows += _lora_rows(name, lora, home.root, model)
    return rows


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, *, as_json: bool) -> None:
    """Say what FILE is: a LoRA, a Wan transformer, a VAE, a text encoder, or a model folder in diffusers layout.

    Only headers are read, and the alphas of a LoRA. A file's name proves nothing; where it hints at an expert, the hint
    is called one.
    """
    found = describe(file)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in _lines(found):
        click.echo(line)


def describe(path: Path) -> dict[str, Any]:
    """What `path` is, as `json.dumps` takes it; `kind` is lora, transformer, vae, text-encoder, image-encoder, folder
    or unknown.

    Raises:
        WeightsError: there is nothing, it is a pickle or broken, or it is a folder that is no Wan I2V model.
    """
    if path.is_dir():
        return _describe_folder(path)
    header = read_header(path, path.name, WeightsError)
    if is_lora(header):
        found = describe_lora(path, header)
    else:
        bare = {_bare(key): info for key, info in header.items()}
        kinds = (_transformer, _vae, _text_encoder, _image_encoder)
        found = next((made for kind in kinds if (made := kind(bare)) is not None), {"kind": "unknown"})
        if found["kind"] == "transformer":
            found["expert_hint"] = expert_hint(path.name)
        if found["kind"] == "unknown":
            found["first_keys"] = list(header)[:SHOWN]
    return {"file": path.name, **found, **_sizes(header)}


def _describe_folder(path: Path) -> dict[str, Any]:
    from svid.wan.folder import TITLES, is_wan_folder, read_summary

    if not is_wan_folder(path):
        message = "expected a safetensors file or a Wan folder in diffusers layout, found another folder"
        raise WeightsError(Problem(path.name, "", message))
    summary = read_summary(path)
    parts = {
        name: {"files": len(part.files), "parameters": part.parameters, "bytes": part.nbytes}
        for name, part in summary.components.items()
    }
    return {
        "file": path.name,
        "kind": "folder",
        "model": f"{TITLES[summary.base]} in diffusers layout",
        "dim": summary.dim,
        "layers": summary.layers,
        "text_dim": summary.text_dim,
        "components": parts,
        "bytes": summary.nbytes,
    }


def _sizes(header: Header) -> dict[str, Any]:
    return {
        "tensors": len(header),
        "parameters": sum(info.count for info in header.values()),
        "dtypes": dict(Counter(info.dtype for info in header.values()).most_common()),
        "bytes": sum(info.nbytes for info in header.values()),
    }


def _bare(key: str) -> str:
    return key.removeprefix(next((prefix for prefix in BASE_PREFIXES if key.startswith(prefix)), ""))


def _shape(header: Header, key: str, axes: int) -> tuple[int, ...] | None:
    """The shape of `key` where it has so many axes, else None."""
    info = header.get(key)
    return info.shape if info is not None and len(info.shape) == axes else None


def _numbered(header: Header, stem: str) -> set[int]:
    """Which numbers follow `stem` in the keys: {0, 1} for `blocks.0.x` and `blocks.1.x`."""
    numbers = (key.removeprefix(stem).partition(".")[0] for key in header if key.startswith(stem))
    return {int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 6}


def _transformer(header: Header) -> dict[str, Any] | None:
    """A Wan transformer with the authors' names (ComfyUI keeps them) or diffusers', whole or a shard of one."""
    spellings = {".self_attn.q.weight": "official, ComfyUI", ".attn1.to_q.weight": "diffusers"}
    queries = {key: words for key in header for end, words in spellings.items() if key.endswith(end)}
    blocks = _numbered(header, "blocks.")
    if not queries or not blocks:
        return None
    patch = _shape(header, "patch_embedding.weight", 5)
    image = any(is_image_branch(key) for key in header)
    dim = max((header[key].shape or (0,))[0] for key in queries)
    found: dict[str, Any] = {
        "kind": "transformer",
        "model": _model(patch, image, header),
        "keys": ", ".join(sorted(set(queries.values()))),
        "dim": dim,
        "layers": len(blocks),
        "blocks": ranges(blocks),
        "in_channels": patch[1] if patch else None,
        "image_branch": image,
        "whole": patch is not None and blocks == set(range(len(blocks))),
    }
    quantized = sorted({info.dtype for info in header.values() if info.dtype.startswith(("F8", "I8", "U8"))})
    if quantized:
        scaled = any(key == "scaled_fp8" or key.endswith(("scale_weight", "weight_scale")) for key in header)
        found["quantized"] = f"{', '.join(quantized)}, {'scaled' if scaled else 'not scaled'}"
    return found


def _model(patch: tuple[int, ...] | None, image: bool, header: Header) -> str:
    """Which Wan, as far as the channels of the patch embedding and the image branch tell (WAN22 wan/configs)."""
    if patch is None:
        return "part of a Wan transformer (no patch embedding: a shard?)"
    if any(key.startswith("vace_") for key in header):
        return "Wan VACE, which svid does not render with"
    if patch[2:] != PATCH:
        return f"a Wan transformer with patches of {list(patch[2:])}, unknown to svid"
    return {
        (36, True): "Wan 2.1 I2V or FLF2V (it has an image encoder's branch)",
        (36, False): "Wan 2.2 I2V A14B, one of its two experts",
        (16, False): "Wan T2V (2.1, or one expert of 2.2)",
        (48, False): "Wan 2.2 TI2V 5B",
    }.get((patch[1], image), f"a Wan transformer with {patch[1]} input channels, unknown to svid")


def _vae(header: Header) -> dict[str, Any] | None:
    spellings = {"conv2.weight": "official, ComfyUI", "post_quant_conv.weight": "diffusers"}
    for key, words in spellings.items():
        shape = _shape(header, key, 5)
        if shape is not None and any(other.startswith("decoder.") for other in header):
            models = {16: "the VAE of Wan 2.1 and of Wan 2.2 A14B", 48: "the VAE of Wan 2.2 TI2V 5B"}
            model = models.get(shape[0], "a causal video VAE, unknown to svid")
            return {"kind": "vae", "model": model, "keys": words, "z_dim": shape[0]}
    return None


def _text_encoder(header: Header) -> dict[str, Any] | None:
    for table, stem, query, bias, words in (
        (
            "shared.weight",
            "encoder.block.",
            "layer.0.SelfAttention.q.weight",
            "relative_attention_bias",
            "transformers",
        ),
        ("token_embedding.weight", "blocks.", "attn.q.weight", "pos_embedding", "official"),
    ):
        shape, layers = _shape(header, table, 2), _numbered(header, stem)
        if shape is None or f"{stem}0.{query}" not in header:
            continue
        # T5 has positions in its first layer alone, umT5 in every one.
        positions = sum(key.startswith(stem) and bias in key for key in header)
        model = "umT5" if positions == len(layers) else "T5, which is not Wan's"
        return {
            "kind": "text-encoder", "model": model, "keys": words,
            "dim": shape[1], "layers": len(layers), "vocabulary": shape[0],
        }  # fmt: skip
    return None


def _image_encoder(header: Header) -> dict[str, Any] | None:
    if not any(key.startswith(("visual.", "vision_model.")) for key in header):
        return None
    return {"kind": "image-encoder", "model": "a CLIP image encoder: Wan 2.1 I2V has one, Wan 2.2 does not"}


def _row(kind: str, name: str, written: str, root: Path, expert: str = "", model: str = "") -> dict[str, Any]:
    path = weights_path(written, root)
    # A model is a folder, a LoRA a file: what is there but of the wrong sort is as good as missing.
    found = path.is_dir() if kind == "model" else path.is_file()
    return {"kind": kind, "name": name, "expert": expert, "model": model, "path": str(path), "found": found}


def _lora_rows(name: str, table: LoraTable, root: Path, model: str = "") -> Iterator[dict[str, Any]]:
    for expert in ("high", "low"):
        written = table.file(expert)
        if written is not None:
            yield _row("lora", name, written, root, expert, model)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The description for people: one fact a line, what is empty or unknown left out."""
    titles = {"lora": "a LoRA", "folder": "a model folder", "unknown": "a safetensors file that svid does not know"}
    title = titles.get(found["kind"], found["kind"].replace("-", " "))
    yield f"{found['file']}: {title}" + (f", {found['model']}" if "model" in found else "")
    for key, value in found.items():
        if key in ("file", "kind", "model") or value in (None, [], {}, "", 0):
            continue
        yield from _fact(key, value)
    if found["kind"] == "lora" and found["alphas"] == []:
        yield "  no alphas: the scale is 1"


def _fact(key: str, value: Any) -> Iterator[str]:
    if key in SENTENCES:
        yield "  " + SENTENCES[key](value)
    elif isinstance(value, bool):
        yield f"  {key.replace('_', ' ')}: yes"
    elif isinstance(value, list):
        yield f"  {key}: " + ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    elif not isinstance(value, dict):
        yield f"  {key.replace('_', ' ')}: {value}"
    if key in ("unknown_keys", "first_keys"):
        yield from (f"    {name}" for name in value[:SHOWN])
    elif key == "components":
        for name, part in value.items():
            yield f"    {name}: {part['parameters']:,} parameters, {_size(part['bytes'])}, {part['files']} files"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.2f} MiB"


SENTENCES: Mapping[str, Callable[[Any], str]] = {
    "bytes": lambda value: f"size: {_size(value)}",
    "parameters": lambda value: f"parameters: {value:,}",
    "dtypes": lambda value: "dtypes: " + ", ".join(f"{count} {dtype}" for dtype, count in value.items()),
    "expert_hint": lambda value: f"expert: perhaps {value}-noise (a hint from the file's name, no more)",
    "image_keys": lambda value: f"image keys: {value}, of the branch that only Wan 2.1 has; set aside on Wan 2.2",
    "unknown_keys": lambda value: f"unknown keys: {len(value)}, for which svid refuses the file",
    "first_keys": lambda value: f"its first {len(value)} keys:",
    "components": lambda value: f"components: {len(value)}",
}
"""How a fact is said where its bare value would not do."""
