from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from svid.errors import MediaError
from svid.media.images import open_picture, pixel_digest, resized, write_png


@pytest.fixture
def photo() -> Image.Image:
    y, x = np.mgrid[0:30, 0:50]
    return Image.fromarray(np.stack([x * 5, y * 8, (x + y) * 3], -1).astype(np.uint8))


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    data = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0" * 63
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pixels_come_back_and_the_name_does_not_matter(tmp_path: Path, photo: Image.Image, kind: str) -> None:
    path = tmp_path / "photo.txt"
    photo.save(path, kind, lossless=True)
    back = open_picture(path)
    assert back.mode == "RGB"
    assert np.array_equal(np.asarray(back), np.asarray(photo))


def test_jpeg_opens(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "photo.jpg", quality=95)
    assert open_picture(tmp_path / "photo.jpg").size == (50, 30)


@pytest.mark.parametrize("way", range(10))
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_every_exif_orientation_is_undone(tmp_path: Path, photo: Image.Image, way: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = way
    photo.save(tmp_path / f"turned.{suffix}", exif=exif, lossless=True, quality=100)
    with Image.open(tmp_path / f"turned.{suffix}") as picture:
        expected = ImageOps.exif_transpose(picture).convert("RGB")
    assert np.array_equal(np.asarray(open_picture(tmp_path / f"turned.{suffix}")), np.asarray(expected))


@pytest.mark.parametrize(
    ("tag", "kind"),
    [(0x011A, 2), (0x0100, 2), (0x010F, 12), (0x0213, 7), (0x9204, 10), (0x0132, 5), (0x8769, 2), (0x0112, 2)],
)
def test_metadata_that_are_odd_are_of_no_account(tmp_path: Path, photo: Image.Image, tag: int, kind: int) -> None:
    data = b"-1\0\0" if kind in (2, 7) else struct.pack("<I", 8 + 2 + 2 * 12 + 4)  # here, or where it lies
    entries = sorted({0x0112: (3, 1, struct.pack("<HH", 6, 0)), tag: (kind, 4, data)}.items())
    block = b"".join(struct.pack("<HHI", key, form, count) + where for key, (form, count, where) in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + block + bytes(68)
    photo.save(tmp_path / "odd.jpg", exif=exif, quality=95)
    assert open_picture(tmp_path / "odd.jpg").size == ((50, 30) if tag == 0x0112 else (30, 50))


def test_the_exif_orientation_is_applied(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    back = open_picture(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(back), np.rot90(np.asarray(photo), -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    path = tmp_path / "photo"
    photo.convert(mode).save(path, "JPEG" if mode == "CMYK" else "PNG")
    assert open_picture(path).mode == "RGB"


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    back = np.asarray(open_picture(tmp_path / "grey.png"))
    assert np.array_equal(back[..., 0].ravel(), np.arange(256))


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path, photo: Image.Image) -> None:
    other = Image.new("RGB", photo.size, "red")
    photo.save(tmp_path / "moves.webp", save_all=True, append_images=[other], lossless=True)
    assert pixel_digest(open_picture(tmp_path / "moves.webp")) == pixel_digest(photo)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04\x95\x10\x00\x00\x00\x00", "expected a PNG, JPEG or WEBP"),
        (b"<!DOCTYPE html><html></html>", "<!DOCTYPE html"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "GIF89a"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected a PNG, JPEG or WEBP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "expected a PNG, JPEG or WEBP"),
        (b"", "an empty file"),
    ],
)
def test_what_is_no_picture_is_refused_by_content(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"harbour\.png") as caught:
        open_picture(path, shown="harbour.png")
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_picture_is_refused(tmp_path: Path, kind: str) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(whole, kind)
    for kept in (0.01, 0.5, 0.99):
        path = tmp_path / "cut"
        path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * kept)])
        with pytest.raises(MediaError):
            open_picture(path)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "photo"
    random = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = io.BytesIO()
        photo.save(whole, kind)
        for _ in range(60):
            content = bytearray(whole.getvalue())
            for place in random.integers(0, len(content), 4):
                content[place] ^= int(random.integers(1, 256))
            path.write_bytes(content)
            with contextlib.suppress(MediaError):
                assert open_picture(path, max_pixels=100_000).mode == "RGB"


@pytest.mark.parametrize(
    "content", [png_claiming(10_000, 10_000), png_claiming(60_000, 60_000), webp_claiming(10_000, 10_000)]
)
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, content: bytes, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    with pytest.raises(MediaError, match="at most 64,000,000 pixels"):
        open_picture(path, max_pixels=64_000_000)
    assert not recwarn.list


def test_the_cap_is_what_it_says(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "photo.png")
    assert open_picture(tmp_path / "photo.png", max_pixels=1500).size == (50, 30)
    with pytest.raises(MediaError, match="at most 1,499 pixels, found 50x30"):
        open_picture(tmp_path / "photo.png", max_pixels=1499)


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="found"):
        open_picture(tmp_path / name)


def test_the_digest_knows_the_shape(photo: Image.Image) -> None:
    flat = Image.frombytes("RGB", (30, 50), photo.tobytes())
    assert pixel_digest(photo) == pixel_digest(photo.copy())
    assert pixel_digest(photo) != pixel_digest(flat)
    assert pixel_digest(photo) == pixel_digest(photo.convert("RGBA"))
    assert pixel_digest(photo) == hashlib.sha256(b"50x30 RGB\n" + photo.tobytes()).hexdigest()


def test_resized_stretches_as_the_authors_do(photo: Image.Image) -> None:
    tensor = resized(photo, 16, 48)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.uint8, (48, 16, 3))
    assert np.array_equal(tensor.numpy(), np.asarray(photo.resize((16, 48), Image.Resampling.BICUBIC)))
    tensor[0, 0, 0] = 0  # is ours to write to


def test_write_png_is_lossless_whatever_the_name(tmp_path: Path, photo: Image.Image) -> None:
    frame = torch.from_numpy(np.array(photo))
    write_png(frame, tmp_path / "frame.png.part")
    assert torch.equal(resized(open_picture(tmp_path / "frame.png.part"), 50, 30), frame)


@pytest.mark.parametrize("frame", [torch.zeros(4, 4, 3), torch.zeros(1, 4, 4, 3, dtype=torch.uint8)])
def test_write_png_refuses_other_tensors(tmp_path: Path, frame: torch.Tensor) -> None:
    with pytest.raises(MediaError, match=r"uint8 \[H, W, 3\]"):
        write_png(frame, tmp_path / "frame.png")
