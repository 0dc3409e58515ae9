"""Which plugins are loaded, in what order, and which are refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from svid.errors import PluginError
from svid.plugin import Plugins, find
from svid.testing import make_job, make_segment

STAGE = """
from svid import hookimpl
{extra}
@hookimpl
def svid_sample(job):
    return {{"latents": {answer!r}}}
"""

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin of the machine that the tests run on."""
    monkeypatch.setattr(find, "entry_points", lambda group: [])
    for name in ("SVID_PLUGINS", "SVID_TRACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin that serves svid_sample with its own place: `write("bundled/a")`."""

    def write_one(place: str, text: str | None = None, extra: str = "") -> Path:
        path = tmp_path / f"{place}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAGE.format(answer=place, extra=extra) if text is None else text)
        return path

    return write_one


def load(tmp_path: Path) -> Plugins:
    return Plugins.load(tmp_path / "bundled", tmp_path / "home")


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = [EntryPoint(name, value, "svid") for name, value in entries.items()]
    monkeypatch.setattr(find, "entry_points", lambda group: found)


def sample(plugins: Plugins) -> str:
    more = dict.fromkeys(("model", "conditioning", "progress", "checkpoint"))
    answer = plugins.call("svid_sample", make_job(), make_segment(), **more)
    return str(answer["latents"])


def test_no_folder_is_no_plugins(tmp_path: Path) -> None:
    assert load(tmp_path).infos == []
    assert Plugins.load(tmp_path / "bundled", None).infos == []


def test_the_home_comes_first_then_packages_then_ours(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("bundled/b", "bundled/a", "home/d", "home/c", "site/svid_find_y", "site/svid_find_x"):
        write(place)
    package(tmp_path, monkeypatch, y="svid_find_y", x="svid_find_x")
    plugins = load(tmp_path)
    order = [(info.kind, info.name) for info in plugins.infos]
    assert order == [
        ("home", "c"),
        ("home", "d"),
        ("package", "x"),
        ("package", "y"),
        ("bundled", "a"),
        ("bundled", "b"),
    ]
    assert plugins.serving("svid_sample") == ["c", "d", "x", "y", "a", "b"]
    assert sample(plugins) == "home/c"


def test_only_python_files_count(tmp_path: Path, write: Write) -> None:
    for place in ("home/_helper", "home/.hidden", "home/real"):
        write(place)
    (tmp_path / "home/notes.txt").write_text("x")
    (tmp_path / "home/folder.py").mkdir()
    assert [info.name for info in load(tmp_path).infos] == ["real"]


def test_a_file_of_the_home_takes_the_place_of_ours(tmp_path: Path, write: Write) -> None:
    write("bundled/a", extra="CACHE_VERSION = 3")
    write("bundled/z")
    own = write("home/a", extra="CACHE_VERSION = 3")
    plugins = load(tmp_path)
    info = plugins.infos[0]
    assert [one.name for one in plugins.infos] == ["a", "z"]
    assert (info.kind, info.location, info.replaces) == ("home", "home/a.py", "bundled/a.py")
    assert sample(plugins) == "home/a"
    # it was changed, so what the original rendered must not be taken for what it would render
    assert info.cache_version == info.digest == hashlib.sha256(own.read_bytes()).hexdigest()


def test_an_exact_copy_counts_as_the_original(tmp_path: Path, write: Write) -> None:
    ours = write("bundled/a", extra="CACHE_VERSION = 3")
    write("home/a", ours.read_text())
    assert load(tmp_path).infos[0].cache_version == 3


def test_a_clone_is_a_home_whose_plugins_are_ours(tmp_path: Path, write: Write) -> None:
    write("bundled/a")
    (tmp_path / "link").symlink_to(tmp_path / "bundled")
    (info,) = Plugins.load(tmp_path / "bundled", tmp_path / "link").infos
    assert (info.kind, info.replaces) == ("bundled", "")


@pytest.mark.parametrize(("wanted", "loaded"), [("a,c", ["c", "a"]), (" a , ", ["a"]), ("", []), (",", [])])
def test_a_subset(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, wanted: str, loaded: list[str]
) -> None:
    for place in ("bundled/a", "bundled/b", "home/c"):
        write(place)
    monkeypatch.setenv("SVID_PLUGINS", wanted)
    assert [info.name for info in load(tmp_path).infos] == loaded


def test_a_subset_leaves_broken_plugins_alone(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("bundled/a")
    write("home/broken", "1 / 0")
    write("home/open").chmod(0o666)
    monkeypatch.setenv("SVID_PLUGINS", "a")
    assert [info.name for info in load(tmp_path).infos] == ["a"]


def test_a_subset_with_a_name_that_is_not_there(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("bundled/decoder")
    monkeypatch.setenv("SVID_PLUGINS", "decodr")
    with pytest.raises(PluginError, match=r"SVID_PLUGINS: decodr: there is no such plugin \(did you mean decoder"):
        load(tmp_path)


def test_what_others_can_write_is_refused(tmp_path: Path, write: Write) -> None:
    write("home/a").chmod(0o646)
    with pytest.raises(PluginError, match=r"home/a\.py: .*only its owner can write, found mode 0646 \(chmod o-w a\.py"):
        load(tmp_path)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, write: Write) -> None:
    write("home/a")
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(PluginError, match="expected a plugin folder"):
        load(tmp_path)
    (tmp_path / "home").chmod(0o1777)
    assert len(load(tmp_path).infos) == 1


def test_a_group_may_write(tmp_path: Path, write: Write) -> None:
    write("home/a").chmod(0o664)
    assert len(load(tmp_path).infos) == 1


def test_a_name_that_nobody_could_write_down(tmp_path: Path, write: Write) -> None:
    write("home/a,b")
    with pytest.raises(PluginError, match="found 'a,b'"):
        load(tmp_path)


def test_a_package_with_the_name_of_a_file(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("bundled/a")
    write("site/svid_find_z")
    package(tmp_path, monkeypatch, a="svid_find_z")
    with pytest.raises(PluginError, match=r"bundled/a\.py: .*found 'a' in entry point a = svid_find_z too"):
        load(tmp_path)


def test_a_packages_digest_covers_all_of_its_code(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site" / "svid_find_big"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '7'\n" + STAGE.format(answer="big", extra=""))
    (folder / "inner" / "maths.py").write_text("a = 1")
    package(tmp_path, monkeypatch, big="svid_find_big")
    before = load(tmp_path).infos[0]
    assert (before.version, before.cache_version) == ("7", before.digest)
    (folder / "inner" / "maths.py").write_text("a = 2")
    assert load(tmp_path).infos[0].digest != before.digest


def test_an_entry_point_names_a_module(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("site/svid_find_w")
    package(tmp_path, monkeypatch, w="svid_find_w:svid_sample")
    with pytest.raises(PluginError, match="names a module, found a function"):
        load(tmp_path)


BROKEN = [
    ("x = 1\n1 / 0", "line 2", "ZeroDivisionError: division by zero"),
    ("import no_such_thing", "line 1", "ModuleNotFoundError: No module named 'no_such_thing'"),
    ("\n\ndef (", "line 3", "SyntaxError"),
    ("import sys\nsys.exit(3)", "line 2", "SystemExit: 3"),
    ("raise BaseExceptionGroup('x', [ValueError(1)])", "line 1", "ExceptionGroup"),
    ("class Odd(Exception):\n    def __str__(self):\n        raise self\nraise Odd", "line 4", "Odd: (its message"),
]


@pytest.mark.parametrize(("text", "where", "message"), BROKEN)
def test_what_can_not_be_imported(tmp_path: Path, write: Write, text: str, where: str, message: str) -> None:
    write("home/bad", text)
    with pytest.raises(PluginError) as caught:
        load(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.where) == ("home/bad.py", where)
    assert message in problem.message
    assert caught.value.problems
    assert not any("home_bad" in name for name in sys.modules)


def test_a_broken_package_names_its_line(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("site/svid_find_broken", "\n1 / 0")
    package(tmp_path, monkeypatch, broken="svid_find_broken", gone="svid_find_gone")
    with pytest.raises(PluginError) as caught:
        load(tmp_path)
    first, second = caught.value.problems
    assert (first.file, first.where) == ("site/svid_find_broken.py", "line 2")
    assert second.file == "entry point gone = svid_find_gone"
    assert "No module named 'svid_find_gone'" in second.message


WRONG = [
    ("def svid_sample(job):\n    return 1", "line 3", "svid_sample has the name of a hook but is not marked"),
    (
        "@hookimpl\ndef svid_smaple(job):\n    return 1",
        "line 3",
        "there is no hook 'svid_smaple' (did you mean svid_sample",
    ),
    ("@hookimpl\ndef decode(job):\n    return 1", "line 3", "there is no hook 'decode' (did you mean svid_decode"),
    ("@hookimpl\ndef svid_sample(jbo):\n    return 1", "line 3", "found 'jbo' (did you mean job"),
    ("@hookimpl\ndef svid_sample(*, job):\n    return 1", "line 3", "expected plain arguments"),
    ("@hookimpl\ndef svid_sample(job, **rest):\n    return 1", "line 3", "expected plain arguments"),
    ("@hookimpl\ndef svid_recipes(job):\n    return 1", "line 3", "out of none, found 'job'"),
    ("@hookimpl(wrapper=True)\ndef svid_sample(job):\n    return 1", "", "not a generator function"),
    (
        "class Glow:\n    @hookimpl\n    def svid_sample(self, job):\n        return 1",
        "Glow.svid_sample",
        "is in a class, so it would never be asked (hooks are functions of the module",
    ),
    (
        "class Glow:\n    @staticmethod\n    @hookimpl\n    def svid_sample(job):\n        return 1\nglow = Glow()",
        "Glow.svid_sample",
        "is in a class",
    ),
    (
        "import functools\nsvid_check = hookimpl(functools.partial(print, 1))",
        "svid_check",
        "is marked as a hook but is a partial, so it would never be asked",
    ),
    (
        "@hookimpl(wrapper=True)\ndef svid_ask(job):\n    return (yield)",
        "line 3",
        "svid_ask: expected no wrapper: only stages have something to go around",
    ),
    (
        "@hookimpl\ndef svid_recipes():\n    return []\n@hookimpl(specname='svid_recipes')\ndef more():\n    return []",
        "line 6",
        "svid_recipes: expected it once, found it at line 3 too",
    ),
    ("CACHE_VERSION = 1.5", "", "CACHE_VERSION to be a whole number or text, found a float"),
    ("CACHE_VERSION = True", "", "found a bool"),
]


@pytest.mark.parametrize(("text", "where", "message"), WRONG)
def test_what_would_never_be_called_rightly(tmp_path: Path, write: Write, text: str, where: str, message: str) -> None:
    write("home/bad", "from svid import hookimpl\n\n" + text)
    with pytest.raises(PluginError) as caught:
        load(tmp_path)
    (problem,) = caught.value.problems
    assert problem.file == "home/bad.py"
    assert problem.where == where
    assert message in str(problem)


def test_a_hook_under_another_name(tmp_path: Path, write: Write) -> None:
    write(
        "home/a",
        "from svid import hookimpl\n@hookimpl(specname='svid_sample')\ndef go(job):\n    return {'latents': 'x'}",
    )
    assert sample(load(tmp_path)) == "x"


def test_helpers_may_be_called_anything_else(tmp_path: Path, write: Write) -> None:
    write("home/a", "from svid.hookspecs import svid_sample\nsvid_note = 1\ndef helper(): ...")
    assert load(tmp_path).infos[0].hooks == ()


def test_every_plugins_mistakes_come_at_once(tmp_path: Path, write: Write) -> None:
    write("home/a", "1 / 0")
    write("home/b", "def svid_sample(): ...\ndef svid_decode(): ...")
    with pytest.raises(PluginError) as caught:
        load(tmp_path)
    assert [problem.file for problem in caught.value.problems] == ["home/a.py", "home/b.py", "home/b.py"]


def test_what_runs_is_what_was_hashed(tmp_path: Path, write: Write) -> None:
    """An edit within the same second and of the same size would be missed by a .pyc."""
    for answer in ("one", "two", "six"):
        path = write("home/a", STAGE.format(answer=answer, extra=""))
        plugins = load(tmp_path)
        assert sample(plugins) == answer
        assert plugins.infos[0].digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not (tmp_path / "home/__pycache__").exists()


def test_a_plugin_may_have_postponed_annotations_and_options(tmp_path: Path, write: Write) -> None:
    text = """
from __future__ import annotations
from dataclasses import dataclass
from pydantic import BaseModel
from svid import hookimpl

class Inner(BaseModel):
    size: int = 1

class Options(BaseModel):
    inner: Inner = Inner()

@dataclass
class Thing:
    size: int = 1

@hookimpl
def svid_options() -> type[Options]:
    return Options
"""
    write("home/my-own", text)
    models = load(tmp_path).option_models()
    assert models["my-own"]().model_dump() == {"inner": {"size": 1}}
