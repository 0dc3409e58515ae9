"""Decoding a chain of segments as one causal stream, across processes and years."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from svid.api import Carry
from svid.errors import Problem, Refused
from svid.wan.model import WanModel
from svid.wan.vae import FrameStream, decoder_reach


def decode_continued(
    model: WanModel, latents: torch.Tensor, overlap: int, carry: Carry | None
) -> Iterator[torch.Tensor]:
    """The frames of a segment, as those of one long decode of its chain: uint8 [n, H, W, 3], four a latent.

    `latents` [1, 16, T, h, w] are the segment's, normalized, of which those for its first `overlap` frames repeat the
    segment before and are left out. Goes on from the decoder as the segment before left it; where that was another
    process, the decoder first sees the latents of the chain that it still remembers (some 40 of them), whose frames are
    thrown away. So memory and time don't grow with the chain. A first segment is a clip, and so is one that does not
    repeat whole latents of the one before it: what was before that is not remembered.

    Raises Refused where that is so of the segment itself.
    """
    stream = FrameStream(model.vae) if carry is None else _stream_after(model, carry)
    yield from stream.decode(latents if carry is None else _new(latents, overlap))
    model.stream = (_key(latents, carry), stream)


def _stream_after(model: WanModel, carry: Carry) -> FrameStream:
    """The decoder as it is after the segment that `carry` is of."""
    before = carry.before()
    kept, model.stream = model.stream, None
    if kept is not None and kept[0] == _key(carry.state["latents"], before):
        return kept[1]
    stream = FrameStream(model.vae)
    for some in _remembered(carry, before, decoder_reach(model.vae)):
        for _ in stream.decode(some):
            pass
    return stream


def _remembered(carry: Carry, before: Carry | None, reach: int) -> list[torch.Tensor]:
    """The newest latents of the chain, `reach` of them or a few more, oldest first."""
    parts: list[torch.Tensor] = []
    while True:
        latents = carry.state["latents"]
        begins = before is None or carry.overlap % 4 != 1
        parts.insert(0, latents if begins else _new(latents, carry.overlap))
        if before is None or begins or sum(part.shape[2] for part in parts) >= reach:
            return parts
        carry, before = before, before.before()


def _new(latents: torch.Tensor, overlap: int) -> torch.Tensor:
    """The latents that don't repeat the segment before: m + 1 stand for 4m + 1 frames."""
    if overlap % 4 != 1:
        message = f"expected segments that leave out 4m + 1 frames at their heads, found one that leaves out {overlap}"
        raise Refused(Problem("the video", "decode.stream", message, "decode it clip by clip"))
    return latents[:, :, (overlap - 1) // 4 + 1 :]


def _key(latents: torch.Tensor, carry: Carry | None) -> tuple[str, str | None]:
    """What a decoder's memory depends on: the latents that it saw last, and the segment that they follow."""
    return hashlib.sha256(latents.contiguous().numpy().tobytes()).hexdigest(), carry.segment if carry else None
