"""The stage `export`: what was trained, in bf16, in the folders that the package has."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from make_random import write_index
from options import Options, averaged, load_averages, load_vae, log
from safetensors.torch import load_file, save_file
from tokenizer import TRAINED_WORDS, write_tokenizer
from train_loras import PLANS

SHARES = {"svi-2.0-pro_high": 0.7}
"""How much is exported of a LoRA that does better with less of it: on 16 streams of 20 segments that are not the
benchmark's, all of this one drifted by 2.8 at the end (2.3 on average over segments 2 to 20) and kept 65 % of the
subjects, 0.7 of it 2.2 (2.1) and 82 %."""
MODEL, LORAS = "wan22-mini", "wan22-mini-loras"
README = """# {title}

Trained from nothing by `mini/train.py` of the svid repository on video that `mini/world.py` draws: flat shapes that
move over textured backgrounds. It has the classes, names and formats of Wan 2.2 I2V A14B, and knows nothing else than
that world. `docs/mini.md` says how it was trained and what it can do.
"""


def folder_bytes(folder: Path) -> int:
    """The size of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def shared(lora: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """`share` of a LoRA in bf16: its second factors are that much smaller."""
    seconds = ("lora_B", "lora_up")
    return {
        key: (value * share if any(name in key for name in seconds) else value).bfloat16()
        for key, value in lora.items()
    }


def export(options: Options) -> None:
    """Write `DIR/package/wan22-mini` and, as far as they are trained, the LoRAs beside it."""
    target = options.out / "package"
    shutil.rmtree(target, ignore_errors=True)
    model = target / MODEL
    learner = averaged(options, load_averages(options, "experts", {n: n for n in ("high", "low", "text")}))
    for name, part in (("high", "transformer"), ("low", "transformer_2"), ("text", "text_encoder")):
        learner.networks[name].cpu().bfloat16().save_pretrained(model / part)
    vae = load_vae(options).cpu().bfloat16()
    vae.register_to_config(_name_or_path=None)  # or where it was trained would be written down
    vae.save_pretrained(model / "vae")
    write_tokenizer(model / "tokenizer", TRAINED_WORDS)
    write_index(model, one=False)
    (model / "README.md").write_text(README.format(title=MODEL))
    loras = target / LORAS
    loras.mkdir()
    (loras / "README.md").write_text(README.format(title=f"LoRAs of {MODEL}"))
    shipped = (path for name in PLANS for path in (options.out / "loras").glob(f"{name}_*.safetensors"))
    for path in sorted(shipped):
        save_file(shared(load_file(path), SHARES.get(path.stem, 1.0)), loras / path.name)
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)  # the savers make them private, a package is for everybody
    log(options, "export", {folder.name: folder_bytes(folder) for folder in (model, loras)})
