"""What a case says of its conditioning, in svid's words: the recipe, the layout, the seams."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from svid.api import Recipe
from svid.layout import Layout, Seams, seams
from tests.parity import production
from tests.parity.cases import Fields, NotServed, NotUnderstood

BASES = {"wan21-i2v": "wan2.1-i2v", "wan22-i2v-a14b": "wan2.2-i2v"}
OTHER_NAMES = {
    ("svi-2.0", "wan2.1-i2v"): "svi-2.0-wan21",
    ("svi-2.0", "wan2.2-i2v"): "svi-2.0-wan22",
    ("i2v", "wan2.1-i2v"): "i2v-wan21",
}
"""Variants that are called otherwise than svid's recipes for them."""
SEAMS = {"previous_tail": "tail", "new_head": "head"}
PADS = ("grey", "black", "reference", "zero_latent")


@cache
def _recipes() -> Mapping[str, Recipe]:
    return production.plugins().recipes()


def recipe(variant: str, base: str = "wan2.2-i2v") -> Recipe:
    """The recipe that serves a variant. Raises NotServed where no plugin brings one."""
    name = OTHER_NAMES.get((variant, base), variant)
    if name not in _recipes():
        raise NotServed(f"no plugin serves the variant {variant!r}; recipes: {', '.join(sorted(_recipes()))}")
    return _recipes()[name]


def recipe_on(variant: str, base: str) -> Recipe:
    """The recipe that serves a variant on the base model of a case, whose name is the case's."""
    if base not in BASES:
        recipe(variant)
        raise NotUnderstood(f"case.json.base: expected {' or '.join(BASES)}, found {base!r}")
    found = recipe(variant, BASES[base])
    if found.base != BASES[base]:
        raise NotUnderstood(f"case.json.base: the recipe {found.name} is for {found.base}, the case for {base}")
    return found


def layout(base: Layout, params: Fields) -> Layout:
    """The layout of a recipe with what a case says of motion, padding, mask and the first clip."""
    changes = _motion(base, params) | padding(params)
    after = Layout.model_validate(base.model_dump() | changes)
    changes |= {"mask": mask(params, after), "repeat_first": params.get("repeat_first_clip", base.repeat_first)}
    return Layout.model_validate(after.model_dump() | changes)


def _motion(base: Layout, params: Fields) -> dict[str, Any]:
    if "num_motion_latent" in params:
        # the script for Pro takes a number of motion frames too, and does nothing with it
        params.allow("num_motion_frames", "num_motion_frame")
        return {"motion_latents": params["num_motion_latent"], "motion_frames": 0}
    if base.motion_latents:
        raise NotUnderstood(f"{params.where}: expected 'num_motion_latent', found none")
    return {"motion_frames": params["num_motion_frames"], "motion_latents": 0}


def padding(params: Fields) -> dict[str, Any]:
    """`pad`, and `ref_pad_num` where it is there: 0 is grey, -1 the reference, k > 0 that many copies of it, then
    grey."""
    pad, copies = params["pad"], None
    counted = re.fullmatch(r"(\d+) reference frames? then grey", str(pad))
    if counted:
        pad, copies = "reference", int(counted[1])
    if pad not in PADS:
        raise NotUnderstood(f"{params.where}.pad: expected one of {', '.join(PADS)}, found {pad!r}")
    number = params.get("ref_pad_num")
    if number is not None:
        meant = {0: ("grey", None), -1: ("reference", None)}.get(number, ("reference", number))
        if number < -1 or pad != meant[0] or copies not in (None, meant[1]):
            raise NotUnderstood(f"{params.where}.ref_pad_num: {number!r} does not go with the pad {params['pad']!r}")
        copies = meant[1]
    return {"pad": pad, "pad_copies": copies}


def mask(params: Fields, chosen: Layout) -> str:
    """`mask_kept_pixel_frames`: 1, or the motion as a word or as the number of its frames."""
    kept, given = params.get("mask_kept_pixel_frames", 1), chosen.overlap
    if kept == 1:
        return "first-frame"
    if kept in ("motion", given):
        return "given-frames"
    where = f"{params.where}.mask_kept_pixel_frames"
    raise NotUnderstood(f"{where}: expected 1, 'motion' or {given}, the motion frames, found {kept!r}")


def trimmed(params: Fields, chosen: Layout) -> tuple[Layout, Seams]:
    """The layout with the seam of a case, and what of a seam between its clips is shown."""
    trim = params.table("trim")
    which, frames = trim["which"], trim["frames"]
    trim.done()
    if which == "none" and frames == 0:
        return chosen, Seams()
    if which not in SEAMS:
        raise NotUnderstood(f"{trim.where}.which: expected {', '.join(SEAMS)} or none, found {which!r}")
    chosen = Layout.model_validate(chosen.model_dump() | {"seam": SEAMS[which]})
    if frames == chosen.overlap:
        return chosen, seams(chosen, first=False, cut=False)
    # The script for Pro trims four frames where it is not told otherwise; svid knows better, but cuts the same way.
    return chosen, Seams(parent_trim=frames) if chosen.seam == "tail" else Seams(overlap=frames)
