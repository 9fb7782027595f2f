"""Boxes and scribbles to masks, by GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004; OpenCV's)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from jointformer.errors import DataError
from jointformer.types import Mask, UInt8Array

_WORK_SIDE = 384  # pixels of the longer side that GrabCut sees: about half a second on a laptop
_ROUNDS = 4
_MARGIN = 0.35  # of the box's sides: what is seen around it, to learn the background's colours
_MOST_POINTS = 20_000
_LARGEST_RADIUS = 16_383  # pixels: OpenCV draws no lines wider than 32,767


@dataclass(frozen=True)
class Stroke:
    """A scribble: points (x, y) in frame pixels, half its width, and whether it marks the object or the rest."""

    points: tuple[tuple[float, float], ...]
    radius: float
    inside: bool

    @staticmethod
    def parse(value: Any) -> Stroke:
        """Return the stroke of a JSON value. Raises DataError."""
        try:
            points = tuple((float(x), float(y)) for x, y in value["points"])
            radius, inside = float(value["radius"]), value["inside"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError("a scribble", expected="points, radius and inside") from error
        numbers = np.asarray([*points, (radius, radius)])
        good = 0 < len(points) <= _MOST_POINTS and bool(np.isfinite(numbers).all()) and np.abs(numbers).max() < 1e5
        if not good or not 0 < radius <= _LARGEST_RADIUS or not isinstance(inside, bool):
            raise DataError("a scribble", expected=f"finite points and a radius above 0, at most {_LARGEST_RADIUS}")
        return Stroke(points, radius, inside)


Box = tuple[float, float, float, float]


def parse_box(value: Any, size: tuple[int, int]) -> Box:
    """Return (left, top, right, bottom) of a JSON value, cut to the frame. Raises DataError."""
    height, width = size
    try:
        left, top, right, bottom = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("a box", expected="left, top, right, bottom") from error
    if not np.isfinite([left, top, right, bottom]).all():
        raise DataError("a box", expected="finite numbers")
    box = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if box[2] - box[0] < 3 or box[3] - box[1] < 3:
        raise DataError("the box is too small", expected="at least 3x3 pixels of the frame")
    return box


def cut_out(
    frame: UInt8Array,
    *,
    box: Box | None = None,
    strokes: Sequence[Stroke] = (),
    known: Mask | None = None,
    others: Mask | None = None,
) -> Mask:
    """Return the (H, W) mask of what a box surrounds or scribbles mark in a (H, W, 3) uint8 RGB frame.

    known: the object's mask so far, which scribbles refine. others: pixels of other objects, never taken. Raises
    DataError where no scribble marks the object and there is no box.
    """
    if box is None and not any(stroke.inside for stroke in strokes):
        raise DataError("nothing marks the object", hint="scribble over the object first, or draw a box")
    left, top, right, bottom = _view(frame.shape[:2], box, strokes, known)
    part = frame[top:bottom, left:right]
    scale = min(1.0, _WORK_SIDE / max(part.shape[:2]))
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else part
    hints = _hints(small.shape[:2], (left, top), scale, box, strokes)
    if known is not None and box is None:
        _hint_known(hints, _shrink(known[top:bottom, left:right], hints))
    if others is not None:
        hints[_shrink(others[top:bottom, left:right], hints)] = cv2.GC_BGD
    _draw_strokes(hints, (left, top), scale, strokes)
    found = _grab(np.ascontiguousarray(small), hints)
    share = cv2.resize(found.astype(np.float32), part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    mask = np.zeros(frame.shape[:2], bool)
    mask[top:bottom, left:right] = share > 0.5
    return mask if others is None else mask & ~others


def _view(
    size: tuple[int, ...], box: Box | None, strokes: Sequence[Stroke], known: Mask | None
) -> tuple[int, int, int, int]:
    """The part of the frame that GrabCut sees: around the box, or around what the scribbles and the mask cover."""
    height, width = size
    if box is None:
        inside = [(x, y) for stroke in strokes if stroke.inside for x, y in stroke.points]
        if known is not None and known.any():
            rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
            inside += [(float(columns[0]), float(rows[0])), (float(columns[-1]), float(rows[-1]))]
        xs, ys = zip(*inside)
        reach = 0.15 * max(height, width)
        box = (min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach)
    dx, dy = max(8.0, _MARGIN * (box[2] - box[0])), max(8.0, _MARGIN * (box[3] - box[1]))
    left, top = int(np.clip(box[0] - dx, 0, width - 2)), int(np.clip(box[1] - dy, 0, height - 2))
    right, bottom = int(np.clip(box[2] + dx, left + 2, width)), int(np.clip(box[3] + dy, top + 2, height))
    return left, top, right, bottom


def _hints(
    size: tuple[int, ...], origin: tuple[int, int], scale: float, box: Box | None, strokes: Sequence[Stroke]
) -> UInt8Array:
    """What each pixel is taken for at first, in OpenCV's words."""
    hints = np.full(size, cv2.GC_PR_BGD, np.uint8)
    if box is not None:
        hints[:] = cv2.GC_BGD
        x0, y0 = (round((v - o) * scale) for v, o in zip(box[:2], origin))
        x1, y1 = (round((v - o) * scale) for v, o in zip(box[2:], origin))
        hints[max(0, y0) : max(y1, y0 + 1), max(0, x0) : max(x1, x0 + 1)] = cv2.GC_PR_FGD
    elif not any(not stroke.inside for stroke in strokes):
        # Nobody has said what is background: the border of the view is.
        edge = max(1, round(0.03 * min(size)))
        hints[:edge] = hints[-edge:] = cv2.GC_BGD
        hints[:, :edge] = hints[:, -edge:] = cv2.GC_BGD
    return hints


def _hint_known(hints: UInt8Array, known: Mask) -> None:
    hints[known & (hints == cv2.GC_PR_BGD)] = cv2.GC_PR_FGD


def _draw_strokes(hints: UInt8Array, origin: tuple[int, int], scale: float, strokes: Sequence[Stroke]) -> None:
    for stroke in strokes:
        points = np.asarray(stroke.points, np.float64)
        points = np.round((points - origin) * scale).clip(-30_000, 30_000).astype(np.int32)
        width = max(1, round(2 * stroke.radius * scale))
        value = cv2.GC_FGD if stroke.inside else cv2.GC_BGD
        cv2.polylines(hints, [points.reshape(-1, 1, 2)], False, value, width)
        cv2.circle(hints, tuple(int(v) for v in points[0]), max(1, width // 2), value, -1)


def _shrink(mask: Mask, like: UInt8Array) -> Mask:
    small = cv2.resize(mask.astype(np.uint8), like.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small > 0)


def _grab(picture: UInt8Array, hints: UInt8Array) -> Mask:
    inside = (hints == cv2.GC_FGD) | (hints == cv2.GC_PR_FGD)
    if not inside.any() or inside.all():
        return inside
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # the same box gives the same mask
    try:
        cv2.grabCut(picture, hints, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # a single colour everywhere: nothing to tell apart
        return inside
    return np.asarray((hints == cv2.GC_FGD) | (hints == cv2.GC_PR_FGD))
