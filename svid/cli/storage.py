"""Verbs for what is stored: `gc`, `pin`, `backup`, `recover`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from svid.cli import home_of
from svid.cli.open import store_of
from svid.store.blobs import Blobs

MIB = 2**20


class Days(click.FloatRange):
    """Days, as a number: `nan` compares as neither too few nor too many."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails where it is none, or out of range."""
        found = float(super().convert(value, param, ctx))
        if found != found:
            self.fail("expected a number of days, found nan", param, ctx)
        return found


DAYS = Days(0, 36500)


@click.command()
@click.option("--yes", is_flag=True, help="Do it; without this, nothing is changed.")
@click.option("--grace", type=DAYS, default=7.0, show_default=True, help="Days that the trash is kept.")
@click.option("--undo", metavar="STAMP", help="Put back what an earlier run has moved into the trash.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def gc(ctx: click.Context, grace: float, undo: str | None, *, yes: bool, as_json: bool) -> None:
    """Move what no video, pin or waiting job leads to into db/trash, and empty the trash of what is old."""
    from svid.store import gc as store_gc

    home = home_of(ctx)
    store, blobs = store_of(home), Blobs(home.blobs, home.tmp)
    if undo is not None:
        count = store_gc.put_back(store, home, blobs, undo)
        click.echo(json.dumps({"back": count}) if as_json else f"{count} files are back in db/blobs")
        return
    gone = store_gc.purge(home, grace) if yes else []
    if yes:
        found, folder = store_gc.collect(store, home, blobs)
    else:
        with store.read() as session:
            found, folder = store_gc.find(session, home, blobs), None
    kept = store_gc.trash(home)
    if as_json:
        moved = folder.name if folder else None
        click.echo(json.dumps({**found.as_dict(), "moved_to": moved, "trash": kept, "deleted": gone}, indent=2))
        return
    what = f"{len(found.segments)} segments, {len(found.blobs)} blobs and {len(found.orphans)} files without a row"
    where = f"are in db/trash/{folder.name}" if folder else "can go"
    click.echo(f"{what} {where}: {found.bytes / MIB:.1f} MiB")
    for stamp, size in kept.items():
        click.echo(f"db/trash/{stamp}: {size / MIB:.1f} MiB; svid gc --undo {stamp} puts it back")
    if gone:
        click.echo(f"deleted for good: {', '.join(gone)}")
    if not yes:
        click.echo("nothing was changed; svid gc --yes does it")


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--remove", is_flag=True, help="Let go of it again.")
@click.pass_context
def pin(ctx: click.Context, id_: str, *, remove: bool) -> None:
    """Keep the segment ID and all before it, or the asset ID, whatever `svid gc` finds."""
    from svid.errors import NotFound, Problem
    from svid.store.lineage import resolve_stored

    home = home_of(ctx)
    folder = home.db / "pins"
    with store_of(home).read() as session:
        found = resolve_stored(session, id_)
    if found is None:
        raise NotFound(Problem(id_, "", "no segment and no asset has this id", "svid tree shows the segments"))
    folder.mkdir(exist_ok=True)
    if remove:
        (folder / found).unlink(missing_ok=True)
    else:
        (folder / found).touch()
    click.echo(found)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--copy", is_flag=True, help="No hard links to the home's own files, on one disk either.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def backup(ctx: click.Context, folder: Path, *, copy: bool, as_json: bool) -> None:
    """Make a checked copy of this home in a new folder under FOLDER. The copy is a home itself."""
    from svid.home import bundled_dir
    from svid.store.backup import back_up
    from svid.store.engine import open_store

    home = home_of(ctx)
    store_of(home).close()
    made = back_up(home, folder, lambda file: open_store(file, bundled_dir() / "db" / "migrations"), copy=copy)
    if as_json:
        facts = {"linked": made.linked, "copied": made.copied, "bytes": made.bytes}
        click.echo(json.dumps({"folder": str(made.folder), **facts}, indent=2))
    else:
        click.echo(f"{made.folder}: {made.linked} blobs linked, {made.copied} copied ({made.bytes / MIB:.1f} MiB)")


@click.command()
@click.option("--yes", is_flag=True, help="Put it in the place of the old one, which is kept in db/backups.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def recover(ctx: click.Context, *, yes: bool, as_json: bool) -> None:
    """Build the database again from what of it can be read, the receipts in watch/done and watch/failed, and the
    blobs."""
    from svid.daemon.lock import running
    from svid.errors import HomeError, Problem
    from svid.home import bundled_dir
    from svid.store.recover import install, rebuild

    home = home_of(ctx)
    if yes and running(home.daemons):
        raise HomeError(Problem(str(home.db), "", "a daemon runs here, of this home or of another", "end it first"))
    report = rebuild(home, bundled_dir() / "db" / "migrations")
    kept = install(home, report) if yes else None
    if as_json:
        facts = {"found": report.found, "lost": report.lost, "receipts": report.receipts}
        click.echo(json.dumps({**facts, "installed": yes, "kept": str(kept) if kept else None}, indent=2))
        return
    for line in report.lost:
        click.echo(f"lost: {line}", err=True)
    click.echo(", ".join(f"{number} {name}" for name, number in report.found.items()))
    if yes:
        old = home.shown(kept) if kept is not None else "gone"
        click.echo(f"in place; the old database is {old}. svid verify reads every byte")
    else:
        click.echo("this is db/recovered.db; svid recover --yes puts it in place")
