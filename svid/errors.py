"""Every error that svid raises on purpose. The docstring of each is what went wrong, in one sentence.

SvidError
├── UsageError            the command line or the configuration
│   ├── ConfigError
│   ├── PluginError
│   └── HomeError
├── Refused               one job can't be done as it was asked
│   ├── ManifestError
│   │   └── UnknownVideo
│   ├── MediaError
│   ├── WeightsError
│   ├── LoraError
│   ├── NoStage
│   ├── StageError
│   ├── MadeOtherwise
│   └── NotReproduced
├── NotFound              no such video, segment or job
│   └── Ambiguous
├── StoreError            the database or a blob
│   ├── BlobError
│   └── StorageError      the disk: full, read-only, broken, locked; what met it is tried again
├── Paused                no work is done until it is resumed
└── Cancelled             work was told to stop
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

MAX_PROBLEMS = 200
"""How many problems an error tells. A file with a million bad keys is told of as well by the first of them."""
MAX_TEXT = 2000
"""Characters of each of a problem's texts."""

# What moves a terminal's cursor, turns the direction of writing around, ends a line, or can't be written as UTF-8.
_UNSAFE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def plain(text: str) -> str:
    """Foreign text (a key, a name, what a library said) in one line of bounded length, fit for a terminal, a log and
    UTF-8: line ends and tabs become spaces, other control characters and halves of surrogate pairs their escapes."""
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT - 1]}…"
    return _UNSAFE.sub(lambda found: " " if found[0] in "\t\n\r" else f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, as a compiler would say it.

    `file` is what was read (relative where possible), `where` the place in it (`sample.steps`, `line 3`, a tensor key),
    `message` what was expected and what was found, `hint` a suggestion or an empty string.
    """

    file: str
    where: str
    message: str
    hint: str = ""

    def __post_init__(self) -> None:
        for name in ("file", "where", "message", "hint"):
            object.__setattr__(self, name, plain(str(getattr(self, name))))

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, str]:
        """For error.json."""
        return asdict(self)


class SvidError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, problems: Problem | Sequence[Problem] | str | None = None) -> None:
        if problems is None:
            problems = (self.__doc__ or "").strip().splitlines()[0]
        if isinstance(problems, str):
            problems = Problem("", "", problems)
        all_ = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.problems: tuple[Problem, ...] = all_ if len(all_) <= MAX_PROBLEMS else (*all_[:MAX_PROBLEMS], _more(all_))
        super().__init__("\n".join(str(problem).removeprefix(": ") for problem in self.problems))

    def __reduce__(self) -> tuple[type[SvidError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def _more(problems: Sequence[Problem]) -> Problem:
    message = f"and {len(problems) - MAX_PROBLEMS} more; these are the first {MAX_PROBLEMS}"
    return Problem(problems[0].file, "", message)


class UsageError(SvidError):
    """The command can't be carried out as it was given."""

    exit_code = 2


class ConfigError(UsageError):
    """svid.toml has a mistake."""


class PluginError(UsageError):
    """A plugin can't be loaded."""


class HomeError(UsageError):
    """There is no svid home here."""


class Refused(SvidError):
    """This job can't be done as it was asked."""

    exit_code = 3


class ManifestError(Refused):
    """The manifest has mistakes."""


class UnknownVideo(ManifestError):
    """The manifest goes on from a video that this home does not have."""


class MediaError(Refused):
    """A picture or a clip can't be read."""


class WeightsError(Refused):
    """A model folder or a checkpoint can't be used."""


class LoraError(Refused):
    """A LoRA file can't be used."""


class NoStage(Refused):
    """No plugin took a stage of the chain."""


class StageError(Refused):
    """A plugin raised an error."""


class MadeOtherwise(Refused):
    """What frames that are there already were made with is not what is here now."""


class NotReproduced(Refused):
    """A segment has come out otherwise than before."""


class NotFound(SvidError):
    """There is no such video, segment or job."""

    exit_code = 4


class Ambiguous(NotFound):
    """More than one video, segment or job is named."""


class StoreError(SvidError):
    """The database can't be used."""


class BlobError(StoreError):
    """A blob is missing, or its bytes are not those that were stored."""


class StorageError(StoreError):
    """The disk or the database can't be used now."""

    exit_code = 75


class Paused(SvidError):
    """The home is paused."""

    exit_code = 75


class Cancelled(SvidError):
    """Work was told to stop."""

    exit_code = 75
