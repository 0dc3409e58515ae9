"""Input pictures and clips: found under the media roots only, copied into the blob store before anything else looks at
them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from svid.errors import BlobError, MediaError, Problem
from svid.manifest.model import Manifest
from svid.media.images import open_picture, pixel_digest
from svid.media.probing import probe
from svid.media.profiles import in_srgb
from svid.plan.settings import ClipRef, PictureRef
from svid.store.blobs import Blobs
from svid.store.engine import Store
from svid.store.models import Asset, Blob

Ref = TypeVar("Ref", PictureRef, ClipRef)
LARGEST = 512 * 2**20
ASSET = "asset:"
"""How a manifest names a picture that is in the store already: `asset:<sha256>`."""


def named_pictures(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every picture that a manifest names, as (place, what is written)."""
    for place in ("image", "anchor"):
        written = getattr(manifest, place)
        if written is not None:
            yield place, written
    for number, anchor in enumerate(manifest.anchors or ()):
        yield f"anchors[{number}]", anchor
    for number, cut in enumerate(manifest.cuts):
        for key in ("anchor", "end_image"):
            if getattr(cut, key) is not None:
                yield f"cuts[{number}].{key}", getattr(cut, key)
    for number, end in enumerate(manifest.ends):
        yield f"ends[{number}].image", end.image


class PictureStore:
    """Takes pictures and clips into a home."""

    def __init__(self, blobs: Blobs, store: Store, max_pixels: int) -> None:
        self.blobs = blobs
        self.store = store
        self.max_pixels = max_pixels

    def take(self, written: str, folder: Path, roots: Sequence[Path]) -> PictureRef:
        """Copy the picture that a manifest in `folder` names, and say what it shows.

        Raises MediaError where it lies outside `roots`, is no regular file, or no picture.
        """
        return self._take(written, folder, roots, self._picture)

    def take_clip(self, written: str, folder: Path, roots: Sequence[Path]) -> ClipRef:
        """Copy the clip that a manifest in `folder` names, and count its frames. Raises MediaError as `take` does."""
        return self._take(written, folder, roots, self._clip)

    def _take(
        self, written: str, folder: Path, roots: Sequence[Path], look: Callable[[Path, str, str | None], Ref]
    ) -> Ref:
        if written.startswith(ASSET):
            return self._stored(written.removeprefix(ASSET), written, look)
        part = self.blobs.scratch()
        try:
            self._copy(written, folder, roots, part)
            return look(part, written, None)
        finally:
            part.unlink(missing_ok=True)

    def _picture(self, file: Path, written: str, stored: str | None) -> PictureRef:
        image = open_picture(file, self.max_pixels, shown=written)
        # Only of what comes in: a picture that a video was begun with stays what it was taken for then.
        managed = in_srgb(file, image, written) if stored is None else None
        if managed is not None:
            managed.save(file, "PNG", icc_profile=None)
            image = managed
        pixels, (width, height) = pixel_digest(image), image.size
        sha256 = stored or self.blobs.publish(self.blobs.draft_file(file))
        self.note(sha256, pixels, (width, height), written)
        return PictureRef(sha256=sha256, pixels=pixels, width=width, height=height)

    def _clip(self, file: Path, written: str, stored: str | None) -> ClipRef:
        frames, fps, width, height = probe(file, shown=written)
        sha256 = stored or self.blobs.publish(self.blobs.draft_file(file))
        self.note(sha256, sha256, (width, height), written)
        return ClipRef(sha256=sha256, frames=frames, fps=fps, width=width, height=height)

    def note(self, sha256: str, pixels: str, size: tuple[int, int], source: str) -> None:
        """Give a stored picture or clip its rows."""
        with self.store.write() as session:
            if session.get(Blob, sha256) is None:
                session.add(Blob(sha256=sha256, kind="asset", bytes=self.blobs.path(sha256).stat().st_size))
                session.flush()
            if session.get(Asset, sha256) is None:
                session.add(Asset(sha256=sha256, pixels=pixels, width=size[0], height=size[1], source=source))

    def _stored(self, sha256: str, written: str, look: Callable[[Path, str, str | None], Ref]) -> Ref:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise MediaError(Problem(written, "", "expected asset: and 64 hexadecimal digits"))
        try:
            file = self.blobs.verified(sha256)
        except BlobError as error:
            raise MediaError(Problem(written, "", "this home has no such asset")) from error
        return look(file, written, sha256)

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
        handle = _open_below(path, written)
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            os.close(handle)
            raise MediaError(Problem(written, "", "is not a regular file"))
        with os.fdopen(handle, "rb") as source, part.open("wb") as target:
            # Counted while it is copied, because a file may grow for as long as somebody writes to it.
            copied = 0
            while piece := _read(source, written) if info.st_size <= LARGEST else b"":
                copied += len(piece)
                if copied > LARGEST:
                    break
                target.write(piece)
            if max(copied, info.st_size) > LARGEST:
                found = max(copied, info.st_size)
                raise MediaError(Problem(written, "", f"has {found} bytes; an input has at most {LARGEST}"))


def _read(source: BinaryIO, written: str) -> bytes:
    try:
        return source.read(1 << 20)
    except OSError as error:
        raise MediaError(Problem(written, "", f"can't be read: {error.strerror}")) from error


def _open_below(path: Path, written: str) -> int:
    """Open a resolved path without following a link anywhere in it: the path was judged as it stood, and a folder of it
    may have been replaced by a link since."""
    flags, look = os.O_NOFOLLOW | os.O_CLOEXEC, getattr(os, "O_PATH", os.O_RDONLY)
    folder = os.open(path.anchor, look | os.O_DIRECTORY | flags)
    try:
        for name in path.parts[1:-1]:
            inner = os.open(name, look | os.O_DIRECTORY | flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe must not be waited for.
        return os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=folder)
    except OSError as error:
        raise MediaError(Problem(written, "", f"can't be opened: {error.strerror}")) from error
    finally:
        os.close(folder)
