"""The miniature as single files under the authors' key names: `python mini/single_file.py TARGET_FOLDER`.

ComfyUI, WanVideoWrapper and DiffSynth read Wan as single files with the names of Wan's own code. Names come from that
code (Wan-Video/Wan2.2 wan/modules/model.py and vae2_1.py); diffusers' converters turn them back.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from restore import MODEL
from safetensors.torch import load_file, save_file

EXPERT = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    (".norm2.", ".norm-cross."),  # the authors' norm3 is the one before cross attention
    (".norm-cross.", ".norm3."),
    ("proj_out", "head.head"),
)
RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
VAE = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    "conv_in": "conv1",
    "norm_out": "head.0",
    "conv_out": "head.2",
}
FILES = {
    "transformer": "wan22_mini_i2v_high_noise.safetensors",
    "transformer_2": "wan22_mini_i2v_low_noise.safetensors",
    "vae": "wan22_mini_vae.safetensors",
}


def expert_key(key: str) -> str:
    """A name in WanTransformer3DModel to the one in Wan's own model."""
    for ours, theirs in EXPERT:
        key = key.replace(ours, theirs)
    if key == "scale_shift_table":
        return "head.modulation"
    return key.replace("scale_shift_table", "modulation")


def _residual(rest: str) -> str:
    name, leaf = rest.rsplit(".", 1)
    return f"{RESIDUAL[name]}.{leaf}"


def vae_key(key: str) -> str:
    """A name in AutoencoderKLWan to the one in Wan's own VAE."""
    part, _, rest = key.partition(".")
    if part in ("quant_conv", "post_quant_conv"):
        return f"{VAE[part]}.{rest}"
    head, _, tail = rest.partition(".")
    if head in VAE:
        return f"{part}.{VAE[head]}.{tail}"
    if match := re.fullmatch(r"mid_block\.resnets\.(\d)\.(.+)", rest):
        return f"{part}.middle.{2 * int(match[1])}.{_residual(match[2])}"
    if match := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", rest):
        return f"{part}.middle.1.{match[1]}"
    if match := re.fullmatch(r"down_blocks\.(\d+)\.(.+)", rest):
        inner = match[2] if match[2].startswith(("resample", "time_conv")) else _residual(match[2])
        return f"{part}.downsamples.{match[1]}.{inner}"
    if match := re.fullmatch(r"up_blocks\.(\d)\.resnets\.(\d)\.(.+)", rest):
        return f"{part}.upsamples.{4 * int(match[1]) + int(match[2])}.{_residual(match[3])}"
    if match := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.(.+)", rest):
        return f"{part}.upsamples.{4 * int(match[1]) + 3}.{match[2]}"
    raise KeyError(key)


def authors_keys(component: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of `vae`, `transformer` or `transformer_2` under the authors' names.

    Raises:
        KeyError: a name that the authors have none for.
    """
    rename = vae_key if component == "vae" else expert_key
    return {rename(key): value for key, value in tensors.items()}


def main(arguments: list[str] | None = None) -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL, help="a folder in diffusers layout")
    given = parser.parse_args(arguments)
    source, target = given.model, given.target
    target.mkdir(parents=True, exist_ok=True)
    for component, name in FILES.items():
        (path,) = (source / component).glob("*.safetensors")
        save_file(authors_keys(component, load_file(path)), target / name)
        print(f"{(target / name).stat().st_size:>9} bytes  {name}")


if __name__ == "__main__":
    main()
