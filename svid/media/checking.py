"""What is asked of an encoded clip: whether it is lossless."""

from __future__ import annotations

from pathlib import Path

from svid.media.codecs import CODECS
from svid.media.reading import opened, video_of


def is_lossless(path: Path) -> bool:
    """Whether the clip at `path` gives back the very frames that were encoded. Raises MediaError."""
    with opened(path) as source:
        context = video_of(source, str(path)).codec_context
        known = CODECS.get(context.codec.canonical_name)
        return known is not None and known.quality_option is None and context.pix_fmt == known.pixel_format
