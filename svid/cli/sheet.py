"""`svid sheet`: a video at a glance."""

from __future__ import annotations

from pathlib import Path

import click

from svid.cli import home_of
from svid.cli.open import store_of
from svid.errors import NotFound, Problem, UsageError
from svid.home import Home
from svid.store.blobs import Blobs
from svid.store.files import sheet_beside, write_whole


@click.command()
@click.argument("video")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it (a PNG file).")
@click.pass_context
def sheet(ctx: click.Context, video: str, out: Path | None) -> None:
    """Draw the contact sheet of VIDEO again, `ID@k` for its first k segments, beside its newest file or into --out."""
    from svid.media.sheet import draw_sheet
    from svid.render.sheet import stored_clips, strips_of, title_of
    from svid.store.lineage import chain, file_of, resolve, segment_at

    home = home_of(ctx)
    with store_of(home).read() as session:
        meant = resolve(session, video)
        tip = segment_at(session, meant.video, meant.length).id if meant.length else meant.video.tip_id
        segments = chain(session, tip)
        if not segments:
            raise NotFound(Problem(video, "", "the video has no segment yet", "svid status says what waits"))
        strips = strips_of(segments, stored_clips(session, Blobs(home.blobs, home.tmp), segments))
        file, title = file_of(session, meant.video, segments[-1].id), title_of(meant.video)
    target = out.absolute() if out else _beside(home, file, video)
    if target.is_dir():
        raise UsageError(Problem(str(target), "", "expected a file, found a folder"))
    if not target.parent.is_dir():
        raise UsageError(Problem(str(target), "", "expected a place in a folder, found no such folder"))
    # Outside of the home: db/tmp may be on another file system, from which nothing can be renamed.
    write_whole(target, draw_sheet(title, strips), None if out else home.tmp)
    click.echo(target)


def _beside(home: Home, file: str | None, video: str) -> Path:
    if file is None or not (home.root / file).is_file():
        raise NotFound(Problem(video, "", "there is no file that a sheet could lie beside", "--out names a place"))
    return sheet_beside(home.root / file)
