"""How good a miniature is: `python mini/judge.py [MODEL_FOLDER [LORA_FOLDER]] [--sheet PNG]` prints one JSON
object about that of the package, or another one.

VAE: PSNR on held-out segments, of the whole frame and inside the subjects. I2V: of held-out captions over 81 frames,
how many subjects are kept with the right colour, how many go the right way, PSNR against the truth. Hard cuts, with
LoRAs: how many happen where the text implies, by plain I2V and in a chain of SVI 2.0 Pro, how many next segments
stay in the new shot, and how many cuts happen without the LoRA.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from autoencoder import evaluate
from cuts import cut_happens, hard_cuts
from draw import draw
from PIL import Image
from restore import LORAS, MODEL, Miniature, restore
from samples import Sample, draw_sample
from score import SCORED, held_out, render, score


def sheet(videos: torch.Tensor, samples: list[Sample], path: Path, columns: int = 9) -> None:
    """Rows in pairs, the truth above what was rendered, `columns` frames evenly over each."""
    rows = []
    for video, sample in zip(videos.cpu(), samples, strict=True):
        truth = draw(sample.frames, *video.shape[1:3])
        at = torch.linspace(0, len(video) - 1, columns).round().long().tolist()
        rows += [torch.cat([frames[i] for i in at], 1) for frames in (truth, video)]
    image = (torch.cat(rows) * 255).round().clamp(0, 255).byte().numpy()
    Image.fromarray(image).resize((2 * image.shape[1], 2 * image.shape[0]), Image.Resampling.NEAREST).save(path)


def rendered(mini: Miniature, samples: list[Sample], steps: int, batch: int = 16) -> torch.Tensor:
    """Videos of all samples, a batch at a time."""
    parts = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    return torch.cat(
        [
            render(mini.experts, mini.prompts, mini.encoder, part, steps, seed=5 + i).cpu()
            for i, part in enumerate(parts)
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("loras", type=Path, nargs="?")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    mini = restore(given.model or MODEL)
    loras = given.loras if given.model else LORAS
    height, width = mini.encoder.height, mini.encoder.width
    found = {f"vae_{k}": v for k, v in evaluate(mini.encoder.vae, 16, 81, height, width).items()}
    samples = held_out(given.count, width / height)
    videos = rendered(mini, samples, given.steps)
    found |= score(videos, samples, height, width)
    if given.sheet is not None:
        sheet(videos[:8], samples[:8], given.sheet)
    if loras is not None:
        cuts = [draw_sample(SCORED + 100_000 + i, width / height, "cut") for i in range(given.count)]
        shares, shown = hard_cuts(mini, loras, cuts, given.steps)
        found |= shares | {"cut_without": sum(map(cut_happens, rendered(mini, cuts, given.steps))) / given.count}
        if given.sheet is not None:
            for name, some in shown.items():
                sheet(some[:8], cuts[:8], given.sheet.with_stem(f"{given.sheet.stem}-{name}"))
    print(json.dumps({"count": given.count, "steps": given.steps, **{k: round(v, 4) for k, v in found.items()}}))


if __name__ == "__main__":
    main()
