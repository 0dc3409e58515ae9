"""Pictures and clips."""

from __future__ import annotations

import functools
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile import clips
from tests.hostile.kinds.kind import Kind
from tests.hostile.kinds.renders import ready, use
from tests.hostile.mutate import mutated

CAP = 200_000
"""Pixels of a picture."""


@functools.cache
def _pictures() -> tuple[bytes, ...]:
    y, x = np.mgrid[0:30, 0:50]
    photo = Image.fromarray(np.stack([x * 5, y * 8, (x + y) * 3], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    made = []
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PNG", {}),
        ("PNG", {"exif": exif}),
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True, "exif": exif}),
        ("WEBP", {"save_all": True, "append_images": [photo.rotate(9)]}),
    )
    for kind, options in ways:
        out = io.BytesIO()
        photo.save(out, kind, **options)
        made.append(out.getvalue())
    for mode in ("P", "LA", "I;16", "1"):
        out = io.BytesIO()
        other = photo.convert("L").convert("I") if mode == "I;16" else photo.convert(mode)
        (other.convert("I;16") if mode == "I;16" else other).save(out, "PNG")
        made.append(out.getvalue())
    return tuple(made)


def _picture(dice: random.Random) -> bytes:
    return mutated(dice.choice(_pictures()), dice, _pictures())


def _read_picture(data: bytes, folder: Path) -> None:
    from svid.media.images import open_picture, pixel_digest

    file = folder / "x.png"
    file.write_bytes(data)
    image = open_picture(file, CAP, shown="x.png")
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= CAP
    pixel_digest(image)
    use("x.png", data)


def _clip(dice: random.Random) -> bytes:
    return mutated(dice.choice(clips.corpus()), dice, clips.corpus())


def _read_clip(data: bytes, folder: Path) -> None:
    from svid.media.probing import probe
    from svid.media.reading import read_frames

    file = folder / "x.mp4"
    file.write_bytes(data)
    count, fps, width, height = probe(file, "x.mp4")
    assert count > 0
    assert 1 <= fps <= 240
    assert width > 0
    assert height > 0
    sizes = [tuple(frame.shape) for frame in read_frames(file, "x.mp4")]
    assert len(set(sizes)) <= 1, "frames of several sizes"
    if count >= 5:  # what a video can go on from
        use("x.mp4", data, whole=len(sizes) == count)


PICTURE = Kind(_picture, _read_picture, ready=ready)
CLIP = Kind(_clip, _read_clip, mutated, ready)
