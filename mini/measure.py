"""Drift of a chain by segment: how brightness, contrast, saturation and sharpness go away from the first segment beyond
what they should, whether subjects are kept, and how much the picture jumps where segments meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from chain import Stream, Way
from detect import LAST, presence
from draw import draw

STATISTICS = ("brightness", "contrast", "saturation", "sharpness")


def statistics(video: torch.Tensor) -> torch.Tensor:
    """[n, H, W, 3] in [0, 1] to the four STATISTICS, averaged over frames.

    Mean and spread of the luma, mean distance of the brightest from the darkest colour channel, mean step of the luma
    from pixel to pixel."""
    luma = video @ torch.tensor([0.299, 0.587, 0.114], device=video.device)
    chroma = video.amax(-1) - video.amin(-1)
    steps = (luma[:, :, 1:] - luma[:, :, :-1]).abs().mean() + (luma[:, 1:] - luma[:, :-1]).abs().mean()
    return torch.stack([luma.mean(), luma.std((1, 2)).mean(), chroma.mean(), steps])


def jump(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean difference of two frames [H, W, 3]."""
    return float((after - before).abs().mean())


SEAMS = ("head", "tail", "blend")
STREAM = "stream"
"""Both segments decoded as one stream; the repeated latents of the new one are left out."""


def joined(before: torch.Tensor, after: torch.Tensor, overlap: int, seam: str) -> torch.Tensor:
    """The frames around a join: of `before` [overlap + 1, H, W, 3], the last ones of a segment, and `after`, the next
    one whole, the repeated frames of one or the other, or a mix of both."""
    if seam == "head":
        return torch.stack([before[-1], after[overlap]])
    if seam == "tail":
        return torch.stack([before[0], after[0]])
    share = (torch.arange(overlap) + 1.0)[:, None, None, None] / (overlap + 1)
    mixed = (1 - share) * before[1:] + share * after[:overlap]
    return torch.cat([before[:1], mixed, after[overlap : overlap + 1]])


def worst(found: torch.Tensor, true: torch.Tensor) -> float:
    """The largest jump from frame to frame beyond the truth's."""
    pairs = zip(found, found[1:], true, true[1:], strict=False)
    return max(jump(a, b) - jump(c, d) for a, b, c, d in pairs)


def kept(video: torch.Tensor, truth: torch.Tensor, colour: str) -> bool:
    """Whether the last frames show half to twice as much of `colour` as they should."""
    found, real = (float(presence(v[-LAST:], colour).mean()) for v in (video, truth))
    return 0.5 * real <= found <= 2 * real and real > 0


@dataclass(frozen=True)
class Row:
    """One segment over all streams.

    `drift`: by statistic, the mean absolute change since the first segment beyond the truth's; `seams`: for each way to
    show a seam, the largest jump at the join less the truth's, 0 in the first segment; `streams`: `drift_of` of each
    stream by itself."""

    segment: int
    drift: dict[str, float]
    kept: float
    seams: dict[str, float]
    streams: list[float]

    @property
    def seam(self) -> float:
        """The seam as svid shows it on the miniature unless told otherwise: as one stream where there can be one."""
        return self.seams.get(STREAM, self.seams["head"])


Decoded = Iterable[tuple[torch.Tensor, torch.Tensor | None]]


def measure(way: Way, streams: list[Stream], segments: Decoded, height: int, width: int) -> list[Row]:
    """Rows of a chain as `chain.chain` yields it."""
    truths = [stream.truth(way) for stream in streams]
    rows: list[Row] = []
    first: torch.Tensor | None = None
    overlap = way.overlap
    last = last_true = None
    for index, (videos, streamed) in enumerate(segments):
        real = torch.stack([draw(truth[index], height, width) for truth in truths])
        videos = videos.cpu()
        gaps = torch.stack([statistics(v) - statistics(r) for v, r in zip(videos, real, strict=True)])
        first = gaps if first is None else first
        changes = (gaps - first).abs()
        held = [
            kept(v, r, subject.colour)
            for v, r, truth in zip(videos, real, truths, strict=True)
            for subject in truth[index][-1].subjects
        ]
        seams = dict.fromkeys(SEAMS, 0.0)
        if last is not None and last_true is not None:
            for name in SEAMS:
                joins = (joined(*pair, overlap, name) for pair in zip(last, videos, strict=True))
                true_joins = (joined(*pair, overlap, name) for pair in zip(last_true, real, strict=True))
                excess = [worst(a, b) for a, b in zip(joins, true_joins, strict=True)]
                seams[name] = sum(excess) / len(excess)
            if streamed is not None:
                true_joins = (joined(*pair, overlap, "head") for pair in zip(last_true, real, strict=True))
                excess = [worst(a, b) for a, b in zip(streamed.cpu(), true_joins, strict=True)]
                seams[STREAM] = sum(excess) / len(excess)
        last, last_true = videos[:, -overlap - 1 :], real[:, -overlap - 1 :]
        drift = dict(zip(STATISTICS, changes.mean(0).tolist(), strict=True))
        each = [round(one, 3) for one in (100 * changes[:, :3].mean(1)).tolist()]
        rows.append(Row(index + 1, drift, sum(held) / len(held), seams, each))
    return rows


def drift_of(row: Row) -> float:
    """One number: the mean over brightness, contrast and saturation, in hundredths of the range."""
    return 100 * sum(row.drift[name] for name in STATISTICS[:3]) / 3
