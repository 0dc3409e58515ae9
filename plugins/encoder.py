"""Stages `svid_encode` and `svid_join`: frames to clips, and clips to one video, by PyAV.

What: every segment is encoded once, on its own; a video is the packets of its clips, copied, with its tags inside.
Why: adding a segment to a long video costs one segment, and the pictures of the others never change.
Source: FFmpeg's muxers, through `svid.media.clips`. Neither stage decides what is sampled, hence no `svid_ask`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svid import hookimpl
from svid.api import Artifact, Clip, Job

if TYPE_CHECKING:
    import torch

CACHE_VERSION = 1


@hookimpl
def svid_encode(job: Job, frames: Iterable[torch.Tensor], out: Path) -> Clip:
    """Encode the shown frames of a segment, uint8 [n, H, W, 3] a time, with the job's codec, quality and rate."""
    from svid.media.clips import write_clip

    return Clip(out, write_clip(frames, out, job.fps, job.encoding))


@hookimpl
def svid_join(job: Job, clips: Sequence[Clip], tags: Mapping[str, str], out: Path) -> Artifact:
    """Copy the packets of all clips into one file, with the tags in it."""
    from svid.media.clips import join_clips

    return join_clips(clips, out, tags)
