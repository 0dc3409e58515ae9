"""Hard cuts: whether they happen, where the text implies, and whether the segment after one stays in the new shot."""

from __future__ import annotations

from pathlib import Path

import torch
from chain import I2V, PRO, Way, conditions
from draw import draw
from flow import sample
from grammar import caption
from measure import kept
from restore import Applied, Miniature
from samples import Sample
from score import pixels_of
from world import CUT_FRAME, SEGMENT, Action, Scene, Script, timeline

from svid.wan.prompts import NEGATIVE_ZH

CUT_JUMP = 0.06
"""Mean change of a frame, of the range from 0 to 1, above which it is a cut: motion stays below a third of it."""
CUT_NEAR = 4
"""Frames around the place that the text implies: one latent."""
LORA = "hard-cut"
BATCH = 16


def cut_happens(video: torch.Tensor) -> bool:
    """Whether a video [n, H, W, 3] in [0, 1] has one jump above CUT_JUMP, and has it where the caption implies."""
    jumps = (video[1:] - video[:-1]).abs().mean((1, 2, 3))
    large = (jumps > CUT_JUMP).nonzero().flatten() + 1
    return len(large) > 0 and bool(((large - CUT_FRAME).abs() <= CUT_NEAR).all())


def standing(scene: Scene) -> Script:
    """Nothing happens."""
    return Script(tuple(Action() for _ in scene.subjects))


def files_of(way: Way, loras: Path, cut: bool) -> dict[str, list[tuple[Path, float]]]:
    """What is on the experts in a segment: Pro's LoRA where the chain is Pro's, the cut's on the high-noise expert."""
    chained = ["svi-2.0-pro"] if way.kind == "pro" else []
    names = {"high": chained + [LORA] * cut, "low": chained}
    return {expert: [(loras / f"{name}_{expert}.safetensors", 1.0) for name in names[expert]] for expert in names}


@torch.no_grad()
def render_cuts(
    way: Way, mini: Miniature, loras: Path, samples: list[Sample], steps: int, seed: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    """First segments with a hard cut, and the segments after them, in which the new shot stands still and is the
    anchor: [B, 81, H, W, 3] both."""
    encoder, shown = mini.encoder, []
    start = torch.stack([encoder.pixels(s.frames[:1]) for s in samples]).to(encoder.device)
    last = [s.frames[-1] for s in samples]
    said = [[s.caption for s in samples], [caption(scene, standing(scene)) for scene in last]]
    unsaid, motion = mini.prompts([NEGATIVE_ZH] * len(samples)), None
    for index, captions in enumerate(said):
        condition = conditions(way, encoder, start, start, motion)
        noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(seed + 42 * index))
        with Applied(mini.experts, files_of(way, loras, cut=index == 0)):
            z = sample(mini.experts, noise.to(condition), condition, mini.prompts(captions), steps, unsaid=unsaid)
        shown.append(pixels_of(encoder.vae, z).cpu())
        start = (shown[-1][:, -1:] * 2 - 1).permute(0, 4, 1, 2, 3).to(encoder.device)
        motion = z[:, :, -1:]
    return shown[0], shown[1]


def stays(video: torch.Tensor, scene: Scene) -> bool:
    """Whether a segment after a cut shows the subject of the new shot to its end."""
    truth = draw(timeline(scene, [(standing(scene), SEGMENT - 1)]), *video.shape[1:3])
    return kept(video, truth, scene.subjects[0].colour)


def hard_cuts(
    mini: Miniature, loras: Path, samples: list[Sample], steps: int
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Shares of captions with a cut that cut, by plain I2V and in a Pro chain, and of those the share whose next
    segment stays in the new shot; and the videos of both."""
    found: dict[str, float] = {}
    videos: dict[str, torch.Tensor] = {}
    for way, name in ((I2V, "cut"), (PRO, "cut_pro")):
        parts = [
            render_cuts(way, mini, loras, samples[i : i + BATCH], steps, seed=5 + i)
            for i in range(0, len(samples), BATCH)
        ]
        videos[name], after = (torch.cat([part[side] for part in parts]) for side in (0, 1))
        cut = [index for index, video in enumerate(videos[name]) if cut_happens(video)]
        found[name] = len(cut) / len(samples)
        found[f"{name}_stays"] = sum(stays(after[i], samples[i].frames[-1]) for i in cut) / max(len(cut), 1)
    return found, videos
