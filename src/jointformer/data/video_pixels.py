"""RGB pictures as frames of an encoder's pixel format: the same picture gives the same bytes, always."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace

from jointformer.types import UInt8Array


def encoder_frame(picture: UInt8Array, pixels: str) -> Any:
    """Return the (H, W, 3) RGB or (H, W, 4) RGBA picture as a frame in an encoder's planar YUV format, BT.709.

    FFmpeg's conversion of rows whose width is no multiple of 16 depends on what lies beside them in memory, so it is
    given whole multiples, and the planes of the picture are cut out of the result.
    """
    height, width = picture.shape[:2]
    wide = np.pad(picture, ((0, 0), (0, -width % 16), (0, 0)), mode="edge")
    source = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide), format="rgba" if picture.shape[2] == 4 else "rgb24")
    source = source.reformat(format=pixels, dst_colorspace=Colorspace.ITU709)
    source.color_primaries = source.color_trc = 1  # ProRes notes them in each frame
    if wide.shape[1] == width:
        return source
    frame = av.VideoFrame(width, height, pixels)
    frame.colorspace, frame.color_range = source.colorspace, source.color_range
    frame.color_primaries, frame.color_trc = source.color_primaries, source.color_trc
    sample = 2 if "10" in pixels else 1
    for old, new in zip(source.planes, frame.planes):
        rows = np.frombuffer(old, np.uint8).reshape(-1, old.line_size)[: new.height, : new.width * sample]
        target = np.zeros((new.buffer_size // new.line_size, new.line_size), np.uint8)
        target[: new.height, : new.width * sample] = rows
        new.update(target.tobytes())
    return frame


def even_sides(picture: UInt8Array) -> UInt8Array:
    """Return the (H, W, C) picture with one more row or column (a copy of the last) where a side is odd.

    H.264 stores colour at half resolution.
    """
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def say_colours(context: Any) -> None:
    """Note BT.709, limited range in an encoder's stream, because players guess by size otherwise."""
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
