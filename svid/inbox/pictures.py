"""Input pictures: found under the media roots only, copied into the blob store before anything else looks at them."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from svid.errors import BlobError, MediaError, Problem
from svid.manifest.model import Manifest
from svid.media.images import open_picture, pixel_digest
from svid.plan.settings import PictureRef
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.models import Asset, Blob

LARGEST = 512 * 2**20
ASSET = "asset:"
"""How a manifest names a picture that is in the store already: `asset:<sha256>`."""


def named_pictures(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every picture that a manifest names, as (place, what is written)."""
    for place in ("image", "anchor"):
        written = getattr(manifest, place)
        if written is not None:
            yield place, written
    for number, cut in enumerate(manifest.cuts):
        if cut.anchor is not None:
            yield f"cuts[{number}].anchor", cut.anchor


class PictureStore:
    """Takes pictures into a home."""

    def __init__(self, blobs: Blobs, store: Store, max_pixels: int) -> None:
        self.blobs = blobs
        self.store = store
        self.max_pixels = max_pixels

    def take(self, written: str, folder: Path, roots: Sequence[Path]) -> PictureRef:
        """Copy the picture that a manifest in `folder` names, and say what it shows.

        Raises MediaError where it lies outside `roots`, is no regular file, or no picture.
        """
        if written.startswith(ASSET):
            return self._stored(written.removeprefix(ASSET), written)
        part = self.blobs.scratch()
        try:
            self._copy(written, folder, roots, part)
            image = open_picture(part, self.max_pixels, shown=written)
            pixels, (width, height) = pixel_digest(image), image.size
            sha256 = self.blobs.put_file(part)
        finally:
            part.unlink(missing_ok=True)
        self.note(sha256, PictureRef(sha256=sha256, pixels=pixels), (width, height), written)
        return PictureRef(sha256=sha256, pixels=pixels)

    def note(self, sha256: str, ref: PictureRef, size: tuple[int, int], source: str) -> None:
        """Give a stored picture its rows."""
        with self.store.write() as session:
            if session.get(Blob, sha256) is None:
                session.add(Blob(sha256=sha256, kind="asset", bytes=self.blobs.path(sha256).stat().st_size))
                session.flush()
            if session.get(Asset, sha256) is None:
                session.add(Asset(sha256=sha256, pixels=ref.pixels, width=size[0], height=size[1], source=source))

    def _stored(self, sha256: str, written: str) -> PictureRef:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise MediaError(Problem(written, "", "expected asset: and 64 hexadecimal digits"))
        try:
            file = self.blobs.verified(sha256)
        except BlobError as error:
            raise MediaError(Problem(written, "", "this home has no such asset")) from error
        image = open_picture(file, self.max_pixels, shown=written)
        ref = PictureRef(sha256=sha256, pixels=pixel_digest(image))
        self.note(sha256, ref, image.size, written)
        return ref

    def _copy(self, written: str, folder: Path, roots: Sequence[Path], part: Path) -> None:
        if "\0" in written:
            raise MediaError(Problem(written.replace("\0", "?"), "", "a path can't contain a zero byte"))
        try:
            path = (folder / written).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            hint = "relative paths are relative to the manifest"
            raise MediaError(Problem(written, "", "there is no such file", hint)) from error
        if not any(path.is_relative_to(root.resolve()) for root in (folder, *roots)):
            hint = "put it beside the manifest, or add its folder to [media] roots in svid.toml"
            raise MediaError(Problem(written, "", "lies outside the folders that manifests may read", hint))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise MediaError(Problem(written, "", f"can't be opened: {error.strerror}")) from error
        with os.fdopen(handle, "rb") as source, part.open("wb") as target:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise MediaError(Problem(written, "", "is not a regular file"))
            if info.st_size > LARGEST:
                raise MediaError(Problem(written, "", f"has {info.st_size} bytes; a picture has at most {LARGEST}"))
            shutil.copyfileobj(source, target)
