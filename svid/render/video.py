"""From segments to a file: every segment is encoded once, and a video is their packets, copied."""

from __future__ import annotations

from pathlib import Path

import svid
from svid.api import Job
from svid.crash import crashpoint
from svid.media.codecs import codec
from svid.render import answers
from svid.render.clips import clips_of_chain
from svid.render.sheet import drawn, strips_of, title_of
from svid.render.studio import Studio
from svid.render.watch import Watch
from svid.store import models
from svid.store.again import move_tip
from svid.store.files import file_stem, make_folder, publish, sha256_of, sheet_beside, sync_file, write_whole
from svid.store.lineage import chain
from svid.store.queue import finish, held


def make_video(
    studio: Studio, watch: Watch, job: Job, attempt: int, text: str, folder: Path, tip: str, *, moves: bool
) -> None:
    """Join the chain up to the segment `tip` and draw its contact sheet; then put both into `folder` and commit the
    artifact and the end of the job together, and with them, if it `moves`, that the video ends there. Raises Fenced
    where another has the job now."""
    with studio.store.read() as session:
        video = session.get_one(models.Video, job.video)
        segments = chain(session, tip)
    clips = clips_of_chain(studio, watch, job, attempt, segments)
    watch.tell({"event": "joining", "job": job.id})
    target = folder / f"{file_stem(job.name)}{codec(job.encoding.codec).suffix}"
    part = studio.blobs.scratch(target.suffix)
    tags = {"svid": svid.__version__, "video": job.video, "name": job.name, "tip": tip, "job": job.id, "manifest": text}
    check = answers.video(clips, tags, part)
    made = studio.plugins.call("svid_join", job, None, check=check, job=job, clips=clips, tags=tags, out=part)
    crashpoint("video-written")
    sha256 = sha256_of(part)
    sheet = drawn(target, title_of(video), strips_of(segments, clips))
    sync_file(part)
    with held(studio.store, job.id, attempt) as session:
        make_folder(folder)
        publish(part, target)
        crashpoint("video-published")
        if sheet is not None:
            write_whole(sheet_beside(target), sheet, studio.home.tmp)
        crashpoint("sheet-published")
        if moves:
            move_tip(session, job.video, tip, job.id)
        session.add(
            models.Artifact(
                video_id=job.video,
                tip_id=tip,
                job_id=job.id,
                path=target.relative_to(studio.home.root).as_posix(),
                sha256=sha256,
                frames=made.frames,
                fps=made.fps,
                codec=made.codec,
            )
        )
        finish(session, job.id, attempt)
    crashpoint("job-done")
