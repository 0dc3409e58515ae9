"""Where the numbers of the recipes were read, as (file:line) of the sources that each plugin's docstring names.

V1: vita-epfl/Stable-Video-Infinity main @34e4c50. V1m: a later main of it (millord237's copy @6b31510). V22: its branch
svi_wan22 (millord237's copy @1cbaf7b). WAN21, WAN22: Wan-Video/Wan2.1 @9737cba, Wan-Video/Wan2.2 @42bf4cf.
"""

from __future__ import annotations

from collections.abc import Mapping

V1: Mapping[str, str] = {
    "frames": "V1 diffsynth/pipelines/svi_video.py:349-351",
    "width": "V1 docs/FAQ.md:36, what the LoRAs were trained at",
    "height": "V1 docs/FAQ.md:36, what the LoRAs were trained at",
    "max_width": "V1 test_svi.py:169-171, utils/image_process.py:59-68",
    "fps": "V1 test_svi.py:483",
    "steps": "V1 test_svi.py:109-117",
    "sampler": "V1 diffsynth/schedulers/flow_match.py:31-64",
    "shift": "V1 diffsynth/pipelines/svi_video.py:144",
    "boundary": "Wan 2.1 has one transformer",
    "base": "V1 test_svi.py:317-338",
    "layout.mask": "V1 diffsynth/pipelines/svi_video.py:319-326",
    "layout.repeat_first": "V1 test_svi.py:378-382",
    "layout.seam": "V1 test_svi.py:473-476",
    "prompt_repeat": "V1 test_svi.py:435-438",
    "seed_stride": "V1 test_svi.py:411-428",
    "loras": "V1 test_svi.py:348",
    "negative": "V1 test_svi.py:236",
}
"""What every recipe of SVI 1.0 has in common, and SVI 2.0 on Wan 2.1 with them."""

V22: Mapping[str, str] = {
    "frames": "V22 inference_svi_2.0_pro.py:182-213",
    "width": "V22 inference_svi_2.0_pro.py:190-209",
    "height": "V22 inference_svi_2.0_pro.py:190-209",
    "fps": "V22 inference_svi_2.0_pro.py:210-214",
    "steps": "V22 diffsynth/pipelines/wan_video_svi_pro.py:221-227",
    "sampler": "V22 diffsynth/diffusion/flow_match.py:30-39,144-154",
    "shift": "V22 diffsynth/diffusion/flow_match.py:30-39",
    "boundary": "V22 diffsynth/pipelines/wan_video_svi_pro.py:226,293, never overridden; Wan's own is 0.9",
    "base": "V22 inference_svi_2.0_pro.py:37-45",
    "layout.mask": "V22 diffsynth/pipelines/wan_video_svi_pro.py:525-529",
    "prompt_repeat": "V22 inference_svi_2.0_pro.py:98",
    "seed_stride": "V22 inference_svi_2.0_pro.py:100,223-228",
    "loras": "V22 inference_svi_2.0_pro.py:44-45",
    "negative": "V22 inference_svi_2.0_pro.py:99",
}
"""What SVI 2.0 and 2.0 Pro on Wan 2.2 have in common."""

WAN22: Mapping[str, str] = {
    "frames": "WAN22 wan/configs/shared_config.py",
    "width": "WAN22 README, 480P",
    "height": "WAN22 README, 480P",
    "fps": "WAN22 wan/configs/shared_config.py",
    "steps": "WAN22 wan/configs/wan_i2v_A14B.py:34",
    "sampler": "WAN22 wan/image2video.py:343",
    "shift": "WAN22 wan/configs/wan_i2v_A14B.py:34-37",
    "guidance.high": "WAN22 wan/configs/wan_i2v_A14B.py:37",
    "guidance.low": "WAN22 wan/configs/wan_i2v_A14B.py:37",
    "boundary": "WAN22 wan/configs/wan_i2v_A14B.py:36",
    "base": "WAN22 wan/configs/wan_i2v_A14B.py",
    "layout.mask": "WAN22 wan/image2video.py:289-296",
    "layout.pad": "WAN22 wan/image2video.py:319",
    "negative": "WAN22 wan/configs/shared_config.py:19",
}
"""Wan 2.2 I2V's own."""

WAN21: Mapping[str, str] = {
    "steps": "WAN21 generate.py:74",
    "sampler": "WAN21 wan/image2video.py",
    "shift": "WAN21 generate.py:77-79, for 480p; 5 for 720p",
    "guidance.high": "WAN21 generate.py",
    "guidance.low": "Wan 2.1 has one transformer, which `high` is for",
    "boundary": "Wan 2.1 has one transformer",
    "base": "WAN21 wan/configs/wan_i2v_14B.py",
    "negative": "WAN21 wan/configs/shared_config.py",
}
"""Wan 2.1 I2V's own, where they differ from Wan 2.2's."""


def sources(*common: Mapping[str, str], **own: str) -> dict[str, str]:
    """The sources of a recipe: later ones before earlier ones, `layout_pad` for `layout.pad`."""
    merged: dict[str, str] = {}
    for one in common:
        merged |= one
    dotted = {"guidance": ("guidance.high", "guidance.low")}
    for key, source in own.items():
        for name in dotted.get(key, (key.replace("layout_", "layout.", 1),)):
            merged[name] = source
    return merged
