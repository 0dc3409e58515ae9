"""Loading the components of a checked folder: no network, no pickle, nothing missing and nothing left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import SafetensorError
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from svid.api import Expert
from svid.errors import Problem, WeightsError
from svid.wan.folder import PROCESSOR, read_base
from svid.wan.image import ImageEncoder
from svid.wan.model import WanModel
from svid.wan.text import TextEncoder

transformers_logging.disable_progress_bar()


def load_components(path: Path, device: torch.device | str, dtype: torch.dtype | None) -> WanModel:
    """Load `path`, which `read_summary` has checked. `dtype` None: fp32 on a CPU, bf16 elsewhere.

    The text encoder has the experts' dtype. The VAE has it on Wan 2.2, as in the authors' code for it (V22
    base_pipeline: bf16), but on a CPU it is fp32 in any case. On Wan 2.1 the VAE and the image encoder are always fp32
    (V1 svi_video.py:300-309,385-389).

    Raises:
        WeightsError: a file that the loader refuses, or tensors missing, left over or of the wrong shape.
    """
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    one = read_base(path) == "wan2.1-i2v"
    text = _load(path, "text_encoder", UMT5EncoderModel, dtype=dtype)
    folders: dict[Expert, str] = {"high": "transformer"} if one else {"high": "transformer", "low": "transformer_2"}
    exact = one or device.type == "cpu"
    return WanModel(
        # from_pretrained, not .to(dtype), keeps in fp32 the layers that the class names in _keep_in_fp32_modules.
        experts={
            expert: _load(path, name, WanTransformer3DModel, torch_dtype=dtype).to(device)
            for expert, name in folders.items()
        },
        vae=_load(path, "vae", AutoencoderKLWan, torch_dtype=torch.float32 if exact else dtype).to(device),
        text=TextEncoder(_load_tokenizer(path), text.to(device)),
        device=device,
        dtype=dtype,
        image=_load_image_encoder(path, device) if one else None,
    )


def _load_image_encoder(path: Path, device: torch.device) -> ImageEncoder:
    model = _load(path, "image_encoder", CLIPVisionModel, dtype=torch.float32).to(device)
    return ImageEncoder(model, json.loads(path.joinpath(*PROCESSOR).read_bytes()))


def _load(path: Path, name: str, kind: Any, **options: Any) -> Any:
    label = f"{path.name}/{name}"
    try:
        model, info = kind.from_pretrained(
            path / name, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WeightsError(Problem(label, "", f"the loader refuses it: {error}")) from error
    problems = [
        Problem(label, str(key), message)
        for field, message in (
            ("missing_keys", "expected this tensor, found nothing"),
            ("unexpected_keys", "found a tensor that the model does not have"),
            ("mismatched_keys", "found another shape than the configuration says"),
        )
        for key in sorted(info.get(field) or (), key=str)
    ]
    if problems:
        raise WeightsError(problems)
    return model.eval().requires_grad_(False)


def _load_tokenizer(path: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise WeightsError(Problem(f"{path.name}/tokenizer", "", f"the loader refuses it: {error}")) from error
