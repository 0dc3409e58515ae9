"""What stages may answer with. Each check is called with an answer as soon as a plugin gives it, and raises StageError
with that plugin's name: a later stage would fail with another's, or render something else."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from svid.api import Applied, Artifact, Clip, Conditioning, Segment
from svid.canonical import canonical
from svid.errors import MediaError, SvidError
from svid.plugin.witness import By, Check

_NO_MODEL = (
    str,
    bytes,
    int,
    float,
    complex,
    list,
    tuple,
    Path,
    BaseException,
    types.GeneratorType,
    types.CoroutineType,
)
_NO_NAMES = ("", "__metadata__")
"""What safetensors has another use for, or none."""
_STORED = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)
"""What safetensors holds, and torch can tell the finite numbers of."""
_WRAPPER = "what goes around a stage is marked @hookimpl(wrapper=True)"


def model(by: By, answer: Any) -> Any:
    """A backend's model may be any object that can hold weights."""
    if isinstance(answer, _NO_MODEL) or inspect.isclass(answer):
        raise by.wrong(f"expected a model, found {_kind(answer)}", _hint(answer))
    return answer


def conditioning(segment: Segment) -> Check:
    """A Conditioning whose `y` is floating point [1, 20, T, h, w] of the segment's size, with finite numbers."""
    shape = [1, 20, *segment.latent_shape[2:]]

    def check(by: By, answer: Any) -> Conditioning:
        if not isinstance(answer, Conditioning):
            raise by.wrong(f"expected a svid.api.Conditioning, found {_kind(answer)}", _hint(answer))
        _check_tensor(by, segment, "y", answer.y)
        if not answer.y.is_floating_point() or list(answer.y.shape) != shape:
            raise by.wrong(f"{_of(segment)}y: expected floating point {shape}, found {_found(answer.y)}")
        picture = answer.image_embeds
        if picture is not None:
            _check_tensor(by, segment, "image_embeds", picture)
            if not picture.is_floating_point() or picture.ndim != 3 or len(picture) != 1:
                expected = "expected floating point [1, n, D]"
                raise by.wrong(f"{_of(segment)}image_embeds: {expected}, found {_found(picture)}")
        return answer

    return check


def loras(by: By, answer: Any) -> AbstractContextManager[Applied]:
    """A context manager that yields an Applied; what its entry and its exit raise names the plugin."""
    if not (hasattr(answer, "__enter__") and hasattr(answer, "__exit__")):
        hint = "write @contextmanager above the function" if isinstance(answer, types.GeneratorType) else ""
        raise by.wrong(f"expected a context manager, found {_kind(answer)}", hint)
    return _Loras(by, answer)


class _Loras(AbstractContextManager[Applied]):
    def __init__(self, by: By, inner: AbstractContextManager[Applied]) -> None:
        self._by, self._inner = by, inner

    def __enter__(self) -> Applied:
        with self._by.blame():
            found = self._inner.__enter__()
        try:
            applied = _checked(self._by, found)
        except SvidError:
            self.__exit__(None, None, None)
            raise
        return replace(applied, begin_step=self._blamed(applied.begin_step))

    def _blamed(self, begin_step: Callable[[int], None] | None) -> Callable[[int], None] | None:
        if begin_step is None:
            return None

        def begin(step: int) -> None:
            with self._by.blame():
                begin_step(step)

        return begin

    def __exit__(self, *error: Any) -> bool | None:
        with self._by.blame():
            return self._inner.__exit__(*error)


def _checked(by: By, applied: Any) -> Applied:
    if not isinstance(applied, Applied):
        raise by.wrong(f"expected a context of svid.api.Applied, found one of {type(applied).__name__}")
    if not isinstance(applied.report, Mapping):
        raise by.wrong(f"report: expected a mapping, found {_kind(applied.report)}")
    try:
        canonical(dict(applied.report))
    except SvidError as error:
        where, message = error.problems[0].where, error.problems[0].message
        raise by.wrong(f"report: {message} at {where}", "it is kept as JSON") from error
    if applied.begin_step is not None and not callable(applied.begin_step):
        raise by.wrong(f"begin_step: expected a function or None, found {_kind(applied.begin_step)}")
    return applied


def state(segment: Segment, done: Callable[[By], None] = lambda by: None) -> Check:
    """A mapping of names to dense tensors with finite numbers. `latents`, where it has them, are fp32 of the segment's
    `latent_shape`; those of a clip may be of fewer frames. `done` may raise as well."""

    def check(by: By, answer: Any) -> Mapping[str, torch.Tensor]:
        done(by)
        if not isinstance(answer, Mapping):
            raise by.wrong(f"expected a mapping of tensors, found {_kind(answer)}", _hint(answer))
        if not answer:
            raise by.wrong("expected a mapping of tensors, found an empty one")
        for name, tensor in answer.items():
            if not isinstance(name, str) or name in _NO_NAMES or not name.isprintable():
                raise by.wrong(f"expected names as keys, found {name!r}")
            _check_tensor(by, segment, name, tensor)
        if "latents" in answer:
            _check_latents(by, segment, answer["latents"])
        return answer

    return check


def _check_latents(by: By, segment: Segment, latents: torch.Tensor) -> None:
    shape: list[Any] = list(segment.latent_shape)
    found: list[Any] = list(latents.shape)
    if segment.clip is not None:
        shape[2] = "T"
        found[2:3] = ["T"]
    if latents.dtype != torch.float32 or found != shape:
        expected = f"float32 [{', '.join(map(str, shape))}]"
        raise by.wrong(f"{_of(segment)}latents: expected {expected}, found {_found(latents)}")


def _check_tensor(by: By, segment: Segment, name: str, value: Any) -> None:
    """A tensor whose values are there, are finite and can be stored."""
    place = f"{_of(segment)}{name}"
    if not isinstance(value, torch.Tensor):
        raise by.wrong(f"{place}: expected a tensor, found {_kind(value)}")
    if value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        raise by.wrong(f"{place}: expected a dense tensor, found one in the layout {layout}")
    if value.device.type == "meta":
        raise by.wrong(f"{place}: expected a tensor with its values, found one on the device meta")
    if value.dtype not in _STORED:
        expected = f"expected one of the dtypes {', '.join(map(_name, _STORED))}"
        raise by.wrong(f"{place}: {expected}, found {_name(value.dtype)}")
    if not bool(torch.isfinite(value).all()):
        raise by.wrong(f"{place}: expected finite numbers, found NaN or infinity")


def frames(segment: Segment, count: int) -> Check:
    """An iterator of `count` frames, uint8 [n, H, W, 3] a time, of the segment's size. Each is looked at when it is
    taken, and what is raised meanwhile names the plugin."""

    def check(by: By, answer: Any) -> Iterator[torch.Tensor]:
        if isinstance(answer, Mapping | str | bytes) or not isinstance(answer, Iterable):
            raise by.wrong(f"expected an iterator of frames, found {_kind(answer)}")
        return _frames(by, segment, count, answer)

    return check


def _frames(by: By, segment: Segment, count: int, answer: Iterable[Any]) -> Iterator[torch.Tensor]:
    shape, seen = (segment.height, segment.width, 3), 0
    expected = f"{_of(segment)}expected frames of uint8 [n, {', '.join(map(str, shape))}]"
    with by.blame():
        taken = iter(answer)
        try:
            for some in taken:
                if not isinstance(some, torch.Tensor):
                    raise by.wrong(f"{expected}, found {_kind(some)}")
                if some.dtype != torch.uint8 or some.ndim != 4 or tuple(some.shape[1:]) != shape:
                    raise by.wrong(f"{expected}, found {_found(some)}")
                seen += len(some)
                if seen > count:  # and not when it has ended, which it may never do
                    raise by.wrong(f"{_of(segment)}expected {count} frames, found more")
                yield some
        finally:
            close = getattr(taken, "close", None)
            if close is not None:
                close()
        if seen != count:
            raise by.wrong(f"{_of(segment)}expected {count} frames, found {seen}")


def clip(out: Path) -> Check:
    """A Clip that describes the file `out`: any other one is not svid's to take away."""

    def check(by: By, answer: Any) -> Clip:
        if not isinstance(answer, Clip):
            raise by.wrong(f"expected a svid.api.Clip, found {_kind(answer)}", _hint(answer))
        if answer.path != out:
            raise by.wrong(f"path: expected the one that it was given, found {answer.path}")
        return answer

    return check


def video(clips: Sequence[Clip], tags: Mapping[str, str], out: Path) -> Check:
    """An Artifact that describes the file `out`, which holds all frames of the clips, and the tags."""
    from svid.media.clips import check_joined

    count = sum(clip.frames for clip in clips)

    def check(by: By, answer: Any) -> Artifact:
        if not isinstance(answer, Artifact):
            raise by.wrong(f"expected a svid.api.Artifact, found {_kind(answer)}", _hint(answer))
        if answer.path != out:
            raise by.wrong(f"path: expected the one that it was given, found {answer.path}")
        if type(answer.frames) is not int or answer.frames != count:
            raise by.wrong(f"frames: expected {count}, found {answer.frames!r}")
        if not isinstance(answer.fps, int | float) or not 0 < answer.fps < float("inf"):
            raise by.wrong(f"fps: expected a number above 0, found {answer.fps!r}")
        if not isinstance(answer.codec, str) or not answer.codec:
            raise by.wrong(f"codec: expected a name, found {answer.codec!r}")
        try:
            check_joined(out, count, dict(tags))
        except MediaError as error:
            raise by.wrong(f"the file: {error.problems[0].message}") from error
        return answer

    return check


def _of(segment: Segment) -> str:
    return f"segment {segment.index + 1}: "


def _found(tensor: torch.Tensor) -> str:
    return f"{_name(tensor.dtype)} {list(tensor.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"


def _hint(answer: Any) -> str:
    return _WRAPPER if isinstance(answer, types.GeneratorType) else ""
