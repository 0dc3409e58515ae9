"""Import a plugin and say what it is. What runs is what was hashed: a file is read once, no .pyc takes its place."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
import traceback
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import svid
from svid.errors import PluginError, Problem
from svid.plugin.blame import said
from svid.plugin.check import check_module, hooks_of
from svid.plugin.find import Source, shown, unsafe
from svid.plugin.info import Kind, Loaded, PluginInfo


def load_source(source: Source) -> Loaded:
    """Import a plugin that was found. Raises PluginError, with the file and the line where that is known."""
    if source.file is not None:
        return load_file(source.file, source.kind, source.replaces)
    assert source.entry is not None  # noqa: S101 - a source is a file or an entry point
    return _load_entry(source.entry)


def load_file(file: Path, kind: Kind = "home", replaces: Path | None = None, name: str = "") -> Loaded:
    """Import one file as a plugin. Raises PluginError."""
    try:
        data = file.read_bytes()
        replaced = replaces.read_bytes() if replaces else None
    except OSError as error:
        raise PluginError(Problem(shown(file), "", f"can't be read: {error.strerror}")) from error
    # A name of its own per place: dataclasses and pydantic look their module up by it.
    place = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]
    loader = _Bytes(f"svid_plugin_{place}_{file.stem.replace('-', '_')}", file, data)
    spec = importlib.util.spec_from_file_location(loader.name, file, loader=loader)
    assert spec is not None  # noqa: S101 - it is None only without a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a plugin's own code may raise anything
        del sys.modules[loader.name]
        raise PluginError(_import_problem(error, shown(file), file)) from error
    # A changed copy still has the CACHE_VERSION of its original, and a segment rendered with the original must not be
    # taken for one rendered with the copy.
    changed = replaces is not None and replaced != data
    digest = hashlib.sha256(data).hexdigest()
    info = PluginInfo(
        name=name or file.stem,
        kind=kind,
        location=shown(file),
        version=str(getattr(module, "__version__", svid.__version__ if kind == "bundled" else "")),
        digest=digest,
        hooks=hooks_of(module),
        cache_version=digest if changed else _cache_version(module, digest),
        replaces=shown(replaces) if replaces else "",
    )
    return _checked(Loaded(info, module, file.absolute()))


def load_module(module: ModuleType, name: str = "", version: str = "") -> Loaded:
    """Take an imported module as a plugin; without a name, it is called as the module is, less `svid_`.

    Raises PluginError.
    """
    root, files = _files_of(module)
    problems = [problem for file in files for problem in unsafe(file)]
    if problems:
        raise PluginError(problems)
    digest = _digest(root, files)
    file = getattr(module, "__file__", None)
    info = PluginInfo(
        name=name or module.__name__.rpartition(".")[2].removeprefix("svid_"),
        kind="package",
        location=shown(Path(file)) if file else "in memory",
        version=version or str(getattr(module, "__version__", "")),
        digest=digest,
        hooks=hooks_of(module),
        cache_version=_cache_version(module, digest),
    )
    return _checked(Loaded(info, module, root))


class _Bytes(importlib.abc.SourceLoader):
    """Loads a module from bytes that were read before."""

    def __init__(self, name: str, file: Path, data: bytes) -> None:
        self.name, self.file, self.data = name, file, data

    def get_filename(self, fullname: str) -> str:
        return str(self.file)

    def get_data(self, path: str | bytes) -> bytes:
        return self.data


def _load_entry(entry: EntryPoint) -> Loaded:
    where = f"entry point {entry.name} = {entry.value}"
    try:
        module = entry.load()
    except (Exception, SystemExit) as error:  # a plugin's own code may raise anything
        raise PluginError(_import_problem(error, where, None)) from error
    if not isinstance(module, ModuleType):
        message = f"expected an entry point that names a module, found a {type(module).__name__}"
        raise PluginError(Problem(where, "", message, f'{entry.name} = "{entry.module}"'))
    return load_module(module, entry.name, entry.dist.version if entry.dist else "")


def _checked(loaded: Loaded) -> Loaded:
    problems = list(check_module(loaded.module, loaded.info.location))
    if problems:
        raise PluginError(problems)
    return loaded


def _cache_version(module: ModuleType, digest: str) -> int | str:
    version: int | str = getattr(module, "CACHE_VERSION", digest)
    return version


def _files_of(module: ModuleType) -> tuple[Path, list[Path]]:
    """Where a module's code is: the folder of its package and every .py file in it, or its one file."""
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    if folders:
        return folders[0], sorted(path for folder in folders for path in folder.rglob("*.py"))
    file = getattr(module, "__file__", None)
    return (Path(file), [Path(file)]) if file else (Path("in memory"), [])


def _digest(root: Path, files: list[Path]) -> str:
    if files == [root]:
        return hashlib.sha256(root.read_bytes()).hexdigest()
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _import_problem(error: BaseException, where: str, file: Path | None) -> Problem:
    """Where importing failed: the line of the plugin, or else the innermost one that is not Python's own importing."""
    if isinstance(error, SyntaxError) and error.filename:
        where, line = shown(Path(error.filename)), error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if file is not None and frame.filename == str(file)]
        # the first frame is ours
        outside = [frame for frame in frames[1:] if not _is_importlib(frame)]
        line = None
        for frame in (inside or outside)[-1:]:
            where, line = shown(Path(frame.filename)), frame.lineno
    return Problem(where, f"line {line}" if line else "", f"can't be imported: {said(error)}")


def _is_importlib(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith("<frozen") or Path(frame.filename).parent.name in {"importlib", "metadata"}
