"""Pictures for people: objects drawn over their frame, and sheets of several pictures.

Everything here is a pure function of uint8 RGB arrays and label maps; arguments are never changed. Colours
are those of the mask files (`jointformer.ops.palette`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jointformer.errors import ConfigError, DataError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.palette import colour_of, colours_of
from jointformer.types import Colour, LabelMap, Mask, UInt8Array, pixels_text

#: fill: objects tinted and outlined; contour: outlined only; spotlight: everything else dark and grey;
#: blur: everything else out of focus.
OverlayStyle = Literal["fill", "contour", "spotlight", "blur"]
OVERLAY_STYLES: tuple[OverlayStyle, ...] = get_args(OverlayStyle)

_FINEST_SPREAD = 8  # pixels, for the blur of a smaller copy; pictures of up to 640 rows are blurred as they are


def overlay(
    frame: UInt8Array,
    label_map: LabelMap,
    *,
    style: OverlayStyle = "fill",
    opacity: float = 0.5,
    labels: bool = False,
    palette: UInt8Array | None = None,
) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with the objects of `label_map` shown on it.

    `frame` is (H, W, 3) uint8 RGB, `label_map` (H, W) integers of any dtype. `opacity` in [0, 1] is the
    tint's in `fill`, and how much of the background is lost in `spotlight`; `labels` writes each
    object's id inside it; `palette` (256, 3) holds other colours than the mask files'. Raises DataError
    where the two differ in size and ConfigError for a style or opacity that does not exist.
    """
    _check_pair(frame, label_map)
    if not 0.0 <= opacity <= 1.0:
        raise ConfigError("the overlay's opacity is out of range", expected="0 to 1", got=opacity)
    match style:
        case "fill":
            image = draw_contours(tint(frame, label_map, opacity, palette), label_map, palette=palette)
        case "contour":
            image = draw_contours(frame, label_map, palette=palette)
        case "spotlight":
            image = draw_contours(spotlight(frame, label_map, opacity), label_map, palette=palette)
        case "blur":
            image = blur_background(frame, label_map)
        case _:
            raise ConfigError("unknown overlay style", expected=" | ".join(OVERLAY_STYLES), got=repr(style))
    return draw_labels(image, label_map, palette=palette) if labels else image


def tint(frame: UInt8Array, label_map: LabelMap, opacity: float = 0.5, palette: UInt8Array | None = None) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with every object tinted, `opacity` of each pixel its colour."""
    image = frame.copy()
    box = _box(np.asarray(label_map) != 0)
    part, labels = frame[box], label_map[box]
    if labels.size:
        mixed = cv2.addWeighted(part, 1.0 - opacity, colours_of(labels, palette), opacity, 0.0)
        image[box] = _choose(labels, np.asarray(mixed, dtype=np.uint8), part)
    return image


def draw_contours(frame: UInt8Array, label_map: LabelMap, *, palette: UInt8Array | None = None) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with every object's outline in its colour, as wide as suits the frame (2 at 480p).

    Outlines are brighter than the objects' own colours, which are too dark to stand out against a photograph.
    """
    image = frame.copy()
    line = max(1, round(min(frame.shape[:2]) / 240))
    for object_id in object_ids(label_map):
        region, place = _region(label_map, object_id)
        outlines, _ = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=place)
        cv2.drawContours(image, outlines, -1, _brighter(colour_of(object_id, palette)), line, cv2.LINE_AA)
    return image


def spotlight(frame: UInt8Array, label_map: LabelMap, opacity: float = 0.5) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with its background grey and dark by `opacity`, objects as they are."""
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dark = cv2.convertScaleAbs(grey, alpha=1.0 - opacity)
    return _choose(label_map, frame, np.asarray(dark, dtype=np.uint8))


def blur_background(frame: UInt8Array, label_map: LabelMap) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with its background blurred by a fortieth of its shorter side, the objects sharp.

    The objects' own colours do not leak into the blur: only background pixels are averaged.
    """
    height, width = frame.shape[:2]
    spread = max(1.0, min(height, width) / 40)
    # The work grows with the cube of a side, to seconds for 4K, and so wide a blur leaves nothing fine: large pictures
    # are blurred on a smaller copy, which differs by a few of 255 levels.
    step = max(1, int(spread / _FINEST_SPREAD))
    small = (-(-width // step), -(-height // step))
    background = (np.asarray(label_map) == 0).view(np.uint8)
    shown = np.zeros_like(frame)
    cv2.copyTo(frame, background, shown)
    weight, total = (
        cv2.GaussianBlur(np.asarray(part, np.float32), (0, 0), spread / step)
        for part in (
            cv2.resize(background.astype(np.float32), small, interpolation=cv2.INTER_AREA),
            cv2.resize(shown, small, interpolation=cv2.INTER_AREA),
        )
    )
    # Deep inside an object no background is near: what is divided there is never shown.
    mean = total / np.maximum(weight, 1e-3)[..., None]
    blurred = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
    return _choose(label_map, frame, np.clip(np.rint(blurred), 0, 255).astype(np.uint8))


def draw_labels(frame: UInt8Array, label_map: LabelMap, *, palette: UInt8Array | None = None) -> UInt8Array:
    """(H, W, 3) uint8: `frame` with every object's id written at its point farthest from its edge.

    Letters are a sixteenth of the frame's shorter side high, and 10 pixels at least.
    """
    image = Image.fromarray(np.ascontiguousarray(frame))
    draw = ImageDraw.Draw(image)
    letters = max(10, min(frame.shape[:2]) // 16)
    for object_id in object_ids(label_map):
        region, (left, top) = _region(label_map, object_id)
        # The border counts as an edge, so that a label stays inside the picture.
        inside = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(np.argmax(inside)), inside.shape)
        draw.text(
            (left + int(column), top + int(row)),
            str(object_id),
            fill=(255, 255, 255),
            font=ImageFont.load_default(size=letters),
            anchor="mm",
            stroke_width=max(1, letters // 8),
            stroke_fill=colour_of(object_id, palette),
        )
    return np.array(image)


def contact_sheet(
    images: Sequence[UInt8Array],
    columns: int,
    captions: Sequence[str] | None = None,
    *,
    cell_width: int | None = None,
) -> UInt8Array:
    """(H, W, 3) uint8: `images` in rows of `columns`, each with its caption below it, on white.

    `images` are (h, w, 3) uint8 RGB of any sizes. Each is scaled to `cell_width` pixels where that is
    given, else left as it is; a row of cells is as high as the highest image of all. Raises DataError for no
    images or a caption too few or too many, ConfigError for columns below 1.
    """
    if not images:
        raise DataError("a contact sheet needs at least one picture")
    if columns < 1:
        raise ConfigError("columns of a contact sheet", expected="1 or more", got=columns)
    if captions is not None and len(captions) != len(images):
        raise DataError("captions of a contact sheet", expected=f"{len(images)}", got=len(captions))
    cells = [_scaled(image, cell_width) for image in images]
    width = max(cell.shape[1] for cell in cells)
    height = max(cell.shape[0] for cell in cells)
    letters, gap = max(11, width // 24), 6
    step_x = width + gap
    step_y = height + gap + (0 if captions is None else letters + gap)
    rows = -(-len(cells) // columns)
    used = min(columns, len(cells))
    sheet = Image.new("RGB", (used * step_x + gap, rows * step_y + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, cell in enumerate(cells):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        sheet.paste(Image.fromarray(np.ascontiguousarray(cell)), (left, top))
        if captions is not None:
            place = (left + width // 2, top + height + gap // 2)
            draw.text(place, captions[index], fill=(40, 40, 40), font=ImageFont.load_default(size=letters), anchor="mt")
    return np.array(sheet)


def _check_pair(frame: UInt8Array, label_map: LabelMap) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise DataError("a frame to draw on", expected="(H, W, 3) uint8", got=f"{frame.shape} {frame.dtype}")
    if frame.shape[:2] != label_map.shape:
        raise DataError(
            "frame and label map differ in size", expected=pixels_text(frame.shape), got=pixels_text(label_map.shape)
        )


def _box(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that a mask's pixels take; empty ones where it has none."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _region(label_map: LabelMap, object_id: int) -> tuple[UInt8Array, tuple[int, int]]:
    """One object's pixels as 0 and 1 within the box around them, and the box's (x, y): most of a picture is others'."""
    mask = np.asarray(label_map) == object_id
    rows, columns = _box(mask)
    return np.ascontiguousarray(mask[rows, columns]).view(np.uint8), (columns.start, rows.start)


def _choose(label_map: LabelMap, objects: UInt8Array, background: UInt8Array) -> UInt8Array:
    chosen = background.copy()
    cv2.copyTo(objects, (np.asarray(label_map) != 0).view(np.uint8), chosen)
    return chosen


def _brighter(colour: Colour) -> Colour:
    red, green, blue = (channel + (255 - channel) // 3 for channel in colour)
    return red, green, blue


def _scaled(image: UInt8Array, width: int | None) -> UInt8Array:
    if width is None or width == image.shape[1]:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)
