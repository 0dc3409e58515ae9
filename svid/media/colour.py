"""RGB to what an encoder stores and back: BT.709 with limited range, both in the numbers and in the tags.

A player that guesses another matrix shifts every colour a little, and a chain of segments adds the shifts up.
"""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from svid.errors import MediaError, Problem
from svid.media.codecs import Codec

# Bare swscale averages neighbours, truncates instead of rounding, and loses up to two levels of 255 in every
# conversion; with these flags the loss is below a tenth of a level on average, and the same on every processor.
_SCALE = "flags=bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"

# Colour samples of 4:2:0 and 4:2:2 sit on the left pixel of each pair, which is what players assume. Swscale would put
# them between the two, and every edge of colour would move by half a pixel; hence a filter graph, since PyAV's own
# `reformat` has no word for it.
_SITING = "left"

_MATRIX_RGB, _MATRIX_UNSAID = 0, 2  # AVCOL_SPC_RGB and _UNSPECIFIED, for which PyAV has no names

_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
_UNLIKE = {
    **_HDR,
    int(ColorTrc.LINEAR): "linear light",
    int(ColorTrc.LOG): "a logarithmic curve",
    int(ColorTrc.LOG_SQRT): "a logarithmic curve",
    int(ColorTrc.SMPTE428): "SMPTE ST 428",
}
_WIDE = {
    int(ColorPrimaries.BT2020): "BT.2020",
    int(ColorPrimaries.SMPTE428): "SMPTE ST 428",
    int(ColorPrimaries.SMPTE431): "DCI-P3",
    int(ColorPrimaries.SMPTE432): "Display P3",
}
_TONES = "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,format=yuv420p"
_NARROW = "colorspace=all=bt709"  # knows linear light, and none of the other curves
_UNTAGGED = ":ispace=smpte170m"  # or the filter refuses a clip that does not say its matrix


class Converter:
    """Turns frames of one size and pixel format into another format; the first frame decides what comes in."""

    def __init__(self, filters: str, trc: ColorTrc = ColorTrc.BT709) -> None:
        self._filters = filters
        self._trc = trc
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame converted, with the time of the one that went in."""
        if self._graph is None:
            self._graph = _graph(frame, self._filters)
        self._graph.vpush(frame)
        done = self._graph.vpull()
        # The encoder of ProRes believes the frame, not its own context.
        done.color_primaries, done.color_trc = ColorPrimaries.BT709, self._trc
        return done


def to_codec(chosen: Codec) -> Converter:
    """From rgb24 to the pixel format of the codec."""
    target = f"format=pix_fmts={chosen.pixel_format}"
    if chosen.is_rgb:
        return Converter(f"scale={_SCALE},{target}", ColorTrc.IEC61966_2_1)
    return Converter(f"scale={_SCALE}:out_color_matrix=bt709:out_range=tv:out_chroma_loc={_SITING},{target}")


def to_rgb() -> Converter:
    """From whatever a decoder gives, by the matrix and the range that its tags say, to rgb24."""
    return Converter(f"scale={_SCALE}:in_chroma_loc={_SITING}:out_range=pc,format=pix_fmts=rgb24")


def check_colours(frame: av.VideoFrame, file: str) -> None:
    """Raise MediaError where a decoded frame's tags say that its numbers mean other light or other primaries than
    BT.709's or their like: HDR, or a wide gamut. Taken for what they are not, they come out pale, and every later
    segment is made of that.

    A clip without tags is taken as FFmpeg takes it, by BT.601's matrix, at whatever size: that is what FFmpeg writes
    out of RGB unless it is told otherwise.
    """
    curve, primaries = _UNLIKE.get(int(frame.color_trc)), _WIDE.get(int(frame.color_primaries))
    if curve is None and primaries is None:
        return
    found = " with ".join(filter(None, [curve, primaries and f"primaries of {primaries}"]))
    hint = "convert it to BT.709 with a program that knows that curve"
    if curve in (None, *_HDR.values(), "linear light"):
        untagged = _UNTAGGED if int(frame.colorspace) == _MATRIX_UNSAID else ""
        filters = _TONES if curve in _HDR.values() else _NARROW + untagged
        hint = f"ffmpeg -i CLIP -vf {filters} OUT.mp4 gives it those"
    raise MediaError(Problem(file, "frame 1", f"expected the colours of BT.709 or sRGB, found {found}", hint))


def rgb_frame(pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
    """A frame of uint8 [H, W, 3]; the pixels are copied."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.colorspace, frame.color_range = _MATRIX_RGB, ColorRange.JPEG
    return frame


def tag(context: av.VideoCodecContext, chosen: Codec) -> None:
    """Say in the file what `to_codec` did to the pixels. sRGB and BT.709 share their primaries."""
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.IEC61966_2_1 if chosen.is_rgb else ColorTrc.BT709
    context.colorspace = _MATRIX_RGB if chosen.is_rgb else Colorspace.ITU709
    context.color_range = ColorRange.JPEG if chosen.is_rgb else ColorRange.MPEG
    if not chosen.is_rgb:
        context.options = {**context.options, "chroma_sample_location": _SITING}


def _graph(frame: av.VideoFrame, filters: str) -> Graph:
    graph = Graph()
    graph.threads = 1
    # The time base is of no account: times pass through as they are.
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    nodes = [source]
    for item in filters.split(","):
        name, _, arguments = item.partition("=")
        nodes.append(graph.add(name, arguments))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph
