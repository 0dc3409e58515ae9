"""Write the embedded model `wan21-mini` and its LoRAs: real Wan I2V classes, tiny, with seeded random weights.

They prove the whole chain on a CPU in seconds; what they draw means nothing (`wan22-mini` is trained, by `train.py`).
Shapes follow Wan 2.1 I2V 14B (one transformer with an image branch, CLIP with 257 tokens, 36 input channels, the Wan
2.1 VAE with its real normalization, UMT5 text); LoRA keys follow the SVI authors' files.
Run `python mini/make_random.py [DIR]`; the same versions of torch and diffusers give the same bytes.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizer import VOCABULARY, write_tokenizer
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

EMBEDDED = Path(__file__).resolve().parent.parent / "svid" / "embedded"
SEEDS = {"transformer": 2101, "vae": 2104, "text_encoder": 2204, "image_encoder": 2102, "loras": 2103}
RANK = 4
TEXT_DIM = 64
IMAGE_DIM = 32
LORA_STD = 0.08
"""Both factors of a LoRA: a delta of about 0.08**2 * sqrt(rank) per weight, a tenth of a weight's own spread."""

README = """# {title}

Random weights, made by `mini/make_random.py` of the svid repository. Nothing here was trained: what is drawn with
these files means nothing. They have the classes, names and formats of the real ones, small enough to render on a CPU.

Seeds: {seeds}.
"""


def scaled(module: nn.Module, gain: float) -> None:
    """Redraw every convolution and matrix with std gain / sqrt(fan_in), biases zero: activations keep their size."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def smoothed(module: nn.Module) -> None:
    """Redraw every convolution as one random matrix times a blur, so that what is decoded is clouds and not static."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.weight[0, 0].numel() > 1:
            blur = torch.ones(())
            for size in layer.kernel_size:
                taps = torch.hann_window(size + 2, periodic=False)[1:-1]
                if size == 3 and blur.ndim == 0 and isinstance(layer, nn.Conv3d):
                    taps = torch.tensor([0.1, 0.3, 0.6])  # in time: a first frame has nothing before it
                blur = blur[..., None] * (taps / taps.sum())
            mix = torch.randn(layer.weight.shape[:2]) / math.sqrt(layer.weight.shape[1])
            if layer.kernel_size == (3, 1, 1):
                mix = mix[: len(mix) // 2].repeat(2, 1)  # the two frames that the upsampler makes of one begin alike
            layer.weight.data.copy_(mix.view(*mix.shape, *[1] * blur.ndim) * blur)


def make_transformer(seed: int) -> Any:
    """Wan 2.1's transformer, which attends to a picture, too. The last projection is small, so that a segment stays
    near the spread of its noise."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=128,
        in_channels=36,
        out_channels=16,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=256,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        image_dim=IMAGE_DIM,
        added_kv_proj_dim=128,
    )
    scaled(model, 1.0)
    nn.init.normal_(model.proj_out.weight, std=0.6 / math.sqrt(128))
    model.condition_embedder.text_embedder.linear_2.weight.data.mul_(4)  # or prompts would hardly count
    return model


def make_image_encoder(seed: int) -> Any:
    """A CLIP vision transformer of two layers with the real grid: 224 / 14 squared patches and a class token."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=IMAGE_DIM,
        intermediate_size=2 * IMAGE_DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=14,
    )
    model = CLIPVisionModel(config)
    scaled(model, 1.0)
    return model


def make_vae(seed: int) -> Any:
    """The Wan 2.1 VAE with 6 instead of 96 base channels; mean and std of the latents are the real ones."""
    torch.manual_seed(seed)
    vae = AutoencoderKLWan(
        base_dim=6, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True]
    )
    scaled(vae, 1.0)
    smoothed(vae.decoder)
    std = torch.tensor(vae.config.latents_std).repeat(2)[:, None, None, None, None]
    mean = torch.tensor(vae.config.latents_mean)
    # The latents of a picture come out near Wan's own statistics, so that their normalized values have a spread near 1.
    vae.quant_conv.weight.data.mul_(std * 3)
    vae.quant_conv.bias.data[:16].copy_(mean)
    vae.post_quant_conv.weight.data.div_(std[:16].squeeze()[None, :, None, None, None])
    vae.decoder.conv_out.weight.data.mul_(0.5)
    return vae


def make_text_encoder(seed: int) -> Any:
    """UMT5 with two layers; the spread of its output is near 1, as the last norm leaves it."""
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=VOCABULARY,
        d_model=TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    model = UMT5EncoderModel(config)
    scaled(model, 1.0)
    return model


def lora_pairs(generator: torch.Generator, std: float) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(A [4, in], B [out, 4]) of what SVI trains: q, k, v, o and the feed-forward layers, by the authors' names."""
    attention = [f"{kind}_attn.{part}" for kind in ("self", "cross") for part in "qkvo"]
    shapes = dict.fromkeys(attention, (128, 128)) | {"ffn.0": (256, 128), "ffn.2": (128, 256)}
    draw = {}
    for block in range(2):
        for name, (rows, columns) in shapes.items():
            down = torch.randn(RANK, columns, generator=generator) * std
            up = torch.randn(rows, RANK, generator=generator) * std
            draw[f"blocks.{block}.{name}"] = down.bfloat16(), up.bfloat16()
    return draw


def first_keys(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As the SVI 1.0 authors save: `pipe.dit.`, `.default.`, no alpha."""
    return {f"pipe.dit.{key}": value for key, value in official_keys(pairs).items()}


def official_keys(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As the SVI 2.0 authors save: no prefix, `.default.`, no alpha."""
    keys = {}
    for name, (down, up) in pairs.items():
        keys[f"{name}.lora_A.default.weight"] = down
        keys[f"{name}.lora_B.default.weight"] = up
    return keys


def comfy_keys(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As ComfyUI trainers save: `diffusion_model.`, down and up, an alpha (here half the rank, so it counts)."""
    keys = {}
    for name, (down, up) in pairs.items():
        keys[f"diffusion_model.{name}.lora_down.weight"] = down
        keys[f"diffusion_model.{name}.lora_up.weight"] = up
        keys[f"diffusion_model.{name}.alpha"] = torch.tensor(RANK / 2)
    return keys


def save_json(path: Path, value: Any) -> None:
    """Write JSON with a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_index(folder: Path, one: bool) -> None:
    """`model_index.json` and the scheduler, so that diffusers' own pipeline loads the folder too. `one`: Wan 2.1."""
    wan, none = ["diffusers", "WanTransformer3DModel"], [None, None]
    save_json(
        folder / "model_index.json",
        {
            "_class_name": "WanImageToVideoPipeline",
            "boundary_ratio": None if one else 0.9,
            "expand_timesteps": False,
            "image_encoder": ["transformers", "CLIPVisionModel"] if one else none,
            "image_processor": ["transformers", "CLIPImageProcessor"] if one else none,
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            "transformer": wan,
            "transformer_2": none if one else wan,
            "vae": ["diffusers", "AutoencoderKLWan"],
        },
    )
    save_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "UniPCMultistepScheduler",
            "flow_shift": 3.0 if one else 5.0,
            "num_train_timesteps": 1000,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
        },
    )


def write_model(folder: Path) -> None:
    """The whole folder in diffusers layout, bf16 safetensors: one transformer and the image encoder."""
    make_transformer(SEEDS["transformer"]).bfloat16().save_pretrained(folder / "transformer")
    make_image_encoder(SEEDS["image_encoder"]).bfloat16().save_pretrained(folder / "image_encoder")
    make_vae(SEEDS["vae"]).bfloat16().save_pretrained(folder / "vae")
    make_text_encoder(SEEDS["text_encoder"]).bfloat16().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    save_json(
        folder / "image_processor" / "preprocessor_config.json",
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "CLIPImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": 224},
        },
    )
    write_index(folder, one=True)
    write_readme(folder, "wan21-mini", SEEDS)


def write_readme(folder: Path, title: str, seeds: dict[str, int]) -> None:
    """Say that the weights are random, and from which seeds."""
    drawn = ", ".join(f"{name} {seed}" for name, seed in seeds.items() if name != "loras")
    (folder / "README.md").write_text(README.format(title=title, seeds=drawn))


def write_loras(folder: Path) -> None:
    """The LoRAs of SVI 1.0 and of SVI 2.0 on Wan 2.1, and one in the place of the distill LoRA of the fast recipe."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(SEEDS["loras"])
    for name in ("svi-film", "svi-film-opt", "svi-film-transitions", "svi-shot", "svi-tom", "svi-2.0-wan21"):
        save_file(first_keys(lora_pairs(generator, LORA_STD)), folder / f"{name}.safetensors")
    save_file(comfy_keys(lora_pairs(generator, LORA_STD)), folder / "distill.safetensors")
    seeds = f"loras {SEEDS['loras']}"
    (folder / "README.md").write_text(README.format(title="LoRAs of wan21-mini", seeds=seeds))


WRITERS = {
    "wan21-mini": write_model,
    "wan21-mini-loras": write_loras,
}


def main() -> None:
    """Write the folders under the directory given, or into the package."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else EMBEDDED
    for name, write in WRITERS.items():
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # the savers make them private, a package is for everybody
        print(f"{sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()):>9} bytes  {folder.name}")


if __name__ == "__main__":
    main()
