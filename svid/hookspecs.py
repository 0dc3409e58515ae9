"""The hooks of svid: everything a plugin can do. A plugin is a module with functions marked `@svid.hookimpl`.

The seven stages of the chain, from `svid_load_model` to `svid_join`, and `svid_import` take the first answer that is
not None. Third parties are asked before the stages that come with svid; `@hookimpl(wrapper=True)` puts a plugin around
a stage. A function may leave out arguments that it does not use. A plugin that raises fails its job, never the daemon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from svid.api import (
    Applied,
    Artifact,
    Carry,
    Checkpoint,
    Clip,
    Conditioning,
    Finding,
    Job,
    Progress,
    Recipe,
    Segment,
    State,
)

if TYPE_CHECKING:
    import click
    import torch
    from pydantic import BaseModel

spec = pluggy.HookspecMarker("svid")


@spec(firstresult=True)
def svid_load_model(job: Job, device: str) -> Any | None:
    """Load the weights of `job.model` to compute on `device`, placed as the memory plan `job.model.memory` says
    where the backend has such plans. The result is kept warm and handed to the other stages as `model`."""


@spec(firstresult=True)
def svid_build_conditioning(job: Job, model: Any, segment: Segment, carry: Carry | None) -> Conditioning | None:
    """Build what the sampler is conditioned on; one plugin per variant. `carry` is None for the first segment of a
    chain."""


@spec(firstresult=True)
def svid_apply_loras(job: Job, model: Any, segment: Segment) -> AbstractContextManager[Applied] | None:
    """A context that applies the segment's LoRAs on entry and, on exit, restores the weights bit for bit. It yields a
    report for the lineage and, where strengths change within a segment, what to call before a denoising step. It stays
    open over segments with the same LoRAs, and at the longest until the job ends."""


@spec(firstresult=True)
def svid_sample(
    job: Job, model: Any, segment: Segment, conditioning: Conditioning, progress: Progress, checkpoint: Checkpoint
) -> State | None:
    """Denoise the segment from its seed. Calls `progress` after every step and lets what that raises pass. With
    `checkpoint` an interrupted segment goes on at a step; a sampler may leave it out."""


@spec(firstresult=True)
def svid_decode(
    job: Job, model: Any, segment: Segment, state: State, carry: Carry | None
) -> Iterator[torch.Tensor] | None:
    """Yield the frames of the segment in order, uint8 [n, H, W, 3] a time, all of them, overlap included."""


@spec(firstresult=True)
def svid_encode(job: Job, frames: Iterable[torch.Tensor], out: Path) -> Clip | None:
    """Write the shown frames of one segment to `out`, all of them and in their size, at `job.fps`, so that it begins
    with a key frame and can be joined without encoding it again."""


@spec(firstresult=True)
def svid_join(job: Job, clips: Sequence[Clip], tags: Mapping[str, str], out: Path) -> Artifact | None:
    """Join the clips of a whole video into the file `out` by copying their packets, carrying `tags`, which are read
    back."""


@spec(firstresult=True)
def svid_import(job: Job, model: Any, segment: Segment, frames: torch.Tensor) -> State | None:
    """What frames that were not rendered, uint8 [n, H, W, 3], leave for the next segment: the end of a clip that a
    video goes on from. As many as a segment has, or all of a shorter clip."""


@spec
def svid_recipes() -> Sequence[Recipe]:
    """The recipes that this plugin brings."""


@spec
def svid_options() -> type[BaseModel]:
    """A pydantic model of what a manifest may say under `[options.<plugin>]`. Every field needs a default."""


@spec
def svid_ask(job: Job, segment: Segment) -> Mapping[str, Any] | None:
    """What of this plugin decides the answer for this segment, beside its options and its CACHE_VERSION; None: it takes
    no part and is not asked to. A plugin with stages that lacks this hook takes part in every segment."""


@spec
def svid_event(event: Mapping[str, Any]) -> None:
    """Hear of progress: `event["event"]` names it. What this raises is logged and otherwise ignored."""


@spec
def svid_commands(cli: click.Group) -> None:
    """Add commands to the command line."""


@spec
def svid_check() -> Sequence[Finding]:
    """Say what `svid doctor` should know about this plugin."""
