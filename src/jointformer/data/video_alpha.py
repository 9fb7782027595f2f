"""The transparency of VP8 and VP9 in WebM and Matroska: each packet has it beside it, as a packet of another video."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import av
import numpy as np

from jointformer.types import UInt8Array

_BESIDE = "matroska_block_additional"
_ALPHA = (1).to_bytes(8, "big")  # what a packet's addition begins with that is its alpha
#: The bit of a packet's first byte that is 0 in key frames.
_NO_KEY = {"vp8": 0x01, "vp9": 0x04}


def packet_decoder(stream: Any) -> Callable[[Any], list[Any]]:
    """What makes frames of a stream's packets; `opaque` of a frame whose alpha is stored beside it: that (H, W) alpha.

    FFmpeg's decoders leave it out. Frames whose alpha is missing or damaged are opaque.
    """
    if not _has_alpha(stream):
        return lambda packet: packet.decode()
    context = stream.codec_context
    context.copy_opaque = True
    alphas = av.CodecContext.create(context.name, "r")
    alphas.thread_type = "SLICE"  # threads that share out frames would hold them back

    def decode(packet: Any) -> list[Any]:
        data = _alpha_of(packet)
        if data:
            with suppress(av.FFmpegError):
                for alpha in alphas.decode(av.Packet(data)):
                    packet.opaque = plane_of(alpha, 0)
        elif packet.is_keyframe:  # whoever begins to read here knows nothing of an earlier alpha
            alphas.flush_buffers()
        return packet.decode()

    return decode


def is_key(packet: Any, stream: Any) -> bool:
    """Whether decoding can begin at a packet: encoders choose the key frames of the alpha by themselves."""
    if not packet.is_keyframe or not _has_alpha(stream):
        return bool(packet.is_keyframe)
    data = _alpha_of(packet)
    return not data or not data[0] & _NO_KEY[stream.codec_context.name]


def _has_alpha(stream: Any) -> bool:
    if stream.codec_context.name not in _NO_KEY:
        return False
    # FFmpeg writes it in capitals where it only copied the packets.
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())


def _alpha_of(packet: Any) -> bytes:
    if not packet.size or not packet.has_sidedata(_BESIDE):
        return b""
    data = bytes(packet.get_sidedata(_BESIDE))
    return data[len(_ALPHA) :] if data.startswith(_ALPHA) else b""


def plane_of(frame: Any, number: int) -> UInt8Array:
    """An (H, W) plane of bytes as it is: converted, brightness would be taken for one of a limited range."""
    plane = frame.planes[number]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].copy()
