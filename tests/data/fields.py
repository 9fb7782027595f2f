"""Interlaced videos: two fields woven into each frame, or sent one by one as television and AVCHD do."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from jointformer.types import UInt8Array

H, W = 64, 64


def moment(time: float) -> UInt8Array:
    """A bright bar that moves by 2 pixels per frame over a grey ground, (H, W, 3)."""
    image = np.full((H, W, 3), 60, np.uint8)
    left = 4 + round(2 * time)
    image[:, left : left + 12] = 200
    return image


def write_woven(path: Path, codec: str, count: int, *, top_first: bool = True, plain: int = 0) -> Path:
    """A video whose frames hold two moments each, but for the first `plain` ones, which are one moment."""
    small = {"libx264": {"g": "6", "bf": "2", "crf": "4"}, "mpeg2video": {"g": "6", "bf": "2", "b": "4000000"}}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=small[codec])
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.flags |= 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT and _ME
        whole = av.CodecContext.create(codec, "w")  # an encoder says the same of all its frames
        whole.options, whole.framerate, whole.time_base = {**small[codec], "bf": "0"}, Fraction(25), Fraction(1, 25)
        whole.width, whole.height, whole.pix_fmt = W, H, "yuv420p"

        def write(packets: list[av.Packet]) -> None:
            for packet in packets:
                packet.stream = stream
                container.mux(packet)

        for k in range(plain):
            write(whole.encode(_frame(moment(k), k)))
        if plain:
            write(whole.encode())
        for k in range(plain, count):
            woven = moment(k)
            woven[top_first::2] = moment(k + 0.5)[top_first::2]
            # Later by a frame than the plain ones, as a frame is sent before its time where others lean on it.
            frame = _frame(woven, k + (plain > 0))
            container.mux(stream.encode(_said(frame, "tff" if top_first else "bff")))
        container.mux(stream.encode())
    return path


def _frame(image: UInt8Array, time: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = time, Fraction(1, 25)
    return frame


def _said(frame: av.VideoFrame, fields: str) -> av.VideoFrame:
    """The frame, said to be of these fields, which PyAV alone cannot."""
    graph = av.filter.Graph()
    source = graph.add_buffer(template=frame, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", fields), graph.add("buffersink")).configure()
    graph.push(frame)
    said = graph.pull()
    assert isinstance(said, av.VideoFrame)
    said.pts, said.time_base = frame.pts, frame.time_base
    return said


class _Bits(list[int]):
    """Bits of H.264 (ITU-T H.264, clauses 7.3 and 9.1)."""

    def fixed(self, *pairs: tuple[int, int]) -> _Bits:
        """(width, value) pairs."""
        for width, value in pairs:
            self += [value >> bit & 1 for bit in reversed(range(width))]
        return self

    def coded(self, *values: int) -> _Bits:
        """Exp-Golomb codes."""
        for value in values:
            width = (value + 1).bit_length()
            self.fixed((width - 1, 0), (width, value + 1))
        return self

    def aligned(self) -> _Bits:
        self += [0] * (-len(self) % 8)
        return self

    def unit(self, header: int) -> bytes:
        """A NAL unit; no three bytes in it look like the beginning of another."""
        self.append(1)
        data = np.packbits(np.array(self.aligned(), np.uint8)).tobytes()
        return b"\0\0\0\1" + bytes([header]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


def _field(number: int, *, bottom: bool, key: bool, reference: int, place: int) -> bytes:
    """One field of a frame as an access unit: plain macroblocks (I_PCM) whose brightness is the frame's number."""
    unit = b"\0\0\0\1\x09\xf0"
    if key:
        # Main profile, 4x4 macroblocks, field coding, 25 frames/s; one frame may be shown later than it is decoded.
        unit += (
            _Bits().fixed((8, 77), (8, 0), (8, 30)).coded(0, 0, 0, 4, 2).fixed((1, 0)).coded(3, 1)
            .fixed((1, 0), (1, 0), (1, 1), (1, 0), (1, 1), (4, 0), (1, 1), (32, 1), (32, 50), (1, 1), (3, 0), (2, 3))
            .coded(0, 0, 10, 10, 1, 2).unit(0x67)
        )  # fmt: skip
        unit += (
            _Bits().coded(0, 0).fixed((2, 0)).coded(0, 0, 0).fixed((3, 0)).coded(0, 0, 0).fixed((3, 4)).unit(0x68)
        )  # fmt: skip
    bits = _Bits().coded(0, 7, 0).fixed((4, reference % 16), (1, 1), (1, int(bottom))).coded(*[0] * key)
    bits.fixed((8, place % 256), (2 if key else 1, 0)).coded(0, 1)
    shades = np.unpackbits(np.repeat(np.array([40 + 6 * number, 128], np.uint8), (256, 128)))
    for _ in range(8):
        bits.coded(25).aligned().extend(shades.tolist())
    return unit + bits.unit(0x65 if key else 0x61)


def write_fields(path: Path, count: int, *, timed: bool, group: int = 6) -> Path:
    """A transport stream of H.264 whose fields are packets of their own, in another order than shown.

    timed: second fields have times, too.
    """
    units = []
    for begin in range(0, count, group):
        order = [0, *(k for pair in zip(range(2, group, 2), range(1, group, 2)) for k in pair), group - 1]
        for reference, k in enumerate(order):
            fields = [
                _field(begin + k, bottom=bottom, key=k == 0 and not bottom, reference=reference, place=2 * k + bottom)
                for bottom in (False, True)
            ]
            units.append((begin + k, fields))
    bare = path.with_suffix(".h264")
    bare.write_bytes(b"".join(field for _, fields in units for field in fields))
    with av.open(str(bare), format="h264") as source, av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, (number, fields) in enumerate(units):
            for later, data in enumerate(fields if timed else [b"".join(fields)]):
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 50)
                packet.pts, packet.dts = 50 + 2 * number + later, 48 + 2 * place + later
                packet.is_keyframe = number % group == 0 and not later
                target.mux(packet)
    return path
