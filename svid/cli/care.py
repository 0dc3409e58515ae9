"""Verbs that look after a home: `verify`, `doctor`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import click

from svid.api import Finding
from svid.cli import home_of
from svid.cli.models import rows_of
from svid.cli.open import store_of
from svid.config import weights_path
from svid.home import Home
from svid.manifest.words import near
from svid.plugin import plugins_of
from svid.store.blobs import Blobs


@click.command()
@click.option("--quick", is_flag=True, help="Half a second's sample: sizes of blobs, hashes of segments.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def verify(ctx: click.Context, *, quick: bool, as_json: bool) -> None:
    """Hash every blob and every segment again, and name what has changed."""
    from svid.store.verify import verify as check_all

    home = home_of(ctx)
    if quick:
        ctx.exit(_verify_quickly(home, as_json=as_json))
    checked, problems = 0, []
    with store_of(home).read() as session:
        for problem in check_all(session, Blobs(home.blobs, home.tmp), home):
            checked += 1
            if problem is not None:
                problems.append(problem)
                click.echo(str(problem), err=True)
    if as_json:
        click.echo(json.dumps({"checked": checked, "problems": [problem.as_dict() for problem in problems]}, indent=2))
    else:
        click.echo(f"{checked} checked, {len(problems)} wrong")
    ctx.exit(1 if problems else 0)


def _verify_quickly(home: Home, *, as_json: bool) -> int:
    from svid.store.quick import look

    with store_of(home).read() as session:
        found = look(session, Blobs(home.blobs, home.tmp))
    for problem in found.problems:
        click.echo(str(problem), err=True)
    if as_json:
        facts = {"checked": found.checked, "of": found.of, "complete": found.complete}
        click.echo(json.dumps({**facts, "problems": [problem.as_dict() for problem in found.problems]}, indent=2))
    else:
        share = "all" if found.complete else f"of about {found.of}"
        click.echo(f"{found.checked} looked at ({share}), {len(found.problems)} wrong; svid verify reads every byte")
    return 1 if found.problems else 0


def _lora_findings(home: Home) -> Iterator[Finding]:
    """The files of LoRAs that svid.toml names, as far as they are missing."""
    for row in rows_of(home):
        if row["kind"] == "lora" and not row["found"]:
            of = f" of model {row['model']}" if row["model"] else ""
            yield Finding("error", f"LoRA {row['name']}{of}: there is no file {row['path']}")


def _named_findings(home: Home, recipes: Collection[str]) -> Iterator[Finding]:
    """What svid.toml names and this home does not have."""
    for kind, known in (("recipe", recipes), ("model", home.config.models)):
        name = getattr(home.config.defaults, kind)
        if name not in known:
            yield Finding("error", f"svid.toml: defaults.{kind}: there is no {kind} {name!r}", near(name, known))
    for root in home.config.media.roots:
        if not (home.root / Path(root).expanduser()).is_dir():
            yield Finding("warning", f"svid.toml: media.roots: there is no folder {root}")


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """What is in force in this home, and what is amiss."""
    from svid.daemon.health import storage_findings
    from svid.errors import SvidError
    from svid.render.env import choose_device, choose_dtype
    from svid.wan.folder import read_summary

    home = home_of(ctx)
    plugins = plugins_of(home)
    findings = []
    try:
        device, why = choose_device(home.config.render.device)
        dtype, why_dtype = choose_dtype(home.config.render.dtype, device)
        findings += [Finding("ok", f"device {device} ({why})"), Finding("ok", f"dtype {dtype} ({why_dtype})")]
    except SvidError as error:
        findings += [Finding("error", str(problem)) for problem in error.problems]
    try:
        store = store_of(home)
        findings += [Finding("ok", f"database {home.database}"), *storage_findings(home, store)]
        store.close()
    except SvidError as error:
        findings += [Finding("error", str(problem)) for problem in error.problems]
    for name, table in home.config.models.items():
        try:
            summary = read_summary(weights_path(table.path, home.root))
            findings.append(Finding("ok", f"model {name}: {summary.nbytes / 2**20:.0f} MiB of weights"))
        except SvidError as error:
            findings += [Finding("error", f"model {name}: {problem}") for problem in error.problems]
    findings += [*_lora_findings(home), *_named_findings(home, plugins.recipes()), *plugins.findings()]
    for finding in findings:
        hint = f" ({finding.hint})" if finding.hint else ""
        click.echo(f"{finding.level:8}{finding.message}{hint}")
    ctx.exit(1 if any(finding.level == "error" for finding in findings) else 0)
