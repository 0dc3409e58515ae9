"""Kind `stitch`: two clips, or a chain of them, blended or cut where they overlap."""

from __future__ import annotations

import re

import torch

from svid.api import Job, Segment
from svid.layout import TAIL_FRAMES, Layout, Seams, seams
from svid.media.blend import as_levels, linear_blend
from svid.testing import make_segment
from tests.parity import layouts, production
from tests.parity.cases import Case, Fields, NotUnderstood, Tensors
from tests.parity.comparison import Comparison

NOT_OFFERED = ("ease_in_out", "filmic_crossfade")
SIDES = ("source", "new_images")


def compare(case: Case, found: Comparison) -> None:
    """Two clips in several modes, or the clips of a recorded video."""
    case.tolerances.allow("blend_f32", "u8_max", "cut")
    work = production.job(layouts.recipe("svi-2.0-pro"))
    if "frames_from" in case.params:
        _chain(case, found, work)
        return
    found.same("source_frames", len(case.inputs["source_images"]), case.params["source_frames"])
    found.same("new_frames", len(case.inputs["new_images"]), case.params["new_frames"])
    for sub in case.params.tables("sub"):
        with found.going_on():
            _pair(case, found, work, sub)
            sub.done()


def _pair(case: Case, found: Comparison, work: Job, sub: Fields) -> None:
    """One mode. `side` says which clip a cut takes the frames from that both have, by KJNodes' names: `source` leaves
    them out of the earlier clip, `new_images` out of the later one. Of a blend it turns the direction around."""
    old, new, overlap = case.inputs["source_images"], case.inputs["new_images"], sub["overlap"]
    mode, side, index = sub["mode"], sub["side"], sub["index"]
    if side not in SIDES or mode not in ("cut", "linear_blend", *NOT_OFFERED):
        raise NotUnderstood(f"{sub.where}: expected a mode and a side that are known, found {mode!r} and {side!r}")
    blended = [f"{name}.{index}" for name in ("blend_f32", "blend_u8_trunc")]
    if mode in NOT_OFFERED:
        sub.allow("num_frames", "prefix_frames", "suffix_from_new")
        for name in blended:
            found.set_aside(name, f"mode {mode}, which svid does not offer: an overlap is blended linearly or cut")
        return
    if mode == "cut":
        seam = {"source": "tail", "new_images": "head"}[side]
        shown = production.stitched(work, _segments([old, new], overlap, seam), [old, new])
        found.compare(f"cut, {side}", shown, case.expected[f"extended_u8.{index}"], case.tolerances["cut"])
        found.same("num_frames", len(shown), sub["num_frames"])
        return
    first, second = (old[-overlap:], new[:overlap])[:: 1 if side == "source" else -1]
    mixed = linear_blend(first, second)
    found.close(f"blend_f32, {side}", mixed, blended[0], case.tolerances["blend_f32"])
    most = case.tolerances["u8_max"]
    found.levels(f"blend_u8_trunc, {side}", as_levels(mixed), blended[1], most, 1.0)
    prefix, suffix = len(old) - overlap, overlap
    found.same("prefix_frames", prefix, sub["prefix_frames"])
    found.same("suffix_from_new", suffix, sub["suffix_from_new"])
    found.same("num_frames", prefix + len(new), sub["num_frames"])
    if side == "new_images":
        found.set_aside(f"the whole of linear_blend, {side}", "svid mixes from the earlier clip to the later one")
    elif overlap > TAIL_FRAMES:
        found.set_aside(f"the whole of linear_blend, {overlap}", f"svid blends {TAIL_FRAMES} frames at the most")
    else:
        whole = torch.cat([old[:prefix], case.expected.peek(blended[1]), new[suffix:]])
        shown = production.stitched(work, _segments([old, new], overlap, "blend"), [old, new])
        _blended(found, "linear_blend, whole", shown, whole, {prefix: overlap}, most)


def _blended(
    found: Comparison, label: str, shown: torch.Tensor, whole: torch.Tensor, at: dict[int, int], most: float
) -> None:
    """Frames that are blended may be off by `most`; all others are copies."""
    found.compare_levels(label, shown, whole, most)
    if shown.shape == whole.shape:
        copied = torch.ones(len(whole), dtype=torch.bool)
        for start, overlap in at.items():
            copied[start : start + overlap] = False
        found.compare("frames beside the blend", shown[copied], whole[copied])


def _segments(clips: list[torch.Tensor], overlap: int, seam: str) -> list[Segment]:
    """The clips as segments of a chain whose seams are svid's for this overlap."""
    later = _seam(overlap, seam).model_dump()
    return [
        make_segment(index=index, frames=len(frames), **(later if index else {})) for index, frames in enumerate(clips)
    ]


def _seam(overlap: int, seam: str) -> Seams:
    """4m + 1 frames are the overlap of m motion latents, other numbers that of as many motion frames. There may be more
    of them than svid gives to a segment; they are cut like any."""
    whole = overlap > 1 and overlap % 4 == 1
    if not whole and overlap > TAIL_FRAMES:
        return Seams(parent_trim=overlap) if seam == "tail" else Seams(overlap=overlap)
    motion = {"motion_latents": overlap // 4} if whole else {"motion_frames": overlap}
    return seams(Layout.model_validate({"seam": seam, **motion}), first=False, cut=False)


def _chain(case: Case, found: Comparison, work: Job) -> None:
    p = case.params
    file, key = re.fullmatch(r"(\S+) (clip\{i\}\.frames)", p["frames_from"]).groups()
    if (p["mode"], p["side"]) != ("linear_blend", "source"):
        raise NotUnderstood(f"params: expected linear_blend and source, found {p['mode']!r} and {p['side']!r}")
    overlap, count, recorded = p["overlap"], p["num_clips"], Tensors(case.file(file))
    clips = [recorded.peek(key.replace("{i}", str(index))) for index in range(count)]
    shown = production.stitched(work, _segments(clips, overlap, "blend"), clips)
    found.same("num_frames", len(shown), p["num_frames"])
    found.close("stitched.num_frames", torch.tensor([len(shown)]), "stitched.num_frames", 0)
    whole, at = clips[0], {}
    for index, frames in enumerate(clips[1:], start=1):
        start, blend = len(whole) - overlap, case.expected[f"seam{index}.blend_u8_trunc"]
        found.close("seam.start", torch.tensor([start]), f"seam{index}.start", 0)
        whole, at = torch.cat([whole[:-overlap], blend, frames[overlap:]]), {**at, start: overlap}
    _blended(found, "stitched", shown, whole, at, case.tolerances["u8_max"])
