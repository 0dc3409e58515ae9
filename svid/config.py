"""svid.toml: the configuration of a home. An unknown key or a wrong value is an error that names its place."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from svid.errors import ConfigError, LoraError, Problem
from svid.manifest.tables import ForBoth
from svid.memory import AUTO, PLANS

EMBEDDED = Path(__file__).parent / "embedded"

STAGES = ("load_model", "build_conditioning", "apply_loras", "sample", "decode", "encode", "join")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DaemonTable(_Table):
    """`[daemon]`."""

    poll: float = Field(2.0, gt=0, le=3600)
    settle: float = Field(1.0, ge=0, le=3600)
    max_attempts: int = Field(3, ge=1)
    log: str = Field("text", pattern=r"^(text|json)$")
    metrics: str = ""
    hang_seconds: float = Field(0.0, ge=0)
    disk_reserve: int = Field(256, ge=0)


class StoreTable(_Table):
    """`[store]`."""

    path: str = Field("db", min_length=1)


class DefaultsTable(_Table):
    """`[defaults]`."""

    recipe: str = "svi-2.0-pro"
    model: str = "wan22-mini"


class RenderTable(_Table):
    """`[render]`."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: str = Field("auto", pattern=r"^(auto|float32|bfloat16)$")
    memory: str = Field(AUTO, pattern=f"^({'|'.join((AUTO, *(plan.name for plan in PLANS)))})$")
    snapshot_seconds: float = Field(30.0, ge=0)


class MediaTable(_Table):
    """`[media]`."""

    roots: tuple[str, ...] = ("watch/inbox", "watch/examples")
    max_pixels: int = Field(64_000_000, ge=1, le=178_000_000)


class ChainTable(_Table):
    """`[chain]`."""

    stages: tuple[str, ...] = STAGES


class LoraTable(_Table):
    """`[loras.NAME]`: a file per expert, or `path` for both; the words that set it off, where it has some."""

    high: str | None = None
    low: str | None = None
    path: str | None = None
    trigger: str | None = None

    def file(self, expert: str) -> str | None:
        """The file for an expert, as it is written, or None."""
        return (self.high if expert == "high" else self.low) or self.path


class ModelTable(_Table):
    """`[models.NAME]`."""

    path: str
    width: int | None = Field(None, ge=16, multiple_of=16)
    height: int | None = Field(None, ge=16, multiple_of=16)
    steps: int | None = Field(None, ge=1)
    guidance: ForBoth | None = None
    stream: bool = False
    loras: dict[str, LoraTable] = {}


class Config(_Table):
    """The whole of svid.toml. `home` is the folder that relative paths start from."""

    daemon: DaemonTable = DaemonTable()
    store: StoreTable = StoreTable()
    defaults: DefaultsTable = DefaultsTable()
    render: RenderTable = RenderTable()
    media: MediaTable = MediaTable()
    chain: ChainTable = ChainTable()
    models: dict[str, ModelTable] = {}
    loras: dict[str, LoraTable] = {}

    def lora(self, model: str, name: str) -> LoraTable | None:
        """The LoRA that a job on `model` means by `name`."""
        own = self.models[model].loras if model in self.models else {}
        return own.get(name) or self.loras.get(name)

    def lora_files(self, model: str, name: str, experts: Iterable[str], home: Path) -> dict[str, Path]:
        """The files of the LoRA that a job on `model` means by `name`, for as many of `experts` as its entry names one.
        Raises LoraError where the entry is gone, or a file is not there."""
        table = self.lora(model, name)
        if table is None:
            raise LoraError(Problem("svid.toml", f"loras.{name}", "the entry is gone"))
        named = {expert: table.file(expert) for expert in experts}
        files = {expert: weights_path(written, home) for expert, written in named.items() if written is not None}
        gone = dict.fromkeys(file for file in files.values() if not file.is_file())
        if gone:
            raise LoraError([Problem("svid.toml", f"loras.{name}", f"there is no file {file}") for file in gone])
        return files

    def lora_names(self, model: str | None = None) -> set[str]:
        """Every LoRA that a job on `model` (or on any model) may name."""
        chosen = [table for name, table in self.models.items() if model in (None, name)]
        return set(self.loras).union(*(table.loras for table in chosen))


def weights_path(written: str, home: Path) -> Path:
    """Where a path of svid.toml points: `embedded:` into the package, else relative to the home."""
    if written.startswith("embedded:"):
        return EMBEDDED / written.removeprefix("embedded:")
    return (home / Path(written).expanduser()).absolute()


def read_config(file: Path) -> Config:
    """Read svid.toml.

    Raises ConfigError with every mistake at once: key, what was expected, what was found, the nearest known key.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(Problem(file.name, "", f"can't be read: {error}")) from error
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError([_problem(file.name, detail) for detail in error.errors()]) from error


def _problem(file: str, detail: Any) -> Problem:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return Problem(file, place, f"{detail['msg']}, found {detail['input']!r}")
    near = difflib.get_close_matches(str(detail["loc"][-1]), _keys_beside(detail["loc"]), n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    if not near and isinstance(detail["input"], dict) and detail["loc"][0] in ("models", "loras"):
        hint = 'a name with a dot in it stands in quotes, as in [loras."svi-2.0-pro"]'
    return Problem(file, place, "unknown key", hint)


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    """The keys that are known where `loc` points."""
    table: Any = Config
    for part in loc[:-1]:
        if isinstance(table, type) and issubclass(table, BaseModel) and part in table.model_fields:
            table = table.model_fields[part].annotation
        else:
            # a NAME in [models.NAME]: the table behind it is the mapping's value type
            table = table.__args__[1] if hasattr(table, "__args__") else None
    return list(table.model_fields) if isinstance(table, type) and issubclass(table, BaseModel) else []
