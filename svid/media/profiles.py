"""Pictures whose numbers mean other colours than sRGB's, as their ICC profile says: phones save Display P3, cameras
Adobe RGB, and taken for sRGB both look washed out from the first frame on."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

from PIL import Image, ImageChops, ImageCms, ImageStat

from svid.media.images import BROKEN, FORMATS, upright

log = logging.getLogger("svid.media")

SAME = 2
"""Levels of 255 by which two sRGB profiles of different makers may differ. Such a picture keeps its very pixels."""
_MODES = {"RGBA": "RGB", "RGBX": "RGB", "P": "RGB", "PA": "RGB", "LA": "L", "1": "L"}


def in_srgb(path: Path, picture: Image.Image, shown: str) -> Image.Image | None:
    """The picture at `path`, which `open_picture` has opened as `picture`, in sRGB; None where it is that already: it
    has no profile, or one that changes nothing to speak of, or one that can't be read or is for other pixels than the
    picture has, which viewers ignore as well: the log says so, with `shown` as the picture's name. The intent is
    relative colorimetric with black point compensation."""
    # Warnings as with `open_picture`, which has judged the size already.
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as opened:
        profile = opened.info.get("icc_profile")
        if not profile:
            return None
        try:
            turned = upright(opened)
            converted = ImageCms.profileToProfile(
                turned.convert(_MODES.get(turned.mode, turned.mode)),
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, *BROKEN) as error:
            log.warning("%s: taken for sRGB, as its colour profile is not one of such pixels: %s", shown, error)
            return None
    if converted is None:
        return None
    away = ImageStat.Stat(ImageChops.difference(converted, picture)).extrema
    return converted if max(most for _, most in away) > SAME else None
