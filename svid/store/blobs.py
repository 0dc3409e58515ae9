"""Blobs: files named by their sha256, published whole, verified on every read."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svid.errors import BlobError, Problem
from svid.store.files import make_folder, publish, removed_on_error, sha256_of, sync_file, sync_folder
from svid.store.scratch import own_folder

if TYPE_CHECKING:
    import torch

_numbers = itertools.count()


@dataclass(frozen=True)
class Draft:
    """A blob to be: written and flushed under db/tmp, without its name yet."""

    part: Path
    sha256: str
    damaged: bool
    """A file has its name, and not its bytes."""


class Blobs:
    """The blobs beside a database. A blob may exist without a row (a crash left it); a row never without its blob."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root = root
        self.tmp = tmp

    def path(self, sha256: str) -> Path:
        """Where the blob is, or would be."""
        return self.root / sha256[:2] / sha256

    def scratch(self, suffix: str = "") -> Path:
        """A new name under db/tmp, on the same file system, for a file that is still being written."""
        return own_folder(self.tmp) / f"{next(_numbers)}{suffix}.part"

    def draft_file(self, part: Path) -> Draft:
        """Make the finished file `part` ready to be published: what takes long is done, and nobody sees it yet."""
        sha256 = sha256_of(part)
        part.chmod(0o444)
        sync_file(part)
        return Draft(part, sha256, damaged=self.path(sha256).exists() and not self._holds(sha256))

    def draft(self, data: bytes) -> Draft:
        """Make bytes ready to be published."""
        part = self.scratch()
        with removed_on_error(part):
            part.write_bytes(data)
            return self.draft_file(part)

    def draft_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Draft:
        """Make tensors ready, as safetensors. No metadata: with two keys or more the file's bytes are unstable."""
        import torch
        from safetensors.torch import save

        # Copies, as two names may stand for one tensor, which safetensors refuses.
        held = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
        }
        return self.draft(save(held))

    def publish(self, draft: Draft) -> str:
        """Give a draft its name, in place of nothing or of a damaged file; returns its sha256."""
        target = self.path(draft.sha256)
        if target.exists() and not draft.damaged:
            draft.part.unlink()
            os.utime(target)  # before it gets its row it must not look like garbage
            make_folder(target.parent)
            sync_folder(target.parent)  # whoever gave it its name may have died before this
        else:
            make_folder(target.parent)
            publish(draft.part, target)
        return draft.sha256

    def put(self, data: bytes) -> str:
        """Publish bytes as a blob and return their sha256."""
        return self.publish(self.draft(data))

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

    def _holds(self, sha256: str) -> bool:
        """Whether a blob that is there is good. One that can't be read is not: it is to be written anew."""
        try:
            return sha256_of(self.path(sha256)) == sha256
        except OSError:
            return False

    def _problem(self, sha256: str, message: str) -> Problem:
        return Problem(f"db/blobs/{sha256[:2]}/{sha256}", "", message, "svid verify lists what is affected")
