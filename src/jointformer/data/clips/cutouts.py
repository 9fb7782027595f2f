"""Planned cut-outs and backdrops as pixels at the size at which they are shown."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clips.layers import BackdropPlan, Cutout
from jointformer.data.clips.motion import F64
from jointformer.data.clips.pack import Still
from jointformer.data.clips.regions import Region
from jointformer.types import UInt8Array

Point = tuple[float, float]
Window = tuple[int, int, int, int]  # left, top, right, bottom

RIM = 3  # pixels around a cut-out in which alpha is 0
#: What is shown at up to this scale is read at half its size: far faster than averaging areas.
_FROM_HALF = 0.55


def make_sprite(still: Still, cutout: Cutout) -> tuple[UInt8Array, Point] | None:
    """((h,w,4) uint8 RGBA, x, y of the layer's middle in it): the region with a rim of its surroundings.

    Alpha is 0 on the border. None when the region is too small to paste.
    """
    left, top, right, bottom = cutout.region.box
    rim = int(np.ceil(RIM / cutout.ratio)) + 2
    height, width = still.picture.shape[:2]
    window = (max(left - rim, 0), max(top - rim, 0), min(right + rim, width), min(bottom + rim, height))
    picture, (x0, y0, scale_x, scale_y) = _window(still.picture, still.half, window, cutout.ratio)
    middle = ((cutout.middle[0] + 0.5 - x0) * scale_x - 0.5, (cutout.middle[1] + 0.5 - y0) * scale_y - 0.5)
    if cutout.outline is None:
        region = region_window(still, cutout.region, window, cutout.ratio)
        size = (picture.shape[1], picture.shape[0])
        alpha = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    else:
        alpha = blob_alpha(cutout.outline, picture.shape[0], picture.shape[1], middle, cutout.span)
    # The rim comes first, so that an edge that is the still's own is as soft as any other.
    alpha = soft_alpha(np.pad(alpha, RIM), cutout.feather)
    alpha[:RIM] = alpha[-RIM:] = 0
    alpha[:, :RIM] = alpha[:, -RIM:] = 0
    if np.count_nonzero(alpha > 127) < 12:
        return None
    picture = np.asarray(cv2.copyMakeBorder(picture, RIM, RIM, RIM, RIM, cv2.BORDER_REPLICATE), np.uint8)
    sprite = np.dstack([picture, alpha])
    middle = (middle[0] + RIM, middle[1] + RIM)
    if cutout.flip:
        sprite = np.ascontiguousarray(sprite[:, ::-1])
        middle = (sprite.shape[1] - 1 - middle[0], middle[1])
    return sprite, middle


def make_backdrop(still: Still, backdrop: BackdropPlan) -> tuple[UInt8Array, UInt8Array | None, Point]:
    """(picture (h,w,3), its label map or None, x, y of the backdrop's middle in it)."""
    height, width = still.picture.shape[:2]
    whole = (0, 0, width, height)
    picture, (_, _, scale_x, scale_y) = _window(still.picture, still.half, whole, backdrop.ratio)
    middle = ((backdrop.middle[0] + 0.5) * scale_x - 0.5, (backdrop.middle[1] + 0.5) * scale_y - 0.5)
    size = (picture.shape[1], picture.shape[0])
    labels: UInt8Array | None = None
    if backdrop.hole is not None:
        hole = region_window(still, backdrop.hole, whole, backdrop.ratio)
        picture = fill_hole(picture, np.asarray(cv2.resize(hole, size, interpolation=cv2.INTER_LINEAR), np.uint8))
    if backdrop.labels is not None:
        own = np.asarray(cv2.LUT(still.masks[backdrop.mask], backdrop.labels))
        labels = np.asarray(cv2.resize(own, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    if backdrop.flip:
        picture = np.ascontiguousarray(picture[:, ::-1])
        labels = None if labels is None else np.ascontiguousarray(labels[:, ::-1])
        middle = (picture.shape[1] - 1 - middle[0], middle[1])
    return picture, labels, middle


def _window(
    full: UInt8Array, half: UInt8Array, window: Window, ratio: float
) -> tuple[UInt8Array, tuple[int, int, float, float]]:
    """(the window scaled by `ratio`, (its left, top, exact scales of x and y) in pixels of the still)."""
    x0, y0, x1, y1 = window
    if ratio <= _FROM_HALF:
        x0, y0, x1, y1 = _even(window, half)
        source = half[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]
    else:
        source = full[y0:y1, x0:x1]
    size = (max(4, round((x1 - x0) * ratio)), max(4, round((y1 - y0) * ratio)))
    how = cv2.INTER_AREA if ratio <= 0.28 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(source, size, interpolation=how), np.uint8)
    return scaled, (x0, y0, size[0] / (x1 - x0), size[1] / (y1 - y0))


def _even(window: Window, half: UInt8Array) -> Window:
    """The window with edges that are pixels of the half-size picture too, widened to them where it can be."""
    x0, y0, x1, y1 = window
    x1, y1 = min(-(-x1 // 2) * 2, 2 * half.shape[1]), min(-(-y1 // 2) * 2, 2 * half.shape[0])
    return x0 // 2 * 2, y0 // 2 * 2, x1, y1


def region_window(still: Still, region: Region, window: Window, ratio: float) -> UInt8Array:
    """0..255: how much of each pixel within the window is the region's, at full or (like `_window`) half size."""
    x0, y0, x1, y1 = _even(window, still.half) if ratio <= _FROM_HALF else window
    mask = np.asarray(cv2.LUT(still.masks[region.mask][y0:y1, x0:x1], region.table()), np.uint8)
    if ratio <= _FROM_HALF:
        mask = np.asarray(cv2.resize(mask, ((x1 - x0) // 2, (y1 - y0) // 2), interpolation=cv2.INTER_AREA), np.uint8)
    return mask


def soft_alpha(alpha: UInt8Array, feather: float) -> UInt8Array:
    """`alpha` with its edge softened over about `feather` pixels and drawn in a little.

    Drawing in keeps the thin halo of the still's own background out of the paste: it would be a cue.
    """
    soft = cv2.GaussianBlur(alpha, (0, 0), max(feather, 0.3))
    return np.asarray(cv2.convertScaleAbs(cv2.subtract(soft, 70), alpha=255.0 / 170.0), np.uint8)


def blob_alpha(outline: F64, height: int, width: int, middle: Point, span: float) -> UInt8Array:
    """(height,width) 0/255: a smooth closed shape about `middle`, within a square of side `span`."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - middle[0]) / (0.5 * span), (y - middle[1]) / (0.5 * span)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    limit = np.full_like(angle, 0.68)
    for wave, (cosine, sine) in enumerate(outline.T, 1):
        limit += np.float32(cosine) * np.cos(wave * angle) + np.float32(sine) * np.sin(wave * angle)
    return np.where(radius < np.clip(limit, 0.25, 0.97), 255, 0).astype(np.uint8)


def fill_hole(picture: UInt8Array, hole: UInt8Array) -> UInt8Array:
    """`picture` (h,w,3) with the pixels where `hole` is not 0 filled from around them, coarse to fine."""
    grown = cv2.dilate(hole, np.ones((5, 5), np.uint8))
    known = (grown == 0).astype(np.float32)
    height, width = hole.shape
    if not known.any():
        return picture
    levels = [np.dstack([picture.astype(np.float32) * known[..., None], known])]
    while min(levels[-1].shape[:2]) > 2:
        above = levels[-1]
        size = (-(-above.shape[1] // 2), -(-above.shape[0] // 2))
        levels.append(np.asarray(cv2.resize(above, size, interpolation=cv2.INTER_AREA)))
    filled = _average(levels[-1])
    for level in reversed(levels[:-1]):
        filled = np.asarray(cv2.resize(filled, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR))
        trust = np.minimum(2.0 * level[..., 3:], 1.0)
        filled += (_average(level) - filled) * trust
    assert filled.shape[:2] == (height, width)
    return np.where(known[..., None] > 0, picture, np.clip(filled, 0, 255).astype(np.uint8))


def _average(level: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(level[..., :3] / np.maximum(level[..., 3:], 1e-3), np.float32)
