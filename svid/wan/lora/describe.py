"""What a LoRA file is, from its header, without torch. Lenient: keys that `read_lora` would refuse are listed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from svid.errors import Problem, WeightsError
from svid.wan.headers import TensorInfo
from svid.wan.lora.keys import Part, Place, is_image_branch, place
from svid.wan.lora.sort import takes

SPELLINGS = (
    ("pipe.dit", "SVI 1.0 authors or DiffSynth (pipe.dit.)"),
    ("base_model.model.", "PEFT (base_model.model.)"),
    ("transformer", "diffusers (transformer.)"),
    ("model.diffusion_model.", "ComfyUI (model.diffusion_model.)"),
    ("diffusion_model.", "ComfyUI, Kijai or lightx2v (diffusion_model.)"),
    ("lora_unet__", "VideoX-Fun (lora_unet__)"),
    ("lora_unet_", "musubi or kohya (lora_unet_)"),
    ("lycoris_", "LyCORIS (lycoris_)"),
    ("", "no prefix, as SVI 2.0's authors"),
)
METHODS: dict[Part, str] = {
    "down": "LoRA", "up": "LoRA", "magnitude": "DoRA",
    "diff": "diff", "diff_b": "diff", "diff_m": "diff",
    "hada_w1_a": "LoHa", "hada_w2_a": "LoHa",
    "lokr_w1": "LoKr", "lokr_w1_a": "LoKr", "lokr_w2": "LoKr", "lokr_w2_a": "LoKr",
}  # fmt: skip
RANK_AXIS: dict[Part, int] = {"down": 0, "hada_w1_b": 0, "hada_w2_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0}
_EXPERT = re.compile(r"(?i)(?<![a-z])(high|low|h|l)(?:[-_ ]?noise)?(?![a-z])")
_BLOCK = re.compile(r"blocks\.(\d+)")


def is_lora(header: Mapping[str, TensorInfo]) -> bool:
    """Whether the file has a key that only LoRAs have, sound or not."""
    marks = ("lora_", "lokr_", "hada_", "lycoris_")
    # An alpha alone proves nothing: activations have one too.
    diffs = ("diff", "diff_b", "diff_m")
    return any(
        any(mark in key for mark in marks) or ((where := place(key)) is not None and where.part in diffs)
        for key in header
    )


def describe_lora(path: Path, header: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """The file in words and numbers that `json.dumps` takes.

    `formats` and `methods` are what its keys say, `modules` how many modules it changes, `blocks` which, `image_keys`
    how many keys are for the image branch that only Wan 2.1 has, `unknown_keys` those it would be refused for,
    `experts` the experts that its keys name, `expert_hint` what its name suggests (a hint, no more), `alphas` their
    values, None where they can't be told without torch.

    Raises:
        WeightsError: the safetensors reader refuses what `read_header` accepted.
    """
    places = {key: place(key) for key in header}
    known = {key: where for key, where in places.items() if where is not None}
    ours = {key: where for key, where in known.items() if not is_image_branch(where.module)}
    return {
        "kind": "lora",
        "formats": sorted({_spelling(key) for key in known}),
        "methods": sorted({METHODS[where.part] for where in known.values() if where.part in METHODS}),
        "ranks": sorted({_rank(where, header[key]) for key, where in known.items()} - {0}),
        "alphas": _alphas(path, [key for key, where in ours.items() if where.part == "alpha"], header),
        "modules": len({(where.expert, where.module) for where in ours.values()}),
        "blocks": ranges(int(match[1]) for where in ours.values() if (match := _BLOCK.match(where.module))),
        "image_keys": len(known) - len(ours),
        "experts": ["high", "low"] if any(where.expert for where in known.values()) else [],
        "expert_hint": expert_hint(path.name),
        "unknown_keys": [key for key in header if key not in known or not takes(known[key].part, header[key].dtype)],
    }


def expert_hint(name: str) -> str | None:
    """Which expert a file is for as far as its name tells: `high`, `low` or None."""
    found = {match[1].lower()[0] for match in _EXPERT.finditer(name)}
    return {"h": "high", "l": "low"}[found.pop()] if len(found) == 1 else None


def ranges(numbers: Iterable[int]) -> str:
    """`0-2, 7` for 0, 1, 2, 7."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _spelling(key: str) -> str:
    return next(words for prefix, words in SPELLINGS if key.startswith(prefix))


def _rank(where: Place, info: TensorInfo) -> int:
    axis = RANK_AXIS.get(where.part)
    return 0 if axis is None or not info.shape else info.shape[axis]


def _alphas(path: Path, keys: Sequence[str], header: Mapping[str, TensorInfo]) -> list[float] | None:
    """The distinct values of the alphas, else the one that the metadata give. numpy has no bfloat16, hence None."""
    from safetensors import SafetensorError, safe_open

    if any(
        header[key].count != 1 or not takes("alpha", header[key].dtype) or header[key].dtype == "BF16" for key in keys
    ):
        return None
    try:
        with safe_open(path, framework="np") as file:
            values = {float(file.get_tensor(key).reshape(())) for key in keys}
            return sorted(values or set(_configured(file.metadata() or {})))
    except (SafetensorError, OSError) as error:
        message = f"the safetensors reader refuses it: {error}"
        raise WeightsError(Problem(path.name, "", message)) from error


def _configured(metadata: Mapping[str, str]) -> Iterator[float]:
    """The `lora_alpha` of diffusers' adapter configuration, which `read_lora` obeys too."""
    try:
        adapter = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return
    for key, value in adapter.items() if isinstance(adapter, dict) else ():
        if key.rpartition(".")[2] == "lora_alpha" and isinstance(value, int | float):
            yield float(value)
