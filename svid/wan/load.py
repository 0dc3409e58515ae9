"""Loading the components of a checked folder: no network, no pickle, nothing missing and nothing left over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import AutoTokenizer, CLIPVisionModel, PreTrainedTokenizerFast, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from svid.api import Expert
from svid.errors import Problem, WeightsError
from svid.memory import plan_named
from svid.wan.folder import PROCESSOR, read_base, read_summary
from svid.wan.image import ImageEncoder
from svid.wan.memory import place
from svid.wan.model import WanModel
from svid.wan.text import TextEncoder

transformers_logging.disable_progress_bar()


def load_folder(
    path: Path, device: torch.device | str, dtype: torch.dtype | None = None, memory: str = "resident"
) -> WanModel:
    """Check the folder `path`, load it and place it as the memory plan of that name says. `dtype` None: fp32 on a CPU,
    bf16 elsewhere.

    The text encoder has the experts' dtype. The VAE has it on Wan 2.2, as in the authors' code for it (V22
    base_pipeline: bf16), but on a CPU it is fp32 in any case. On Wan 2.1 the VAE and the image encoder are always fp32
    (V1 svi_video.py:300-309,385-389).

    Raises:
        WeightsError: see `read_summary`; also a file that the loader refuses, or tensors missing, left over, of the
            wrong shape or not finite.
    """
    read_summary(path)
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    one = read_base(path) == "wan2.1-i2v"
    folders: dict[Expert, str] = {"high": "transformer"} if one else {"high": "transformer", "low": "transformer_2"}
    # from_pretrained, not .to(dtype), keeps in fp32 the layers that the class names in _keep_in_fp32_modules.
    experts = {expert: _load(path, name, WanTransformer3DModel, torch_dtype=dtype) for expert, name in folders.items()}
    vae = _load(path, "vae", AutoencoderKLWan, torch_dtype=torch.float32 if one or device.type == "cpu" else dtype)
    text = _load(path, "text_encoder", UMT5EncoderModel, dtype=dtype)
    image = _load(path, "image_encoder", CLIPVisionModel, dtype=torch.float32) if one else None
    place(plan_named(memory), device, list(experts.values()), [part for part in (vae, text, image) if part is not None])
    return WanModel(
        experts=experts,
        vae=vae,
        text=TextEncoder(_load_tokenizer(path), text),
        device=device,
        dtype=dtype,
        image=_image_encoder(path, image) if image is not None else None,
    )


def _image_encoder(path: Path, model: Any) -> ImageEncoder:
    try:
        return ImageEncoder(model, json.loads(path.joinpath(*PROCESSOR).read_bytes()))
    except (ValueError, TypeError, RuntimeError) as error:
        message = f"expected three numbers as image_mean and image_std: {error}"
        raise WeightsError(Problem("/".join((path.name, *PROCESSOR)), "", message)) from error


def _load(path: Path, name: str, kind: Any, **options: Any) -> Any:
    label = f"{path.name}/{name}"
    try:
        model, info = kind.from_pretrained(
            path / name, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # a configuration of other types and numbers makes the model's own code raise anything
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
    problems = problems or list(_not_finite(model, label))
    if problems:
        raise WeightsError(problems)
    return model.eval().requires_grad_(False)


def _not_finite(model: Any, label: str) -> Iterator[Problem]:
    """Tensors with NaN or infinity: in the decoder they would become black pictures, and nothing would say so."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            yield Problem(label, name, "expected finite numbers, found infinite ones or NaN", "fetch the weights again")


def _load_tokenizer(path: Path) -> Any:
    """As its tokenizer.json says. Wan's configuration names the class T5Tokenizer, which transformers 5 builds anew
    from the vocabulary, with other unknown tokens than the file's."""
    try:
        if (path / "tokenizer/tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(path / "tokenizer", local_files_only=True)
        return AutoTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise WeightsError(Problem(f"{path.name}/tokenizer", "", f"the loader refuses it: {error}")) from error
