"""Objects to paste: regions of stills chosen to look like whole things, cut out with soft edges; blobs."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clip_pack import Still

U8 = npt.NDArray[np.uint8]

# Sets whose regions are parts of one thing: their union is the thing.
PARTS_OF_ONE = frozenset({"ccp", "carparts"})
# Sets whose regions are whole things.
INSTANCES = frozenset({"coco_small", "dogcat"})


def choose_region(
    rng: np.random.Generator, still: Still, small: float = 0.01, large: float = 0.6
) -> U8 | None:
    """(H,W) uint8 0/255: a region of the still that could be an object, or None if there is none of a fit size.

    Parts of one thing are mostly united, instances taken singly, other regions (human partitions of a
    picture) singly or with some of their neighbours. ``small`` and ``large`` bound the share of the picture.
    """
    choice = int(rng.integers(len(still.masks)))
    mask, (ids, areas) = still.masks[choice], still.regions[choice]
    if still.source in PARTS_OF_ONE:
        if len(ids) == 1 or rng.random() < 0.75:
            picked = ids
        else:
            count = int(rng.integers(1, max(2, len(ids) // 2) + 1))
            picked = rng.choice(ids, count, replace=False)
    else:
        fit = (areas >= small * mask.size) & (areas <= large * mask.size)
        if not fit.any():
            return None
        weight = np.sqrt(areas[fit])
        first = int(rng.choice(ids[fit], p=weight / weight.sum()))
        picked = np.asarray([first])
        if still.source not in INSTANCES and rng.random() < 0.5:
            picked = _with_neighbours(rng, mask, first, int(rng.integers(1, 4)))
    table = np.zeros(256, np.uint8)
    table[picked] = 255
    region = np.asarray(cv2.LUT(mask, table), np.uint8)
    share = float(areas[np.isin(ids, picked)].sum()) / mask.size
    return region if small <= share <= 0.85 else None


def _with_neighbours(rng: np.random.Generator, mask: U8, first: int, count: int) -> npt.NDArray[np.int64]:
    """Ids of a connected union: ``first`` and up to ``count`` regions, each touching one already in."""
    coarse = np.ascontiguousarray(mask[::6, ::6])
    picked = [first]
    for _ in range(count):
        inside = np.isin(coarse, picked).astype(np.uint8)
        ring = coarse[(np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8))) > 0) & (inside == 0)]
        around = np.unique(ring[ring > 0])
        if len(around) == 0:
            break
        picked.append(int(rng.choice(around)))
    return np.asarray(picked)


def cut_out(still: Still, region: U8, side: float, feather: float) -> U8 | None:
    """(h,w,4) uint8 RGBA: the region and a rim of its surroundings, sized so that sqrt(area) is ``side`` px.

    Alpha is 0 on the border of the result; ``feather`` is the softness of the edge in pixels. None when
    the region is too thin to paste.
    """
    left, top, width, height = cv2.boundingRect(region)
    area = cv2.countNonZero(region[top : top + height, left : left + width])
    if area < 64:
        return None
    ratio = side / float(np.sqrt(area))
    rim = int(np.ceil(4.0 / ratio)) + 1
    y0, x0 = max(top - rim, 0), max(left - rim, 0)
    y1, x1 = min(top + height + rim, region.shape[0]), min(left + width + rim, region.shape[1])
    size = (max(8, round((x1 - x0) * ratio)), max(8, round((y1 - y0) * ratio)))
    if max(size) > 8 * side:
        return None
    how = cv2.INTER_AREA if ratio < 1.0 else cv2.INTER_LINEAR
    sprite = np.empty((size[1], size[0], 4), np.uint8)
    sprite[..., :3] = cv2.resize(still.picture[y0:y1, x0:x1], size, interpolation=how)
    sprite[..., 3] = soft_alpha(
        np.asarray(cv2.resize(region[y0:y1, x0:x1], size, interpolation=how)), feather
    )
    # A region cut by its picture's border ends here; a hard line of two pixels is softened by the warp.
    return np.asarray(cv2.copyMakeBorder(sprite, 3, 3, 3, 3, cv2.BORDER_REPLICATE), np.uint8) * _rim_mask(
        size[0] + 6, size[1] + 6
    )


def _rim_mask(width: int, height: int) -> U8:
    """(height,width,4): 1 but for alpha, which is 0 within 3 pixels of the border."""
    keep = np.ones((height, width, 4), np.uint8)
    keep[:3, :, 3] = keep[-3:, :, 3] = keep[:, :3, 3] = keep[:, -3:, 3] = 0
    return keep


def soft_alpha(alpha: U8, feather: float) -> U8:
    """``alpha`` with its edge softened over about ``feather`` pixels and drawn in a little.

    Drawing in keeps the thin halo of the still's own background out of the paste: it would be a cue.
    """
    soft = cv2.GaussianBlur(alpha, (0, 0), max(feather, 0.3))
    return np.asarray(cv2.convertScaleAbs(cv2.subtract(soft, 70), alpha=255.0 / 170.0), np.uint8)


def blob(rng: np.random.Generator, picture: U8, side: float, feather: float) -> U8:
    """(h,w,4) uint8 RGBA: a random smooth closed shape filled with a window of ``picture``."""
    extent = max(12, round(1.5 * side))
    count = int(rng.integers(6, 14))
    angles = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for wave in range(1, count // 2):
        radius += rng.uniform(-0.5, 0.5) / wave * np.cos(wave * angles + rng.uniform(0.0, 2.0 * np.pi))
    radius = np.clip(radius, 0.25, None)
    points = np.stack([np.cos(angles) * rng.uniform(0.6, 1.0), np.sin(angles) * rng.uniform(0.6, 1.0)], -1)
    points *= (radius / radius.max())[:, None]
    alpha = np.zeros((extent, extent), np.uint8)
    outline = np.round((0.5 + 0.46 * points) * extent * 16).astype(np.int32)
    cv2.fillPoly(alpha, [outline], 255, cv2.LINE_AA, 4)
    height, width = picture.shape[:2]
    window = int(min(height, width, max(extent, rng.uniform(0.3, 0.8) * min(height, width))))
    top, left = int(rng.integers(height - window + 1)), int(rng.integers(width - window + 1))
    sprite = np.empty((extent, extent, 4), np.uint8)
    sprite[..., :3] = cv2.resize(
        picture[top : top + window, left : left + window], (extent, extent), interpolation=cv2.INTER_AREA
    )
    sprite[..., 3] = soft_alpha(alpha, feather)
    return np.asarray(cv2.copyMakeBorder(sprite, 3, 3, 3, 3, cv2.BORDER_REPLICATE)) * _rim_mask(
        extent + 6, extent + 6
    )


def fill_hole(picture: U8, hole: U8) -> U8:
    """``picture`` (h,w,3) with the pixels where ``hole`` is not 0 filled from around them, coarse to fine."""
    grown = cv2.dilate(hole, np.ones((5, 5), np.uint8))
    known = (grown == 0).astype(np.float32)
    colours = picture.astype(np.float32) * known[..., None]
    height, width = hole.shape
    filled = np.full((height, width, 3), picture.mean((0, 1)), np.float32)
    for level in (5, 4, 3, 2, 1):
        small = (max(1, width >> level), max(1, height >> level))
        weight = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
        average = (
            cv2.resize(colours, small, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)[..., None]
        )
        trust = cv2.resize(np.clip(2.0 * weight, 0.0, 1.0), (width, height), interpolation=cv2.INTER_LINEAR)
        fine = cv2.resize(average, (width, height), interpolation=cv2.INTER_LINEAR)
        filled += (fine - filled) * trust[..., None]
    return np.where(known[..., None] > 0, picture, np.clip(filled, 0, 255).astype(np.uint8))
