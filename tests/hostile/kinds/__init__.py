"""The kinds of input that are fuzzed: how one is made, and what must hold of one that is accepted."""

from __future__ import annotations

from tests.hostile.kinds import headers, loras, manifests, media, renders
from tests.hostile.kinds.kind import Kind

KINDS: dict[str, Kind] = {
    "manifest": manifests.KIND,
    "header": headers.KIND,
    "lora": loras.KIND,
    "picture": media.PICTURE,
    "clip": media.CLIP,
    "render": renders.KIND,
}
