"""The stage `export`: what was trained, in bf16, in the folders that the package has."""

from __future__ import annotations

import shutil
from pathlib import Path

from make_random import write_index
from options import Options, averaged, load_averages, load_vae, log
from safetensors.torch import load_file, save_file
from tokenizer import TRAINED_WORDS, write_tokenizer
from train_loras import PLANS

MODEL, LORAS = "wan22-mini", "wan22-mini-loras"
README = """# {title}

Trained from nothing by `mini/train.py` of the svid repository on video that `mini/world.py` draws: flat shapes that
move over textured backgrounds. It has the classes, names and formats of Wan 2.2 I2V A14B, and knows nothing else than
that world. `docs/mini.md` says how it was trained and what it can do.
"""


def folder_bytes(folder: Path) -> int:
    """The size of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
        save_file({key: value.bfloat16() for key, value in load_file(path).items()}, loras / path.name)
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)  # the savers make them private, a package is for everybody
    log(options, "export", {folder.name: folder_bytes(folder) for folder in (model, loras)})
