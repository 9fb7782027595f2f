"""Raw palette indices of mask PNGs: what every scoring toolkit and mask reader means by "the labels"."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jointformer.errors import DataError
from jointformer.types import UInt8Array, pixels_text

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
_KINDS = {GREY: "grey", 2: "RGB", PALETTE: "palette", 4: "grey with alpha", 6: "RGBA"}

#: So many bytes of a file have its header.
HEADER_BYTES = 33
#: Larger ones are refused: a megabyte of zeros, packed, can ask for gigabytes. Pillow's own limit for pictures.
MOST_PIXELS = 178_956_970
#: No mask of so many pixels is larger than this, even where nothing is packed.
MOST_BYTES = 256 * 2**20

#: What to say where labels make no sense; see `read_index_png`.
STRETCHED = "grey PNGs of 2 or 4 bits are read stretched to 0..255, as by the toolkits: use 8 bits or a palette"

PngSource = str | Path | bytes


@dataclass(frozen=True)
class PngHeader:
    """What the first HEADER_BYTES of a PNG say."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def kind(self) -> str:
        """The colour type in words, such as `palette` or `RGB`."""
        return _KINDS.get(self.colour_type, f"colour type {self.colour_type}")

    @property
    def is_index(self) -> bool:
        """Whether pixels are single numbers of at most 8 bits: labels, not colours."""
        return not self.fault

    @property
    def is_stretched(self) -> bool:
        """Whether the values that are read are not those in the file but stretched to 0..255."""
        return self.colour_type == GREY and self.bit_depth in (2, 4)

    @property
    def fault(self) -> str:
        """What keeps pixels from being labels, to follow `masks`; empty where nothing does."""
        if self.colour_type not in (GREY, PALETTE):
            return "in colour instead of labels"
        return f"of {self.bit_depth} bits, where labels have 8" if self.bit_depth > 8 else ""


def parse_png_header(data: bytes, where: str = "PNG data") -> PngHeader:
    """The header in the first HEADER_BYTES of a PNG file; DataError when they are something else."""
    if len(data) < 29 or data[:8] != SIGNATURE or data[12:16] != b"IHDR":
        got = f"{len(data)} bytes" if len(data) < 29 else "other content"
        raise DataError("not a PNG file", where=where, got=got)
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if width * height > MOST_PIXELS:
        expected = f"at most {MOST_PIXELS:,} pixels"
        raise DataError("the mask is too large", where=where, expected=expected, got=pixels_text((height, width)))
    return PngHeader(width, height, depth, colour, interlace != 0)


def stretched(path: Path) -> str | None:
    """`STRETCHED` for a mask that is read so, None for others. Raises OSError, and DataError for no PNG file."""
    with open(path, "rb") as file:
        return STRETCHED if parse_png_header(file.read(HEADER_BYTES), str(path)).is_stretched else None


def read_index_png(source: PngSource, where: str | None = None) -> UInt8Array:
    """The (H, W) uint8 labels of a palette or grey PNG as the toolkits read them; a palette's colours are ignored.

    Labels are as stored, but for grey PNGs of 2 and 4 bits, whose values Pillow (and with it the toolkits) stretches to
    0..255.
    `source` is a path or the file's bytes; `where` names it in messages. Raises DataError for a missing, truncated or
    damaged file and for pictures that hold colours instead of labels (RGB, alpha, 16 bit).
    """
    name = where or (str(source) if isinstance(source, str | Path) else "PNG data")
    data = _read_bytes(source, name)
    header = parse_png_header(data, name)
    if not header.is_index:
        kind = f"{header.kind}, {header.bit_depth} bit"
        raise DataError("a mask must hold labels", where=name, expected="a palette or grey PNG of 8 bits", got=kind)
    labels = _unfiltered(data, header)
    return _decode(data, name) if labels is None else labels


def _read_bytes(source: PngSource, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the mask ({error.strerror or error})", where=name) from error


def _unfiltered(data: bytes, header: PngHeader) -> UInt8Array | None:
    """The labels of a palette PNG whose rows are stored as they are (filter 0); None for all others.

    Mask writers (Pillow's among them) store palette pictures this way; inflating them without an image
    library takes less than half the time. Grey pictures usually are filtered and not worth the attempt.
    Damaged files also give None, so that one place words the message.
    """
    if header.colour_type != PALETTE or header.bit_depth != 8 or header.interlaced:
        return None
    parts, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        elif data[at + 4 : at + 8] == b"IEND":
            break
        at += length + 12
    size = header.height * (header.width + 1)
    try:
        # One byte more than there should be: a file that inflates to more is left to the library as well.
        raw = zlib.decompressobj().decompress(b"".join(parts), size + 1)
    except zlib.error:
        return None
    if len(raw) != size:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(header.height, header.width + 1)
    return None if rows[:, 0].any() else np.ascontiguousarray(rows[:, 1:])


def _decode(data: bytes, name: str) -> UInt8Array:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            labels = np.array(picture, dtype=np.uint8)
    except UnidentifiedImageError:  # its text is the address of the bytes
        raise DataError("damaged or truncated PNG", where=name) from None
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f"damaged or truncated PNG ({error})", where=name) from error
    if labels.ndim != 2:  # pragma: no cover - Pillow gives two dimensions for grey and palette pictures
        raise DataError("a mask must hold labels", where=name, got=f"an array of shape {labels.shape}")
    return labels
