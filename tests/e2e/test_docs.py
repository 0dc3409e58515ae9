"""What the pages say is so: every manifest in them is accepted, those of the recipes and of conditioning render, the
numbers are the recipes', the README's plugin works, every command exists, every link leads somewhere, and the schema is
the one of today."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

import svid
from svid.api import Encoding, Recipe, RecipeLora
from svid.cli import main
from svid.cli.open import desk_of
from svid.home import Home, bundled_dir
from svid.layout import Layout
from svid.media.clips import write_clip
from svid.plan.show import plan_as_dict
from svid.plugin.check import HOOKS
from svid.testing import load
from svid.workbench import Workbench
from tests.conftest import quick_home
from tests.e2e.tools import frames_of, new

ROOT = Path(svid.__file__).parent.parent
PAGES = sorted(
    file
    for file in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / name / "README.md" for name in ("watch", "db")),
    ]
    if file.is_file()
)
VARIANTS = sorted(ROOT.glob("docs/variants/*.md"))
RENDERED = ("docs/conditioning.md", "docs/manifests.md", "docs/variants/")
"""Pages whose manifests are rendered, not only planned."""
RECIPES = load().recipes()
EXAMPLES = sorted(file for file in (ROOT / "watch/examples").iterdir() if file.suffix in (".toml", ".json"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[Any]:
    """The fenced blocks of a language, each named by its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in FENCED.finditer(text):
            if found[1] == language:
                yield pytest.param(found[2], id=f"{shown(page)}:{text[: found.start()].count(chr(10)) + 1}")


def tiny(manifest: dict[str, Any]) -> dict[str, Any]:
    """A new video of a page with segments of a tenth of a second: as small as what it asks for lets it be."""
    layout = recipe_of(manifest).layout.model_copy(update=manifest.get("conditioning", {}))
    longest = max(2 * layout.overlap if layout.seam == "blend" else layout.overlap, 4 * layout.amplitude_from)
    last = [lora["steps"][1] for lora in manifest.get("loras", ()) if "steps" in lora]
    return {
        **manifest,
        "name": "of a page",
        "width": 32,
        "height": 32,
        "frames": max(9, longest // 4 * 4 + 5),
        "sample": {**manifest.get("sample", {}), "steps": max([1, *last])},
    }


def recipe_of(manifest: dict[str, Any]) -> Recipe:
    return RECIPES[manifest.get("recipe", "svi-2.0-pro")]


def readme_plugin() -> str:
    (plugin,) = [block.values[0] for block in blocks("python") if str(block.id).startswith("README.md")]
    return str(plugin)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The home that the pages speak of: the video "harbour at dawn" of three segments, pictures, a clip, warm.py."""
    root = tmp_path_factory.mktemp("docs") / "home"
    quick_home(root)
    (root / "plugins/warm.py").write_text(readme_plugin())
    for name in ("harbour.png", "gull.png"):
        (root / "watch/inbox" / name).write_bytes((root / "watch/examples" / name).read_bytes())
    write_clip([steps_of_grey(11)], root / "watch/inbox/walk.mkv", 16.0, Encoding("ffv1"))
    home = Home(root)
    made = Workbench(home, desk_of(home))
    made.run(new("harbour at dawn", "boats", "gulls", "sun"))
    return made


def steps_of_grey(count: int) -> torch.Tensor:
    """Frames of a clip, uint8 [count, 32, 48, 3]."""
    return (torch.arange(count, dtype=torch.uint8) * 20)[:, None, None, None].expand(count, 32, 48, 3).contiguous()


# Manifests


def test_there_are_manifests_to_try() -> None:
    pages = {str(block.id).split(":")[0] for block in blocks("toml")}
    assert {"README.md", "docs/manifests.md", "docs/lineage.md", "docs/conditioning.md"} <= pages
    assert {shown(page) for page in VARIANTS} <= pages
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("text", [*blocks("toml")])
def test_every_manifest_of_the_pages_is_accepted(bench: Workbench, text: str) -> None:
    request = bench.desk.understand(text.encode(), "block.toml", bench.home.inbox)
    plan = plan_as_dict(bench.desk, request)
    assert plan["segments"]
    assert "waits_for" not in plan


@pytest.mark.parametrize("text", [block for block in blocks("toml") if str(block.id).startswith(RENDERED)])
def test_every_manifest_of_the_recipes_and_of_conditioning_renders(bench: Workbench, text: str) -> None:
    manifest = tomllib.loads(text)
    asked = manifest.get("segments", len(manifest["prompts"]) * recipe_of(manifest).prompt_repeat)
    video = bench.run(tiny(manifest))
    assert len(video["segments"]) == asked + ("clip" in manifest)
    frames = frames_of(video["artifacts"][-1]["path"])
    assert frames.shape[1:] == (32, 32, 3)
    assert len(frames) == sum(segment["frames"] for segment in video["segments"])


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_planned_where_it_lies(bench: Workbench, file: Path) -> None:
    copy = bench.home.watch / "examples" / file.name
    plan = plan_as_dict(bench.desk, bench.desk.understand(copy.read_bytes(), copy.name, copy.parent))
    assert plan["segments"]
    if file.suffix == ".toml":
        assert copy.read_text().startswith("#:schema ../schema/manifest.schema.json\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cut.toml", "extend.toml", "branch.toml", "redo.toml"])
def test_the_examples_render(bench: Workbench, name: str) -> None:
    manifest = tomllib.loads((bench.home.watch / "examples" / name).read_text())
    tiny = {"frames": 9, "width": 32, "height": 32, "sample": {"steps": 1}} if "image" in manifest else {}
    if "extend" in manifest:
        bench.run({"branch": "harbour at dawn@3", "name": "to be extended"})
        manifest["extend"] = "to be extended"
    if "redo" in manifest:
        bench.run({"branch": "harbour at dawn@3", "name": "to be redone"})
        manifest["redo"] = "to be redone@2"
    video = bench.run({**manifest, **tiny})
    expected = {"cut.toml": 3, "extend.toml": 5, "branch.toml": 3, "redo.toml": 3}[name]
    assert len(video["segments"]) == expected
    assert len(frames_of(video["artifacts"][-1]["path"])) == 9 + 4 * (expected - 1)


# Recipes


def numbers(recipe: Recipe) -> dict[str, str]:
    """The numbers of a recipe as the pages write them."""
    layout, guidance, both = recipe.layout, recipe.guidance, recipe.base == "wan2.2-i2v"
    frames = "last frame" if layout.motion_frames == 1 else f"last {layout.motion_frames} frames"
    latents = f"the anchor's latent, last {layout.motion_latents} latent"
    side = {"head": "next one's first", "tail": "previous one's last", "blend": "blend of"}[layout.seam]
    loras = [f"`{one.name}` {one.high:g}" + (f"/{one.low:g}" if both else "") for one in recipe.loras]
    own = recipe.loras == (RecipeLora(name=recipe.name),)
    fixed, given = f"{recipe.width} x {recipe.height}", f"the picture's, up to {recipe.max_width} wide"
    return {
        "size": given if recipe.max_width else fixed,
        "frames a second": f"{recipe.fps:g}",
        "steps": str(recipe.steps),
        "sampler": recipe.sampler,
        "shift": f"{recipe.shift:g}",
        "guidance": "/".join(dict.fromkeys(f"{scale:g}" for scale in (guidance.high, guidance.low))),
        "boundary": f"{recipe.boundary:g}" if both else "none",
        "given": latents if layout.motion_latents else frames,
        "padding": {"grey": "grey", "reference": "the anchor", "zero_latent": "zero latents"}[layout.pad],
        "seam": f"{side} {layout.overlap}",
        "segments a prompt": str(recipe.prompt_repeat),
        "seed +": str(recipe.seed_stride),
        "LoRAs": "its own, at 1" if own else ", ".join(loras) or "none",
    }


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The cells of every table of a page, without the line under the head."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for is_table, group in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            head, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in group]
            yield [head, *rows]


def written_numbers(page: Path) -> Iterator[tuple[str, str, str]]:
    """(recipe, number, as it is written): of the tables with recipes across the top and nothing in the first place, and
    of the overview's with recipes down the side."""
    for head, *rows in tables(page):
        if head[0] == "":
            for key, *cells in rows:
                for column, cell in zip(head[1:], cells, strict=True):
                    yield from ((name, key, cell) for name in re.findall(r"`([^`]+)`", column))
        elif head[0] == "recipe" and "steps" in head:
            for first, *cells in rows:
                for key, cell in zip(head[1:], cells, strict=True):
                    yield from ((name, key, cell) for name in re.findall(r"`([^`]+)`", first))


@pytest.mark.parametrize("page", [ROOT / "docs/variants.md", *VARIANTS], ids=shown)
def test_the_numbers_on_the_pages_are_the_recipes(page: Path) -> None:
    for name, key, cell in written_numbers(page):
        assert cell == numbers(RECIPES[name])[key], f"{name}, {key}"


def test_every_recipe_has_its_numbers_and_a_manifest_on_a_page() -> None:
    overview = ROOT / "docs/variants.md"
    assert {name for name, *_ in written_numbers(overview)} == set(RECIPES)
    assert {name for page in VARIANTS for name, *_ in written_numbers(page)} == set(RECIPES)
    asked = [tomllib.loads(str(block.values[0])).get("recipe") for block in blocks("toml")]
    assert {recipe.variant for recipe in RECIPES.values()} <= {RECIPES[name].variant for name in asked if name}
    linked = re.findall(r"\]\((variants/[^)]+)\)", overview.read_text(encoding="utf-8"))
    assert {f"variants/{page.name}" for page in VARIANTS} == set(linked)
    for page in VARIANTS:
        heads = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        expected = ["What it is for", "What it needs", "The numbers", "A manifest", "What goes wrong, and what helps"]
        assert [head for head in heads if head in expected] == expected, shown(page)


def test_conditioning_has_a_part_for_every_option() -> None:
    text = (ROOT / "docs/conditioning.md").read_text(encoding="utf-8")
    heads = set(re.findall(r"\w+", " ".join(re.findall(r"^## (.*)$", text, re.MULTILINE))))
    assert set(Layout.model_fields) | {"anchors", "ends", "clip", "stream", "boundary"} <= heads


# The plugin


def test_the_readmes_plugin_warms(bench: Workbench) -> None:
    def film(levels: int) -> torch.Tensor:
        options = {"options": {"warm": {"levels": levels}}} if levels else {}
        video = bench.run(new(f"warm {levels}", "boats", seed=21, encode={"codec": "ffv1"}, **options))
        return frames_of(video["artifacts"][0]["path"]).int()

    plain, warm = film(0), film(40)
    assert torch.equal(warm[..., 0], (plain[..., 0] + 40).clamp(max=255))
    assert torch.equal(warm[..., 1:], plain[..., 1:])
    assert warm[..., 0].float().mean() > plain[..., 0].float().mean() + 20
    tails = [
        bench.studio.blobs.get_tensors(bench.show(bench.show(f"warm {levels}")["tip"])["tail"])["tail"].int()
        for levels in (0, 40)
    ]
    assert torch.equal(tails[1][..., 0], (tails[0][..., 0] + 40).clamp(max=255)), "the next segment sees it too"


def test_the_readmes_plugin_is_listed_and_has_its_options_in_the_schema(bench: Workbench) -> None:
    runner, home = CliRunner(), ["--home", str(bench.home.root)]
    listed = runner.invoke(main, [*home, "plugins"]).stdout
    assert re.search(r"^ *warm +home", listed, re.MULTILINE), listed
    schema = json.loads(runner.invoke(main, [*home, "schema"]).stdout)
    assert "warm" in schema["properties"]["options"]["properties"]
    assert any("levels" in table.get("properties", {}) for table in schema["$defs"].values())


# Commands


WORDS = re.compile(r"^(?:[A-Z_]+=\S+ +)*svid +(?!toml\b)")


def commands() -> Iterator[Any]:
    """Every line with a svid command in a block of code, indented or fenced, and every `svid ...` in a sentence, which
    may leave out arguments."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = "".join(found[2] for found in FENCED.finditer(text) if found[1] in ("", "sh", "bash", "console"))
        rest = FENCED.sub("", text)
        lines = [line.strip() for line in rest.splitlines() if line.startswith("    ")]
        lines += [line.strip().removeprefix("$ ") for line in fences.splitlines()]
        lines += [f"svid {found}" for line in lines for found in re.findall(r"&& svid (.*)", line)]
        said = re.findall(r"`(svid [a-z][^`\n]*)`", rest)
        for line, whole in {**dict.fromkeys(said, False), **dict.fromkeys(lines, True)}.items():
            if WORDS.match(line):
                yield pytest.param(re.split(r" (?:&&|>) ", line)[0], whole, id=f"{shown(page)}: {line[:60]}")


def parsed(line: str, *, whole: bool = True) -> click.Command:
    """The command of a line, having checked its options and arguments. Nothing is run."""
    words = shlex.split(WORDS.sub("", line), comments=True)
    context = click.Context(main, info_name="svid")
    command: click.Command = main
    while isinstance(command, click.Group):
        _, words, _ = command.make_parser(context).parse_args(list(words))  # without the group's own options
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command, context = found, click.Context(found, parent=context, info_name=name)
        if isinstance(command, click.Group) and command.invoke_without_command and not words:
            return command
    given, left, _ = command.make_parser(context).parse_args(words)
    assert left == [], f"too many arguments: {left}"
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required and whole:
            assert isinstance(given.get(str(parameter.name)), str), f"{parameter.name} is missing"
    return command


@pytest.mark.parametrize(("line", "whole"), [*commands()])
def test_every_command_of_the_pages_exists(
    bench: Workbench, line: str, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVID_HOME", str(bench.home.root))
    parsed(line, whole=whole)


def test_the_check_of_commands_can_fail() -> None:
    lines = [str(command.values[0]) for command in commands()]
    assert len(lines) >= 15
    assert {"init", "up", "submit", "extend", "branch", "show", "verify"} <= {
        WORDS.sub("", line).split()[0] for line in lines
    }
    for wrong in ("svid extend", "svid status --jsn", "svid verify this", "svid plugins old x"):
        with pytest.raises((AssertionError, click.UsageError)):
            parsed(wrong)


# Links, schema, hooks


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            aim = (page.parent / path).resolve() if path else page
            assert aim.exists(), f"{shown(page)} links to {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", aim.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{shown(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for written in re.findall(
        r"`((?:svid|tests|mini|benchmarks|docs|plugins)/[\w./-]*)`", page.read_text(encoding="utf-8")
    ):
        if written != "plugins/warm.py":
            assert (ROOT / written).exists(), f"{shown(page)} names {written}"


def test_the_schema_file_is_what_svid_schema_prints_in_a_new_home(tmp_path: Path) -> None:
    home = quick_home(tmp_path / "home")
    printed = CliRunner().invoke(main, ["--home", str(home.root), "schema"])
    assert printed.exit_code == 0
    file = bundled_dir() / "watch/schema/manifest.schema.json"
    assert file.read_text(encoding="utf-8") == printed.stdout, "svid schema > watch/schema/manifest.schema.json"
    assert (home.watch / "schema/manifest.schema.json").read_bytes() == file.read_bytes()


def test_the_page_on_plugins_has_every_hook_with_its_arguments() -> None:
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    for name, hook in HOOKS.items():
        assert f"`{name}({', '.join(inspect.signature(hook).parameters)})`" in page
    for named in re.findall(r"\bsvid_\w+", page):
        assert named in HOOKS or named == "svid_plugins", f"there is no hook {named}"
