"""From segments to a file: every segment is encoded once, and a video is their packets, copied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
from sqlalchemy import select
from sqlalchemy.orm import Session

import svid
from svid.api import Carry, Clip, Footage, Job, Picture, Sampling, Segment
from svid.canonical import digest
from svid.crash import crashpoint
from svid.media.codecs import codec
from svid.render import answers
from svid.render.chain import Work, run_chain
from svid.render.commit import note_blob, note_clip
from svid.render.sheet import drawn, strips_of, title_of
from svid.render.studio import Studio
from svid.store import models
from svid.store.again import move_tip
from svid.store.blobs import Blobs
from svid.store.files import make_folder, publish, sha256_of, sheet_beside, sync_file, write_whole
from svid.store.lineage import chain
from svid.store.queue import finish, held

STEM_BYTES = 160


def encoding_key(studio: Studio, job: Job, dropped: int) -> str:
    """The digest of what decides the bytes of an encoded clip of a segment, `dropped` frames at its end left out. Clips
    of another encoder build can't be joined with this one's, so its version is part of it."""
    encoders = {info.name: info.cache_version for info in studio.plugins.infos if "svid_encode" in info.hooks}
    return digest(
        {
            "codec": job.encoding.codec,
            "quality": job.encoding.quality,
            "fps": job.fps,
            "dropped": dropped,
            "av": av.__version__,
            "encoders": encoders,
        }
    )


def make_video(studio: Studio, job: Job, attempt: int, text: str, folder: Path, tip: str, *, moves: bool) -> None:
    """Join the chain up to the segment `tip` and draw its contact sheet; then put both into `folder` and commit the
    artifact and the end of the job together, and with them, if it `moves`, that the video ends there. Raises Fenced
    where another has the job now."""
    with studio.store.read() as session:
        video = session.get_one(models.Video, job.video)
        segments = chain(session, tip)
    clips = _clips(studio, job, attempt, segments)
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


def _clips(studio: Studio, job: Job, attempt: int, segments: Sequence[models.Segment]) -> list[Clip]:
    """The clip of every segment. One is missing where the video was encoded otherwise before, and for the segment that
    was the last one, if its end is left out now that another follows."""
    dropped = [segment.parent_trim for segment in segments[1:]] + [0]
    keys = {number: encoding_key(studio, job, number) for number in set(dropped)}
    with studio.store.read() as session:
        have = clips_of(session, [segment.id for segment in segments], list(keys.values()))
    clips = []
    for place, (segment, number) in enumerate(zip(segments, dropped, strict=True)):
        row = have.get((segment.id, keys[number]))
        if row is None:
            parent = segments[place - 1] if place else None
            clips.append(_encode_again(studio, job, attempt, segment, parent, number))
        else:
            clips.append(Clip(studio.blobs.verified(row.blob), row.frames))
    return clips


def _encode_again(
    studio: Studio, job: Job, attempt: int, row: models.Segment, parent: models.Segment | None, dropped: int
) -> Clip:
    """Encode a segment from its stored latents, in an encoding that it does not have yet."""
    segment = segment_from_row(row, studio.blobs)
    options = {name: part["options"] for name, part in row.ask["plugins"].items() if "options" in part}
    then = replace(job, options={**job.options, **studio.options(options)})
    work = Work(
        plugins=studio.plugins,
        load=studio.load,
        job=then,
        segment=segment,
        carry=read_carry(studio, parent) if parent else None,
        progress=lambda step, steps: None,
        out=studio.blobs.scratch(codec(job.encoding.codec).suffix),
        state=studio.blobs.get_tensors(row.latents),
        dropped=dropped,
    )
    run_chain(("load_model", "decode", "encode"), work)
    if work.clip is None:
        raise RuntimeError("the encode stage gives a clip")
    draft = studio.blobs.draft_file(work.clip.path)
    with held(studio.store, job.id, attempt) as session:
        blob = studio.blobs.publish(draft)
        note_blob(session, studio.blobs, blob, "clip")
        note_clip(session, row.id, encoding_key(studio, job, dropped), blob, work.clip.frames)
    return Clip(studio.blobs.path(blob), work.clip.frames)


def segment_from_row(row: models.Segment, blobs: Blobs) -> Segment:
    """A committed segment as the decode stage sees it: without what only sampling needs, such as pictures and LoRAs."""
    ask, sampling, clip = row.ask, row.ask["sampling"], row.ask.get("clip")
    return Segment(
        index=row.index,
        prompt=ask["prompt"],
        negative=ask["negative"],
        seed=ask["seed"],
        frames=row.frames,
        width=row.width,
        height=row.height,
        anchor=Picture(Path(), "", ask["anchor"] or ""),
        image=None,
        overlap=row.overlap,
        parent_trim=row.parent_trim,
        blend=row.blend,
        stream=ask.get("stream", False),
        clip=Footage(blobs.verified(clip["bytes"]), clip["bytes"], clip["last"]) if clip else None,
        sampling=Sampling(**sampling | {"sigmas": tuple(sampling["sigmas"]) if sampling["sigmas"] else None}),
    )


def clips_of(session: Session, segments: Sequence[str], encodings: Sequence[str]) -> dict[tuple[str, str], models.Clip]:
    """The clips that these segments have in these encodings, by segment and encoding."""
    found: dict[tuple[str, str], models.Clip] = {}
    for start in range(0, len(segments), 500):  # SQLite allows a limited number of values in one statement
        some = segments[start : start + 500]
        rows = select(models.Clip).where(models.Clip.encoding.in_(encodings), models.Clip.segment_id.in_(some))
        found |= {(row.segment_id, row.encoding): row for row in session.scalars(rows)}
    return found


def read_carry(studio: Studio, row: models.Segment) -> Carry:
    """What a segment left for the next one, its bytes checked."""
    tail = studio.blobs.get_tensors(row.tail)["tail"]

    def before() -> Carry | None:
        if row.parent_id is None:
            return None
        with studio.store.read() as session:
            parent = session.get_one(models.Segment, row.parent_id)
        return read_carry(studio, parent)

    return Carry(row.id, studio.blobs.get_tensors(row.latents), tail, row.overlap, before)


def file_stem(name: str) -> str:
    """A video's name as a file name: letters, digits and dashes of any script, at most 80 of them and 160 bytes."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-_")[:80]
    # File systems count bytes, most of them up to 255, and a letter may have four.
    return stem.encode()[:STEM_BYTES].decode(errors="ignore").strip("-_") or "video"
