"""Blobs: files named by their sha256, published whole, verified on every read."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from svid.errors import BlobError, Problem
from svid.store.files import make_folder, publish, sha256_of

if TYPE_CHECKING:
    import torch

_numbers = itertools.count()


class Blobs:
    """The blobs of a home. A blob may exist without a row (a crash left it); a row never without its blob."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root = root
        self.tmp = tmp

    def path(self, sha256: str) -> Path:
        """Where the blob is, or would be."""
        return self.root / sha256[:2] / sha256

    def scratch(self, suffix: str = "") -> Path:
        """A new name under db/tmp, on the same file system, for a file that is still being written."""
        return self.tmp / f"{os.getpid()}-{next(_numbers)}{suffix}.part"

    def put_file(self, part: Path) -> str:
        """Publish the finished file `part` as a blob and return its sha256."""
        sha256 = sha256_of(part)
        target = self.path(sha256)
        if target.exists() and sha256_of(target) == sha256:
            part.unlink()
            return sha256
        make_folder(target.parent)
        part.chmod(0o444)
        publish(part, target)
        return sha256

    def put(self, data: bytes) -> str:
        """Publish bytes as a blob and return their sha256."""
        part = self.scratch()
        part.write_bytes(data)
        return self.put_file(part)

    def put_tensors(self, tensors: Mapping[str, torch.Tensor]) -> str:
        """Publish tensors as a safetensors blob. No metadata: with two keys or more the file's bytes are unstable."""
        from safetensors.torch import save

        return self.put(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))

    def get(self, sha256: str) -> bytes:
        """The bytes of a blob. Raises BlobError where it is missing or its bytes have changed."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            raise BlobError(self._problem(sha256, f"can't be read: {error.strerror}")) from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise BlobError(self._problem(sha256, f"its bytes have changed: their sha256 is {found}"))
        return data

    def get_tensors(self, sha256: str) -> dict[str, torch.Tensor]:
        """The tensors of a safetensors blob."""
        from safetensors.torch import load

        tensors: dict[str, torch.Tensor] = load(self.get(sha256))
        return tensors

    def verified(self, sha256: str) -> Path:
        """The path of a blob whose bytes were just checked, for libraries that want a file."""
        path = self.path(sha256)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise BlobError(self._problem(sha256, f"can't be read: {error.strerror}")) from error
        if found != sha256:
            raise BlobError(self._problem(sha256, f"its bytes have changed: their sha256 is {found}"))
        return path

    def _problem(self, sha256: str, message: str) -> Problem:
        return Problem(f"db/blobs/{sha256[:2]}/{sha256}", "", message, "svid verify lists what is affected")
