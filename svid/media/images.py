"""Input pictures: opened with a content check and a pixel cap, measured, resized; and frames written losslessly."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from svid.errors import MediaError, Problem

if TYPE_CHECKING:
    import torch

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SCANS = 500
"""Of a progressive JPEG. Encoders write about ten; each takes a pass over the whole picture, and an empty one ten
bytes, so that half a megabyte could keep a daemon busy for hours."""

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""

BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow's readers raise on bytes that are not what they claim to be."""


def open_picture(path: Path, max_pixels: int = 178_000_000, shown: str | None = None) -> Image.Image:
    """The picture at `path`, decoded, as RGB, turned as its EXIF orientation says; the first frame of an animation.

    PNG, JPEG and WEBP are told by their content, never by their name. The size is judged by the header, before any
    pixel is decoded. `shown` is how errors name the file. Transparency is dropped, not blended, and a colour
    profile is not applied, as with the SVI authors (`profiles.in_srgb` is for pictures that come in).

    Raises MediaError where the file can't be read, is of another type, is damaged, or has more than `max_pixels`
    pixels.
    """
    file = shown or str(path)
    if not path.is_file():
        raise MediaError(
            Problem(
                file,
                "",
                "expected a PNG, JPEG or WEBP file, found none"
                if not path.exists()
                else "expected a PNG, JPEG or WEBP file, found something that is no regular file",
            )
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which are of no account, and of sizes other than our cap.
            warnings.simplefilter("ignore")
            picture = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise MediaError(_too_large(file, max_pixels, str(error))) from error
    except UnidentifiedImageError as error:
        raise MediaError(Problem(file, "", f"expected a PNG, JPEG or WEBP picture, found {_kind(path)}")) from error
    except BROKEN as error:
        raise MediaError(_damaged(file, error)) from error
    with picture, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about its metadata is of no account
        if picture.width * picture.height > max_pixels:
            found = f"{picture.width}x{picture.height}"
            raise MediaError(_too_large(file, max_pixels, found))
        if picture.format in ("JPEG", "MPO") and _scans(path) > MAX_SCANS:
            message = f"expected at most {MAX_SCANS} scans of a progressive JPEG, found more"
            raise MediaError(Problem(file, "", message, "save it again"))
        try:
            return _rgb(upright(picture))
        except BROKEN as error:
            raise MediaError(_damaged(file, error)) from error


def upright(picture: Image.Image) -> Image.Image:
    """`picture` turned as its EXIF orientation says, and as it is where that can't be read. Not by Pillow's own
    `exif_transpose`, which also writes the metadata anew and fails on any tag that is not as it should be."""
    try:
        way = picture.getexif().get(ORIENTATION)
    except Exception:  # metadata are of no account, whatever is wrong with them
        return picture
    turn = TURNS.get(way) if isinstance(way, int) else None
    return picture if turn is None else picture.transpose(turn)


def pixel_digest(image: Image.Image) -> str:
    """The sha256 of width, height and RGB bytes: the same for the same pixels, whatever file they came from."""
    digest = hashlib.sha256(f"{image.width}x{image.height} RGB\n".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def resized(image: Image.Image, width: int, height: int) -> torch.Tensor:
    """`image` stretched to `width` x `height`, as uint8 [height, width, 3].

    Bicubic, without a crop and whatever the aspect, because the SVI LoRAs were trained and published that way.
    """
    import torch  # here, so that the command line can check a picture without loading torch

    return torch.from_numpy(np.array(image.convert("RGB").resize((width, height)), dtype=np.uint8))


def write_png(frame: torch.Tensor, out: Path) -> None:
    """Write a frame, uint8 [H, W, 3], to `out` without loss, whatever the name's suffix. Raises MediaError."""
    if str(frame.dtype) != "torch.uint8" or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{str(frame.dtype).removeprefix('torch.')} {list(frame.shape)}"
        raise MediaError(Problem(str(out), "", f"expected a frame of uint8 [H, W, 3], found {found}"))
    try:
        Image.fromarray(frame.cpu().numpy()).save(out, format="PNG")
    except OSError as error:
        raise MediaError(Problem(str(out), "", f"can't be written: {error.strerror or error}")) from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey to 255 instead of scaling it, which turns photographs white.
        grey = np.asarray(picture).astype(np.uint32) >> 8
        picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")


def _scans(path: Path) -> int:
    """How many scans a JPEG has at most: nothing else in its image data may look like the mark of one."""
    found, last = 0, b""
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            found += (last + piece).count(b"\xff\xda")
            last = b"\xff" if piece.endswith(b"\xff") else b""
    return found


def _kind(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(16)
    if not head:
        return "an empty file"
    return f"bytes that begin with {head!r}"


def _too_large(file: str, max_pixels: int, found: str) -> Problem:
    return Problem(file, "", f"expected at most {max_pixels:,} pixels, found {found}", "scale the picture down first")


def _damaged(file: str, error: Exception) -> Problem:
    return Problem(file, "", f"expected a whole picture, found a damaged or truncated one: {error}")
