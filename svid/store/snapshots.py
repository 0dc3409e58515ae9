"""Snapshots of segments in flight: one file per ask, replaced as a whole, checked by its hash when it is read.

A snapshot is worth some minutes of work and nothing more. It is in no row of the database, and whatever is wrong with
one costs no more than those minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from svid.api import Snapshot
from svid.canonical import canonical
from svid.errors import Problem, StoreError
from svid.store.engine import Store
from svid.store.files import make_folder, publish, sync_file
from svid.store.models import Job, Segment
from svid.store.scratch import own_folder

if TYPE_CHECKING:
    import torch

FORMAT = 1
"""Raise it when what stands in a file changes its meaning; files of another format are set aside."""

SUFFIX = ".safetensors"

KEPT_SECONDS = 7 * 24 * 3600.0
"""How long a snapshot is kept whose job has ended without its segment, for one that is asked for again."""


Lease = Callable[[], AbstractContextManager[Any]]
"""Opens a time in which a job is ours, or raises Fenced."""


@dataclass(frozen=True)
class Stored:
    """A snapshot as it was found, and the circumstances that it was made under."""

    snapshot: Snapshot
    env: Mapping[str, Any]


class Snapshots:
    """The snapshots beside a database. `tmp` is on the same file system as `folder`."""

    def __init__(self, folder: Path, tmp: Path) -> None:
        self.folder = folder
        self.tmp = tmp

    def path(self, key: str) -> Path:
        """Where the snapshot of an ask is, or would be."""
        return self.folder / f"{key}{SUFFIX}"

    def write(self, key: str, snapshot: Snapshot, env: Mapping[str, Any], lease: Lease = nullcontext) -> None:
        """Put a snapshot in the place of the one before, within `lease`. Raises whatever is wrong with it or the
        disk."""
        from safetensors.torch import save_file

        # Copies of their own: safetensors refuses tensors that share memory, as views of one list of timesteps do.
        tensors = {name: one.detach().to("cpu", copy=True).contiguous() for name, one in snapshot.tensors.items()}
        head = {
            "format": FORMAT,
            "ask": key,
            "step": snapshot.step,
            "steps": snapshot.steps,
            "facts": dict(snapshot.facts),
            "env": dict(env),
        }
        head["sha256"] = content_hash(head, tensors)
        part = own_folder(self.tmp) / f"{key}.part"
        try:
            # One key, because the bytes of a file with several are unstable.
            save_file(tensors, part, {"svid": canonical(head)})
            sync_file(part)
            with lease():
                make_folder(self.folder)
                publish(part, self.path(key))
        finally:
            part.unlink(missing_ok=True)  # half a file on a full disk would keep it full

    def read(self, key: str) -> Stored | None:
        """The snapshot of an ask, None where there is none.

        Raises:
            StoreError: it can't be read, is no snapshot, is of another ask, or its content is not what was written.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()  # and not mapped: a disk that fails under a map kills the process
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(Problem(self._shown(key), "", f"can't be read: {error.strerror}")) from error
        try:
            return _parsed(data, key)
        except Exception as error:  # bytes that are anything may make a parser raise anything
            message = f"expected a snapshot of this ask, found another thing: {type(error).__name__}: {error}"
            raise StoreError(Problem(self._shown(key), "", message)) from error

    def step(self, key: str) -> int:
        """The step that the snapshot of an ask says it was taken after; 0 where there is none that says so. Reads its
        head only, without torch."""
        try:
            with self.path(key).open("rb") as file:
                head = _head(file.read(int.from_bytes(file.read(8), "little")))
            return int(head["step"])
        except Exception:  # bytes that are anything may make a parser raise anything, and the daemon asks
            return 0

    def set_aside(self, key: str) -> None:
        """Take a snapshot that is no good out of the way, for whoever wants to know why; it is swept like others."""
        path = self.path(key)
        path.replace(path.with_name(f"{path.name}.damaged"))

    def drop(self, key: str) -> None:
        """Forget the snapshot of an ask, which has its segment now. One that can't be removed is swept later."""
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    def _shown(self, key: str) -> str:
        return f"db/{self.folder.name}/{key}{SUFFIX}"


def content_hash(head: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of everything that a snapshot says: its head, and every tensor with its name, dtype and shape."""
    import torch

    found = hashlib.sha256(canonical(dict(head)).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{canonical([name, str(tensor.dtype), list(tensor.shape)])}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _head(header: bytes) -> dict[str, Any]:
    """What a snapshot says of itself in the header of its file."""
    head: dict[str, Any] = json.loads(json.loads(header)["__metadata__"]["svid"])
    return head


def _parsed(data: bytes, key: str) -> Stored:
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    head = _head(data[8 : 8 + length])
    expected, tensors = head.pop("sha256"), load(data)
    found = content_hash(head, tensors)
    if found != expected:
        raise ValueError(f"expected the sha256 {expected}, found {found}")
    if (head["format"], head["ask"]) != (FORMAT, key):
        raise ValueError(f"expected format {FORMAT} of {key}, found {head['format']} of {head['ask']}")
    return Stored(Snapshot(head["step"], head["steps"], tensors, head["facts"]), head["env"])


def sweep(snapshots: Snapshots, store: Store, now: float) -> list[str]:
    """Remove what nobody comes back for; returns the names. `now` is a Unix time.

    A job that is not over goes on with its own snapshot, so one that was written after any such job was accepted stays.
    Of the others those go at once whose segment is committed, and the rest after KEPT_SECONDS: a job that failed while
    it decoded may be asked for again.
    """
    swept = []
    with store.read() as session:
        oldest = session.scalar(select(func.min(Job.created)).where(Job.ended.is_(None)))
        for file in sorted(snapshots.folder.glob(f"*{SUFFIX}*")):
            with contextlib.suppress(OSError):  # another daemon sweeps too, and this one is to start all the same
                written = file.stat().st_mtime
                if oldest is not None and oldest.timestamp() <= written:
                    continue
                known = select(Segment.id).where(Segment.ask_key == file.name.removesuffix(SUFFIX)).limit(1)
                if session.scalar(known) is not None or now - written > KEPT_SECONDS:
                    file.unlink()
                    swept.append(file.name)
    return swept
