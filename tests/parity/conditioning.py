"""Kind `conditioning`: y of one segment, and the strength of a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from svid.api import Carry, Picture, Recipe, Sampling, Segment
from svid.layout import Layout
from svid.wan.conditioning import strengthened
from svid.wan.model import WanModel
from svid.wan.vae import latent_statistics
from tests.parity import layouts, production, weights
from tests.parity.cases import Case, Fields, NotUnderstood
from tests.parity.comparison import MEAN, Comparison

STRENGTH = "drozbay-svi-reference-strength"
PROSE = ("end_frame_rule", "rule", "mask_rule")
INPUTS = ("anchor_image", "reference", "motion_frames", "start_images", "last_frame", "end_image", "prev_latents")
"""What a case may bring and not need, because no sub-case asks for it."""


def compare(case: Case, found: Comparison, scratch: Path) -> None:
    """Every sub-case; pictures are written to `scratch`."""
    case.spec.allow("flavour")
    case.params.allow(*PROSE)
    case.inputs.allow(*INPUTS)
    case.tolerances.allow("y", "z_out_native", "z_out_normalized_space")
    for sub in case.params.tables("sub"):
        with found.going_on():
            index = sub["index"]
            if case.variant == STRENGTH:
                _strength(case, found, sub, index)
            else:
                _Sub(case, found, sub, scratch).compare(index)
            sub.done()


def _strength(case: Case, found: Comparison, sub: Fields, index: int) -> None:
    """As svid multiplies, in normalized space; and the same function on raw latents, as the native workflow does."""
    skipped, factor = sub["skip_latents"], sub["multiplier"]
    found.same("skip_latents", (sub["overlap_frames"] - 1) // 4 + 1, skipped)
    mean, std = _statistics(case)
    allowed = case.tolerances
    raw = strengthened(case.inputs["latent_raw"], skipped, factor)
    found.close("raw_out", raw[0], f"raw_out.{index}", allowed["z_out_native"])
    native = (raw - mean) / std
    found.close("z_out_native", native[0], f"z_out_native.{index}", allowed["z_out_native"])
    normalized, name = strengthened(case.inputs["latent_z"], skipped, factor), f"z_out_normalized_space.{index}"
    found.close("z_out_normalized_space", normalized[0], name, allowed["z_out_normalized_space"])


def _statistics(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the case's VAE; a case without one has latents of the VAE that all recordings were made with."""
    return latent_statistics(weights.component(case, case.weights.get("vae", "weights/wan21_vae.safetensors")))


class _Sub:
    """One sub-case as a segment that continues another, or as a first one."""

    def __init__(self, case: Case, found: Comparison, sub: Fields, scratch: Path) -> None:
        self.case, self.found, self.sub, self.scratch = case, found, sub, scratch
        self.carry: Carry | None = None
        self.end: Picture | None = None

    def compare(self, index: int) -> None:
        """Have y built, and compare it and what else was recorded of it."""
        recipe, layout = self._asked()
        wan = weights.model(self.case, sees=recipe.base == "wan2.1-i2v")
        if layout.motion_latents or "prev" in self.sub:
            self.carry = self._previous(wan)
        y = production.conditioned(wan, production.job(recipe), self._segment(layout), self.carry)
        self.found.close("y", y, f"y.{index}", self.case.tolerances["y"])
        self._marked(y)
        self._raw(wan, y[4:][None], index)
        if wan.image is not None and "clip_mean" in self.case.expected:
            self.found.close("clip_mean", wan.image.mean(), "clip_mean", MEAN)

    def _asked(self) -> tuple[Recipe, Layout]:
        variant = self.sub.get("variant", self.case.variant)
        asked = {
            "svi-1.0 / svi-2.0-wan21": self._pixels_wan21,
            "svi-2.0": self._pixels_wan22,
            "svi-2.0-pro": self._latents,
            "comfyui-WanImageToVideo": self._comfy,
        }
        if variant not in asked:
            raise NotUnderstood(f"{self.sub.where}: expected one of the variants {', '.join(asked)}, found {variant!r}")
        return asked[variant]()

    def _tail(self, frames: torch.Tensor) -> None:
        self.carry = Carry("0" * 64, {}, frames)

    def _pixels_wan21(self) -> tuple[Recipe, Layout]:
        """The variants of Wan 2.1 differ in the number of motion frames and in the padding."""
        count = self.sub["num_motion_frames"]
        named = {True: ("svi-tom", "svi-film"), False: ("svi-shot", "svi-2.0-wan21")}
        recipe = layouts.recipe(named[self.sub["pad"] == "grey"][count > 1])
        self._tail(self._frames("motion_frames", count))
        return recipe, layouts.layout(recipe.layout, self.sub)

    def _pixels_wan22(self) -> tuple[Recipe, Layout]:
        recipe, end = layouts.recipe("svi-2.0-wan22"), self._ends()
        self._tail(self.case.inputs[self.sub["start"]][None])
        if self.sub["mask_last_pixel_frame"] != end:
            raise NotUnderstood(f"{self.sub.where}.mask_last_pixel_frame: svid marks an end frame where there is one")
        return recipe, _changed(recipe.layout, layouts.padding(self.sub))

    def _comfy(self) -> tuple[Recipe, Layout]:
        recipe, count = layouts.recipe("i2v"), self.sub["start_frames"]
        self._tail(self._frames("start_images", count))
        return recipe, _changed(
            recipe.layout, {"motion_frames": count, "mask": "all-given"} | layouts.padding(self.sub)
        )

    def _latents(self) -> tuple[Recipe, Layout]:
        """SVI 2.0 Pro: the authors' code, KJNodes and Wan2GP name the same things differently."""
        recipe, sub = layouts.recipe("svi-2.0-pro"), self.sub
        names = [key for key in ("num_motion_latent", "motion_latent_count", "motion_latents") if key in sub]
        if len(names) != 1:
            raise NotUnderstood(f"{sub.where}: expected one number of motion latents, found {names or 'none'}")
        count = sub[names[0]]
        self._ends()
        changes = {
            "motion_latents": count,
            "motion_amplitude": sub.get("motion_amplitude", 1.0),
            "amplitude_from": sub.get("motion_amplitude_first_scaled_latent", 1),
        }
        if "pad" in sub:
            changes |= layouts.padding(sub)
        layout = _changed(recipe.layout, changes)
        if "drop_decoded_head_frames" in sub:
            # Wan2GP drops one decoded frame, and then four as the overlap; svid drops five.
            self.found.same("overlap", layout.overlap, 4 * count + sub["drop_decoded_head_frames"])
        return recipe, _changed(layout, {"mask": layouts.mask(sub, layout)})

    def _ends(self) -> bool:
        ends: bool = self.sub.get("end_frame", False)
        if ends:
            self.end = production.picture_of(self.case.inputs["end_image"], self.scratch)
        return ends

    def _frames(self, name: str, count: int) -> torch.Tensor:
        frames = self.case.inputs[name]
        if len(frames) < count:
            raise NotUnderstood(f"inputs: expected {count} frames in {name}, found {len(frames)}")
        return frames[:count]

    def _previous(self, wan: WanModel) -> Carry | None:
        """The segment before: latents, normalized or raw. A case that doesn't say so has one where it has motion."""
        if not self.sub.get("prev", True):
            return None
        if "prev_latents" in self.case.inputs:
            latents = self.case.inputs["prev_latents"][None]
        else:
            mean, std = latent_statistics(wan.vae)
            latents = (self.case.inputs["prev_samples_raw"] - mean) / std
        return Carry("0" * 64, {"latents": latents}, torch.empty(0))

    def _segment(self, layout: Layout) -> Segment:
        sub, inputs = self.sub, self.case.inputs
        known = [name for name in ("anchor_image", "reference") if name in inputs]
        # plain image-to-video has no anchor, so whatever stands there must not matter
        nothing = Picture(self.scratch / "nothing.png", "", "")
        return Segment(
            index=1,
            prompt="",
            negative="",
            seed=0,
            frames=sub["num_frames"],
            width=sub["width"],
            height=sub["height"],
            anchor=production.picture_of(inputs[known[0]], self.scratch) if known else nothing,
            image=None,
            end_image=self.end,
            sampling=Sampling("euler", 1, 5.0, {"high": 1.0, "low": 1.0}, 0.9),
            layout=layout,
        )

    def _marked(self, y: torch.Tensor) -> None:
        """ComfyUI's rule, as a number of latents that are marked in all four sub-channels."""
        if "latents_marked_kept" in self.sub:
            whole = int((y[:4] == 1).all(dim=(0, 2, 3)).sum())
            self.found.same("latents_marked_kept", whole, self.sub["latents_marked_kept"])

    def _raw(self, wan: WanModel, z: torch.Tensor, index: int) -> None:
        """KJNodes' latents before they are normalized, of which the last ones may be recorded; and its anchor's."""
        mean, std = latent_statistics(wan.vae)
        name = f"concat_latent_image_raw.{index}"
        allowed = self.case.tolerances["y"]
        if name in self.case.expected:
            raw = (self.case.expected[name][None] - mean) / std
            self.found.compare("concat_latent_image_raw", z[:, :, -raw.shape[2] :], raw, allowed, name)
        if "anchor_samples_raw" in self.case.inputs:
            raw = (self.case.inputs["anchor_samples_raw"] - mean) / std
            self.found.compare("anchor_samples_raw", z[:, :, : raw.shape[2]], raw, allowed)


def _changed(layout: Layout, changes: dict[str, Any]) -> Layout:
    return Layout.model_validate(layout.model_dump() | changes)
