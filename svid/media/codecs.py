"""The codecs that svid writes, by the name that a manifest uses: one table of all that differs between them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import av

from svid.errors import ManifestError, MediaError, Problem

THREADS = 4
"""Fixed, because several encoders cut their work, and with it their bytes, by the number of threads."""


@dataclass(frozen=True)
class Codec:
    """How one codec is written.

    `options` go to the encoder as they are. `quality_option` is the encoder's name for its constant-quality number,
    None where the codec is lossless; `quality_range` bounds it, both ends included. `tag` overrides the container's
    four letters for the codec.
    """

    name: str
    encoder: str
    suffix: str
    container_format: str
    pixel_format: str
    options: Mapping[str, str]
    default_quality: float | None
    quality_option: str | None
    quality_range: tuple[float, float] | None
    whole_quality: bool = False
    """The encoder takes whole numbers only."""
    tag: str | None = None
    smallest: int = 16
    """The least width and height in pixels."""
    delay: int = 0
    """By how many frames decoding runs ahead of showing, which is what reordered frames (B-frames) cost."""
    threads: int = THREADS
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the encoder reads from the environment and has no option for; set unless the user has set it."""

    @property
    def is_rgb(self) -> bool:
        """Whether the pixels are stored as RGB, so that no colour matrix is applied."""
        return self.pixel_format.startswith(("bgr", "gbr", "rgb"))


def _options(**options: str) -> Mapping[str, str]:
    return MappingProxyType(options)


# Without it the lookahead's floating point differs from one processor to another, and on AVX-512 from one run to the
# next, for sizes up to 160 at least.
_X264 = "cpu-independent=1"
_X265 = f"log-level=none:info=0:open-gop=0:bframes=4:b-pyramid=1:pools={THREADS}:frame-threads=1"

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Codec(
                "h264",
                "libx264",
                ".mp4",
                "mp4",
                "yuv420p",
                _options(preset="medium", bf="3", **{"b-pyramid": "normal", "x264-params": _X264}),
                16,
                "crf",
                (0, 51),
                delay=2,
            ),
            Codec(
                "hevc",
                "libx265",
                ".mp4",
                "mp4",
                "yuv420p",
                _options(preset="medium", **{"x265-params": _X265}),
                18,
                "crf",
                (0, 51),
                tag="hvc1",  # Apple's players refuse the default, hev1
                smallest=80,  # x265 gives other bytes on every run at 64, and writes past its memory at 48
                delay=2,
            ),
            Codec(
                "av1",
                "libsvtav1",
                ".mp4",
                "mp4",
                "yuv420p",
                _options(preset="6", **{"svtav1-params": "lp=2"}),
                20,
                "crf",
                (1, 63),
                whole_quality=True,
                smallest=32,  # at 16, SVT-AV1 waits for ever where the other side is 112 or more
                environment=_options(SVT_LOG="1"),  # errors only, instead of twenty lines per clip
            ),
            Codec(
                "vp9",
                "libvpx-vp9",
                ".webm",
                "webm",
                "yuv420p",
                _options(b="0", deadline="good", **{"cpu-used": "2", "row-mt": "1"}),
                18,
                "crf",
                (0, 63),
                whole_quality=True,
            ),
            # The quality of ProRes is its profile: 0 proxy, 1 LT, 2 standard, 3 HQ.
            Codec(
                "prores",
                "prores_ks",
                ".mov",
                "mov",
                "yuv422p10le",
                _options(vendor="apl0"),
                3,
                "profile",
                (0, 3),
                whole_quality=True,
            ),
            Codec("ffv1", "ffv1", ".mkv", "matroska", "bgr0", _options(level="3", slicecrc="1"), None, None, None),
        )
    }
)


def codec(name: str) -> Codec:
    """The codec called `name`.

    Raises ManifestError where there is none of that name, or where this machine's PyAV was built without its encoder.
    """
    found = CODECS.get(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), CODECS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else ""
        raise ManifestError(Problem("", "codec", f"expected one of {', '.join(CODECS)}, found {name!r}", hint))
    if found.encoder not in av.codecs_available:
        message = f"expected the encoder {found.encoder}, which the installed PyAV {av.__version__} was built without"
        raise ManifestError(Problem("", "codec", message, "choose another codec, h264 for one"))
    return found


def encoder_options(chosen: Codec, quality: float | None) -> dict[str, str]:
    """The options for the encoder of `chosen` at `quality`; None is the codec's own default.

    Raises ManifestError where the quality is out of range, or the codec has none.
    """
    options = dict(chosen.options)
    if chosen.quality_option is None or chosen.quality_range is None:
        if quality is not None:
            message = f"expected nothing, because {chosen.name} is lossless, found {quality:g}"
            raise ManifestError(Problem("", "quality", message))
        return options
    value = chosen.default_quality if quality is None else quality
    low, high = chosen.quality_range
    if value is None or not low <= value <= high or (chosen.whole_quality and value != int(value)):
        kind = "a whole number" if chosen.whole_quality else "a number"
        message = f"expected {kind} from {low:g} to {high:g} for {chosen.name}, found {value}"
        raise ManifestError(Problem("", "quality", message))
    options[chosen.quality_option] = f"{value:g}"
    return options


def codec_of(canonical: str, file: str) -> Codec:
    """The entry for a file's codec, by FFmpeg's canonical name, which svid's names follow. Raises MediaError."""
    if canonical not in CODECS:
        raise MediaError(Problem(file, "", f"expected one of {', '.join(CODECS)}, found {canonical}"))
    return CODECS[canonical]
