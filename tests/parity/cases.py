"""Reading recorded cases. What is read of a case is noted, so that what nobody read can fail it by name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

DATA = Path(__file__).resolve().parent / "data"
PROSE = ("reference", "numerics", "measured_with_diffusers_0.42.1_fp32_cpu")
"""Keys of a case.json that say where it comes from, and nothing about what is to come out."""


class NotUnderstood(AssertionError):
    """A case says something that the harness does not know."""


class NotServed(AssertionError):
    """No plugin brings a recipe for the variant of a case."""


def root() -> Path:
    """The folder with `cases` and `weights`: the copies here, or SVID_PARITY_CASES."""
    return Path(os.environ.get("SVID_PARITY_CASES") or DATA).resolve()


def case_folders(base: Path) -> list[Path]:
    """Every folder that should be a case, by name; one without a case.json too. `base` may be the folder of the cases
    itself."""
    place = base / "cases" if (base / "cases").is_dir() else base
    found = [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
    return sorted(path for path in found if path.name != "weights" and not path.name.startswith("."))


class Fields:
    """A table of a case.json that remembers which of its keys were read. What it lacks is looked up in `outer`."""

    def __init__(self, where: str, values: Mapping[str, Any], outer: Fields | None = None) -> None:
        self.where, self._values, self._outer = where, values, outer
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values or (self._outer is not None and key in self._outer)

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            self._read.add(key)
            return self._values[key]
        if self._outer is None:
            raise NotUnderstood(f"{self.where}: expected {key!r}, found none")
        return self._outer[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default` where there is none."""
        if key not in self:
            return default
        return self[key]

    def table(self, key: str) -> Fields:
        """The table under a key; an empty one where there is none."""
        return Fields(f"{self.where}.{key}", self.get(key, {}))

    def tables(self, key: str) -> list[Fields]:
        """The tables in a list; each also sees this one. None of them is not understood."""
        found = [Fields(f"{self.where}.{key}[{place}]", one, self) for place, one in enumerate(self.get(key, ()))]
        if not found:
            raise NotUnderstood(f"{self.where}: expected a list of tables under {key!r}, found none")
        return found

    def allow(self, *keys: str) -> None:
        """These keys need not be read: they describe, or bound what this case does not have."""
        self._read.update(keys)

    def left(self) -> Iterator[str]:
        """Keys that nobody read."""
        yield from (f"{self.where}.{key}" for key in self._values if key not in self._read)

    def done(self) -> None:
        """Raise NotUnderstood where a key was not read."""
        left = list(self.left())
        if left:
            raise NotUnderstood(f"not understood: {', '.join(left)}")


class Tensors:
    """The tensors of a file, which remember which of them were taken."""

    def __init__(self, file: Path) -> None:
        self.where = file.stem
        self._tensors = load_file(file) if file.is_file() else {}
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._tensors))

    def peek(self, name: str) -> torch.Tensor:
        """A tensor, which still counts as left."""
        if name not in self._tensors:
            raise NotUnderstood(f"{self.where}: expected a tensor {name!r}, found none")
        return self._tensors[name]

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self.peek(name)
        self._taken.add(name)
        return tensor

    def allow(self, *names: str) -> None:
        """These tensors need not be taken."""
        self._taken.update(names)

    def left(self) -> Iterator[str]:
        """Names that nobody took."""
        yield from (f"{self.where}: {name}" for name in self if name not in self._taken)


class Case:
    """One recorded case: its case.json and its tensors. Raises NotUnderstood where there is no case.json to read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.root = folder.parent.parent if folder.parent.name == "cases" else folder.parent
        if not (self.root / "weights").is_dir() and (self.root.parent / "weights").is_dir():
            self.root = self.root.parent
        try:
            values = json.loads((folder / "case.json").read_text())
        except (OSError, ValueError) as error:
            raise NotUnderstood(f"{self.name}: expected a case.json, found {error}") from error
        self.spec = Fields("case.json", values)
        self.kind: str = self.spec["kind"]
        self.variant: str = self.spec.get("variant", "")
        self.reference: Mapping[str, Any] = values.get("reference", {})
        self.spec.allow(*PROSE)
        if self.spec["name"] != self.name:
            raise NotUnderstood(f"case.json.name: expected {self.name!r}, found {self.spec['name']!r}")
        self.params = self.spec.table("params")
        self.weights = self.spec.table("weights")
        self.tolerances = self.spec.table("tolerances")
        self.inputs = Tensors(folder / "inputs.safetensors")
        self.expected = Tensors(folder / "expected.safetensors")

    def file(self, relative: str) -> Path:
        """A file that the case names, relative to the root."""
        path = self.root / relative
        if not path.is_file():
            raise NotUnderstood(f"case.json: expected a file {relative}, found none")
        return path

    def left(self) -> list[str]:
        """Whatever of the case nobody read."""
        tables = (self.spec, self.params, self.weights, self.tolerances)
        found = [name for table in tables for name in table.left()]
        return [*found, *self.inputs.left(), *self.expected.left()]

    def commits(self) -> list[str]:
        """The commits of the reference implementations, in the order in which the case names them."""
        return list(dict.fromkeys(re.findall(r"\b[0-9a-f]{40}\b", json.dumps(self.reference))))
