"""Small videos and masks to export, and readers of what was exported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from jointformer.data.export_source import ExportObject
from jointformer.data.video import VideoReader
from jointformer.data.video_writer import VideoWriter, h264
from jointformer.errors import DataError
from jointformer.types import FloatArray, LabelMap, UInt8Array

H, W, FRAMES = 49, 65, 6
RED, BLUE = (250, 10, 20), (10, 30, 240)


def labels(frame: int) -> UInt8Array:
    """Object 1 moves right; object 7 is there from frame 2 on; frame 5 is empty."""
    found = np.zeros((H, W), np.uint8)
    if frame < 5:
        found[8:28, 4 + 2 * frame : 26 + 2 * frame] = 1
        if frame >= 2:
            found[32:46, 30:60] = 7
    return found


def pictures(frames: int = FRAMES) -> UInt8Array:
    y, x = np.mgrid[:H, :W]
    clip = np.zeros((frames, H, W, 3), np.uint8)
    for t in range(frames):
        clip[t] = np.stack([x * 3, y * 4, np.full((H, W), 40 + 20 * t)], axis=-1)
        clip[t, 44:] = ((x + y) // 3 % 2 * 120)[44:, :, None]  # something to blur
        clip[t][labels(min(t, 4)) == 1] = (200, 60, 60)
    return clip


class Masks:
    """A source of masks over any video."""

    title = "clip"
    objects = (ExportObject(1, "cat", RED), ExportObject(7, "dög", BLUE))

    def __init__(self, video: VideoReader, known: int = FRAMES) -> None:
        self.video, self._known = video, known

    def label_map(self, frame: int) -> LabelMap | None:
        return labels(frame) if frame < self._known else None

    def prob(self, frame: int) -> dict[int, FloatArray]:
        if frame >= self._known:
            raise DataError("no probabilities were kept")
        return {1: (labels(frame) == 1) * np.float32(0.75), 7: (labels(frame) == 7) * np.float32(1)}

    def is_drawn(self, frame: int, object_id: int) -> bool:
        return frame == 0

    def doubts(self, frames: range) -> list[str]:
        return []


def write_video(
    path: Path,
    fps: Fraction = Fraction(30000, 1001),
    *,
    sound: bool = True,
    rotation: int = 0,
    frames: int = FRAMES,
    timecode: str | None = None,
) -> Path:
    """An H.264 mp4 like a phone's: B-frames, a rate with a denominator, sound, and turned where asked."""
    import scipy.io.wavfile

    wave = path.with_suffix(".wav")
    seconds = np.arange(int(48000 * frames / fps)) / 48000
    scipy.io.wavfile.write(wave, 48000, (np.sin(seconds * 2764) * 9000).astype(np.int16))
    plain = path.with_name("plain-" + path.name) if rotation else path
    size = (H + 1, W + 1)
    heard = wave if sound else None
    with VideoWriter(plain, fps, size, audio_from=heard, codec=h264(10), timecode=timecode) as writer:
        for picture in np.pad(pictures(frames), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge"):
            writer.write(picture)
    if rotation:
        assert rotation == 90
        turn(plain, path)
    return path


def turn(source: Path, target: Path) -> None:
    """Turn an mp4 by 90 degrees in its video track's display matrix (tkhd box, ISO/IEC 14496-12), as phones do."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4
    one = 1 << 16
    matrix = (0, one, 0, -one & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30)
    start = at + (40 if data[at] == 0 else 52)
    data[start : start + 36] = b"".join(v.to_bytes(4, "big") for v in matrix)
    target.write_bytes(data)


def read_streams(path: Path) -> dict:
    """What ffprobe would say of a file, and its decoded frames as RGBA (alpha included) or RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = {
            "codec": stream.codec_context.name,
            "pix_fmt": stream.codec_context.pix_fmt,
            "rate": stream.average_rate,
            "size": (stream.codec_context.height, stream.codec_context.width),
            "audio": [a.codec_context.name for a in container.streams.audio],
            "metadata": stream.metadata,
            "tag": stream.codec_context.codec_tag,
        }
        stream_base = stream.time_base
        decoder = stream.codec_context
        if facts["codec"] == "vp9":  # FFmpeg's own decoder leaves the alpha out
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet if packet.size else None)]
    alpha = "a" in frames[0].format.name.split("p")[0]
    facts["decoded_format"] = frames[0].format.name
    facts["times"] = [f.pts * stream_base for f in frames]
    facts["frames"] = np.stack([f.to_ndarray(format="rgba" if alpha else "rgb24") for f in frames])
    return facts
