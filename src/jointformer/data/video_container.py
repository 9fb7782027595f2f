"""FFmpeg's containers, opened safely, and where their frames are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from jointformer.data.video_alpha import packet_decoder, plane_of
from jointformer.data.video_fields import is_interlaced
from jointformer.errors import DataError, OutputError
from jointformer.ops.png import MOST_PIXELS
from jointformer.ops.tone_mapping import Curve, to_sdr
from jointformer.system.files import output_error
from jointformer.types import UInt8Array, pixels_text

logger = logging.getLogger(__name__)

#: Containers only: playlists and scripts (hls, concat, ...) could name any other file or address.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,gif,asf,h264,hevc,m4v,mjpeg,dv,"
    "mxf,ivf,obu,apng,yuv4mpegpipe,nut,wtv,rm"
)
#: Seconds that FFmpeg waits for an address or a device to send something.
PATIENCE = 20.0
#: Seconds, before or after the clock's zero, behind which a frame's time is damage: FFmpeg could not even write it.
LATEST = 2**40
#: PyAV before 19 stops at a title that is no UTF-8 unless it is told otherwise; later ones know no such setting.
METADATA = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
#: Frames per second up to which a rate is taken as the file tells it.
_USUAL_RATE = 240
_MOST_ASPECT = 16  # of a pixel's sides; more is damage
_LARGE = (1280, 576)  # (width from, height above) which videos are high definition: 1280x536 is, PAL is not
_BT709, _UNSPECIFIED, _BT2020 = 1, 2, 9  # in AVColorSpace
_HDR: dict[int, Curve] = {16: "PQ", 18: "HLG"}  # in AVColorTransferCharacteristic


@contextmanager
def decoding(path: Path | str) -> Iterator[None]:
    """FFmpeg's errors inside the block, and those of the pipe it reads from, become `DataError`."""
    try:
        yield
    except DataError:
        raise
    except av.ExitError as error:  # what FFmpeg calls the end of its waiting
        raise silent(path) from error
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        # Damaged headers also reach PyAV as texts that are no UTF-8, times beyond 64 bits, monstrous sizes.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError("the video cannot be decoded", where=path, got=reason.lower()) from error


def silent(place: Path | str) -> DataError:
    """Return the one-line error for an address or a device that sends nothing any more."""
    hint = "is it switched on, and does nobody else take its pictures?"
    return DataError(f"nothing arrived for {PATIENCE:g} seconds", where=place, expected="frames", hint=hint)


def write_failure(error: Exception, path: Path | str) -> OutputError:
    """Return the one-line error for a video that cannot be written."""
    if isinstance(error, OSError):  # a full disk and the like
        return output_error(error, path)
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"the video cannot be written: {reason}", where=path)


def open_container(path: Path) -> Any:
    """The opened container of a local file (a context manager). Raises FFmpeg's errors, DataError for other kinds."""
    # "file:" keeps a colon in a name from being read as a protocol.
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        return av.open(f"file:{path.absolute()}", options=options, **METADATA)
    except av.ArgumentError as error:  # a format that is known and not in the list
        what, got = "the video cannot be decoded", "a file of another kind"
        hint = "give pictures as a folder of them"
        raise DataError(what, where=path, expected="mp4, mkv, …", got=got, hint=hint) from error


def video_stream(container: Any, path: Path | str) -> Any:
    """The first stream of moving pictures, cover art left out. Raises `DataError` where there is none."""
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise DataError("no video in the file", where=path)
    # An AVIF of many pictures has the first of them in a stream of its own, before the others'.
    stream = next((stream for stream in streams if stream.frames != 1), streams[0])
    if stream.codec_context is None:
        raise DataError("the video's codec is unknown", where=path)
    if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
        size = pixels_text((stream.codec_context.height, stream.codec_context.width))
        raise DataError("the video's frames are too large", where=path, got=size)
    stream.thread_type = "AUTO"
    return stream


def guesses_times(container: Any, stream: Any) -> bool:
    """Whether FFmpeg guesses when frames are shown, and is wrong: AVI stores no such times, and these are reordered."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def hold_nothing_back(stream: Any) -> None:
    """Let a stream's decoder give each frame as soon as it can, and of a damaged packet the error at once.

    Threads that share out frames hold up to 15 back. Of frames that come together, PyAV gives none behind an error, and
    no error behind a frame.
    """
    stream.thread_type = "SLICE"
    if stream.codec_context.name == "libdav1d":  # which shares out frames all the same
        stream.codec_context.flags |= av.codec.context.Flags.low_delay


def decoded_packets(container: Any, stream: Any) -> Iterator[tuple[Any, list[Any] | av.FFmpegError]]:
    """A stream's packets, each with the frames that come with it, or with FFmpeg's error."""
    decode = packet_decoder(stream)
    for packet in container.demux(stream):
        try:
            frames = decode(packet)
        except av.FFmpegError as error:
            yield packet, error
        else:
            yield packet, frames


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream as they come; FFmpeg's error in place of those that cannot be decoded."""
    for _, found in decoded_packets(container, stream):
        if isinstance(found, av.FFmpegError):
            yield found
        else:
            yield from found


@dataclass(frozen=True)
class Upright:
    """What sets decoded pictures upright: a flip upside down where they are mirrored, then quarter turns leftwards."""

    turns: int
    mirrored: bool

    @staticmethod
    def of(frame: Any) -> Upright:
        """What a decoded frame's display matrix asks for."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        mirrored = False
        if matrix is not None:  # 3x3 numbers; selfies of some phones have a negative determinant
            (a, b), (c, d) = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2].tolist()
            mirrored = a * d < b * c
        return Upright(round(frame.rotation / 90) % 4, mirrored)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of a picture of this size when it stands upright."""
        return (width, height) if self.turns % 2 else (height, width)

    def apply(self, picture: UInt8Array) -> UInt8Array:
        """The (H, W, 3) picture, upright."""
        if not self.turns and not self.mirrored:
            return picture
        return np.ascontiguousarray(np.rot90(picture[::-1] if self.mirrored else picture, self.turns))


def to_rgb(frame: Any, *, bare: bool = False) -> UInt8Array:
    """The (H, W, 3) uint8 RGB picture of a decoded frame; transparency is laid over black, as that of pictures.

    A video that does not say how its colours are coded is taken by its size, as players do: for BT.709 where it is
    larger than television's old formats, else for BT.601. FFmpeg by itself takes all of them for BT.601: reds of large
    ones would be darker than anywhere else, by a tenth. HDR becomes what ordinary screens show (`ops.tone_mapping`).
    bare: pixels of a camera or a program, which are BT.601, and whose alpha is often only the fourth byte. A frame's
    `opaque` may be its alpha (`video_alpha`).
    """
    curve = _HDR.get(frame.color_trc)
    large = frame.width >= _LARGE[0] or frame.height > _LARGE[1]
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        if curve is not None:
            frame.colorspace = _BT2020
        elif large and not bare:
            frame.colorspace = _BT709
    if not bare and frame.format.name == "yuva420p":
        # FFmpeg's conversion to RGBA leaves chance in the alpha's last columns, of 97 to 100 for instance.
        picture = _over_black(frame.to_ndarray(format="rgb24"), plane_of(frame, 3))
    elif not bare and any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba")
        picture = _over_black(rgba[..., :3], rgba[..., 3])
    else:
        picture = frame.to_ndarray(format="rgb24")
        if frame.opaque is not None and frame.opaque.shape == picture.shape[:2]:
            picture = _over_black(picture, frame.opaque)
    return picture if curve is None else to_sdr(picture, curve)


def _over_black(rgb: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    return ((rgb * alpha[..., None].astype(np.uint16) + 127) // 255).astype(np.uint8)


def say_what_changes(frame: Any, stream: Any, place: Path | str) -> None:
    """Say in the log, once for each video, what reading makes of decoded frames such as this: of HDR, of two fields."""
    if frame.color_trc in _HDR:
        text = "%s: an HDR video (%s), read as ordinary screens show it (BT.2390, from 1000 cd/m²)"
        _say(logging.INFO, text, str(place), _HDR[frame.color_trc])
    if is_interlaced(frame, stream):
        text = "%s: an interlaced video, read as whole pictures, each of its frame's first field"
        _say(logging.WARNING, text, str(place))


@cache
def _say(level: int, *message: str) -> None:
    logger.log(level, *message)


def shown_aspect(stream: Any, upright: Upright) -> Fraction:
    """A pixel's width by its height as players show it (not 1 in DV and HDV, for instance)."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, _MOST_ASPECT) <= aspect <= _MOST_ASPECT:
        return Fraction(1)
    return 1 / aspect if upright.turns % 2 else Fraction(aspect)


def frame_rate(stream: Any, measured: Fraction | None) -> Fraction | None:
    """Frames per second as a file tells them; those measured where it tells none, or far more than there are.

    Of a file that tells none (WebM recorded by browsers, bare DV) FFmpeg may give the clock's ticks: 1000, 60000.
    """
    rate = stream.average_rate or stream.guessed_rate
    if rate and (rate <= _USUAL_RATE or (measured and rate <= 2 * measured)):
        return Fraction(rate)
    return measured
