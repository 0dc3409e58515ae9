"""Pictures in another colour space become sRGB; all others keep their very pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from svid.media.images import open_picture
from svid.media.profiles import in_srgb
from tests.icc import P3, SRGB, profile

STANDARD = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def photo() -> Image.Image:
    y, x = np.mgrid[0:12, 0:16]
    return Image.fromarray(np.stack([60 + x * 8, 70 + y * 8, 90 + (x + y) * 3], -1).astype(np.uint8))


def managed(picture: Image.Image, path: Path, icc: bytes, **more: object) -> Image.Image | None:
    picture.save(path, icc_profile=icc, **more)
    return in_srgb(path, open_picture(path), f"holiday/{path.name}")


def expected(pixels: np.ndarray, gamma: float = 2.2) -> np.ndarray:
    """Display P3 with a gamma to sRGB, from the definitions."""
    linear = (pixels / 255) ** gamma @ np.array(P3) @ np.linalg.inv(np.array(SRGB))
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    return (curve.clip(0, 1) * 255).round()


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_colours_of_a_wider_space_are_what_they_were_meant_to_be(
    tmp_path: Path, photo: Image.Image, suffix: str
) -> None:
    found = managed(photo, tmp_path / f"photo.{suffix}", profile(), **({"lossless": True} if suffix == "webp" else {}))
    assert found is not None
    assert found.mode == "RGB"
    away = np.abs(np.asarray(found).astype(int) - expected(np.asarray(photo)))
    assert away.max() <= 2
    assert np.abs(np.asarray(found).astype(int) - np.asarray(photo)).max() > 5


def test_a_jpeg_is_converted_and_turned(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = managed(photo, tmp_path / "photo.jpg", profile(), exif=exif, quality=100, subsampling=0)
    assert found is not None
    turned = np.rot90(np.asarray(photo), -1)
    assert found.size == (12, 16)
    assert np.abs(np.asarray(found).astype(int) - expected(turned)).mean() < 3


@pytest.mark.parametrize("icc", [b"", STANDARD])
def test_srgb_keeps_its_pixels(
    tmp_path: Path, photo: Image.Image, icc: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert managed(photo, tmp_path / "photo.png", icc) is None
    assert not caplog.messages


@pytest.mark.parametrize("icc", [b"no profile at all", STANDARD[:200], profile()[:150]])
def test_a_broken_profile_is_left_out_and_the_log_says_so(
    tmp_path: Path, photo: Image.Image, icc: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert managed(photo, tmp_path / "photo.png", icc) is None
    (said,) = caplog.messages
    assert said.startswith("holiday/photo.png: taken for sRGB, as its colour profile is not one of such pixels: ")


@pytest.mark.parametrize(("mode", "name"), [("L", "grey.png"), ("CMYK", "print.jpg")])
def test_so_is_a_profile_for_other_pixels(
    tmp_path: Path, photo: Image.Image, mode: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert managed(photo.convert(mode), tmp_path / name, profile()) is None
    (said,) = caplog.messages
    assert said.startswith("holiday/")


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparency_and_palettes_are_converted_too(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    found = managed(photo.convert(mode), tmp_path / "photo.png", profile())
    plain = np.asarray(photo.convert(mode).convert("RGB"))
    assert found is not None
    assert np.abs(np.asarray(found).astype(int) - expected(plain)).max() <= 2
