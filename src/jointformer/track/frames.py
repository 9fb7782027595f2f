"""Frames and masks as callers have them, to what the network takes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jointformer.data.frames import rgb_pixels
from jointformer.data.masks import refuse_soft_edges
from jointformer.errors import DataError
from jointformer.model.config import MEAN, STD
from jointformer.ops.label_maps import LARGEST_ID, check_label_map, object_ids
from jointformer.ops.resize import network_size, resize_bilinear, resize_label_map
from jointformer.track.transfer import StagedFrame, on_gpu, stage, to_device
from jointformer.types import FloatArray, LabelMap, Mask, UInt8Array, pixels_text

logger = logging.getLogger(__name__)

#: uint8 (H, W, 3) RGB, a PIL image, or a float tensor (3, H, W) of RGB in [0, 1]; staged: already on its way to a GPU.
FrameLike: TypeAlias = np.ndarray[Any, Any] | Image.Image | Tensor | StagedFrame


@dataclass(frozen=True)
class ScaledLabelMap:
    """A label map drawn on a smaller or larger copy of its frame, as DAVIS's 480p masks of full-resolution frames are.

    It goes from its own size to the network's in one step, as published; all other masks must be of their frame's size.
    """

    ids: LabelMap

    def flipped(self) -> ScaledLabelMap:
        """Return the label map mirrored left to right."""
        return ScaledLabelMap(self.ids[:, ::-1])


#: A label map (H, W) of integers, or {object id: (H, W) mask}: of bools, integers (above 0) or floats (above 0.5).
MasksLike: TypeAlias = (
    np.ndarray[Any, Any] | Tensor | Image.Image | ScaledLabelMap | Mapping[int, np.ndarray[Any, Any] | Tensor]
)

#: How far tensors may lie outside of [0, 1], as those do that a filter with negative lobes has resized.
_BEYOND = 1.0


def frame_size(frame: FrameLike) -> tuple[int, int]:
    """Return (H, W) of a frame; DataError for anything that is none."""
    if isinstance(frame, Image.Image):
        if frame.width and frame.height:
            return frame.height, frame.width
        raise _no_frame(f"a picture of {pixels_text((frame.height, frame.width))} pixels")
    if isinstance(frame, StagedFrame):
        return int(frame.pixels.shape[0]), int(frame.pixels.shape[1])
    if isinstance(frame, Tensor):
        if frame.ndim == 3 and frame.shape[0] == 3 and frame.is_floating_point() and frame.numel():
            return int(frame.shape[1]), int(frame.shape[2])
        got = f"a {frame.dtype} tensor of shape {tuple(frame.shape)}"
    elif isinstance(frame, np.ndarray):
        if frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8 and frame.size:
            return int(frame.shape[0]), int(frame.shape[1])
        got = f"a {frame.dtype} array of shape {frame.shape}"
    else:
        got = type(frame).__name__
    raise _no_frame(got)


def _no_frame(got: str) -> DataError:
    return DataError(
        "not a frame", expected="a uint8 array (H, W, 3), a PIL image or a float tensor (3, H, W) in [0, 1]", got=got
    )


def prepare_frame(frame: FrameLike, size: int, device: torch.device) -> Tensor:
    """Return the (3, h, w) float32 frame, normalised by ImageNet's mean and std, then resized, on the device.

    Raises DataError for a tensor that is far outside of [0, 1], or not finite: memory would keep it for good.
    """
    if isinstance(frame, Tensor):
        x = frame.detach().float()
        low, high = torch.stack(x.aminmax()).tolist()  # where it lies: for a tensor on the CPU no GPU is waited for
        if not (low >= -_BEYOND and high <= 1 + _BEYOND):  # as it is for NaN
            raise _no_frame(f"values from {low:.4g} to {high:.4g}")
        x = _normalised(x.to(device))
    elif device.type == "cpu" and not isinstance(frame, StagedFrame):
        x = _looked_up(_array_of(frame))
    else:
        pixels = frame.get() if isinstance(frame, StagedFrame) else to_device(_pixels(frame), device)
        x = _normalised(_unit_planes(pixels))
    return resize_bilinear(x[None], *network_size(x.shape[1], x.shape[2], size))[0]


def _unit_planes(pixels: Tensor) -> Tensor:
    """Return (H, W, 3) uint8 as (3, H, W) float32 in [0, 1]; planes first: arithmetic across them is slow."""
    return pixels.permute(2, 0, 1).contiguous().float().div_(255)


def _normalised(x: Tensor) -> Tensor:
    mean, std = _statistics(x.device)
    return x.sub(mean).div_(std)


def _looked_up(picture: UInt8Array) -> Tensor:
    """Return `_normalised(_unit_planes(picture))` to the bit: of large pictures the arithmetic is a multiple of a step.

    The tensors between take 300 MB of 4K, and fetching such memory from the system most of the time.
    """
    planes = np.empty((3, *picture.shape[:2]), np.float32)
    for channel, table in enumerate(_table()):
        cv2.LUT(cv2.extractChannel(picture, channel), table, dst=planes[channel])
    return torch.from_numpy(planes)


@functools.cache
def _table() -> FloatArray:
    """What each of a channel's 256 values becomes, (3, 256) float32."""
    with torch.inference_mode(False), torch.device("cpu"):
        values = torch.arange(256, dtype=torch.uint8)[:, None, None].expand(256, 1, 3)
        return np.ascontiguousarray(_normalised(_unit_planes(values))[..., 0].numpy())


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's mean and std, each (3, 1, 1), copied to a device once."""
    with torch.inference_mode(False):
        mean, std = torch.tensor((MEAN, STD), dtype=torch.float32, device=device)[..., None, None]
    return mean, std


def stage_frame(frame: FrameLike, device: torch.device) -> FrameLike:
    """Return the frame on its way to a GPU; for a CPU the frame itself, as is what is no frame."""
    if not on_gpu(device) or not isinstance(frame, np.ndarray | Image.Image):
        return frame
    try:
        frame_size(frame)
    except DataError:  # for whoever uses it to refuse
        return frame
    return stage(_pixels(frame), device)


def picture_pixels(picture: Image.Image) -> UInt8Array:
    """Return a PIL image as (H, W, 3) uint8 RGB, as picture files are read; Pillow cuts 32-bit values off at 255."""
    return np.asarray(picture.convert("RGB")) if picture.mode in ("I", "F") else rgb_pixels(picture)


def _array_of(frame: np.ndarray[Any, Any] | Image.Image) -> UInt8Array:
    """Return the picture as an (H, W, 3) uint8 array without gaps, the frame's own where it can be."""
    return np.ascontiguousarray(picture_pixels(frame) if isinstance(frame, Image.Image) else frame)


def _pixels(frame: np.ndarray[Any, Any] | Image.Image) -> Tensor:
    """Return the picture as a uint8 tensor (H, W, 3) of its own."""
    # A copy: arrays from decoders are often read-only, which torch warns about, and inputs are never written to.
    return torch.from_numpy(_array_of(frame).copy())


def masks_by_id(masks: MasksLike, height: int, width: int) -> dict[int, Mask]:
    """Return {object id: (H, W) bool mask} in ascending order of ids, of masks in any accepted form.

    A label map names the objects that occur in it; a mapping may name an object with an empty mask, and its masks hold
    bools, integers (any above 0 is the object) or floats (any above 0.5). Raises DataError for another size than the
    frame's, ids below 1 or of more than 63 bits, a label map without any object, or uint8 masks with soft edges in a
    mapping. Of a ScaledLabelMap the masks have its own size.
    """
    if isinstance(masks, Mapping):
        result: dict[int, Mask] = {}
        for key in masks:
            if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 1 <= key <= LARGEST_ID:
                raise _unusable_id(key)
        for key, mask in sorted(masks.items()):
            array = _array(mask)
            if array.dtype.kind == "f":
                array = array > 0.5
            check_label_map(array, height, width, f"mask of object {key}")
            if array.dtype == np.uint8:
                refuse_soft_edges(array, f"mask of object {key}", hint="threshold it yourself, as in matte > 127")
            result[int(key)] = array > 0
        if not result:
            raise DataError("the mapping has no object", expected="at least one {id: mask}", got="an empty mapping")
        return result
    if isinstance(masks, ScaledLabelMap):
        masks = masks.ids
        height, width = masks.shape
    label_map = _array(masks)
    check_label_map(label_map, height, width, "label map")
    ids = object_ids(label_map)
    if not ids:
        raise DataError("the mask has no object", expected="at least one pixel above 0", got="an empty label map")
    if ids[-1] > LARGEST_ID:
        raise _unusable_id(ids[-1])
    return {i: label_map == i for i in ids}


def empty_mask(object_id: int, given: MasksLike | None) -> DataError:
    """Return the error for a new object that has no pixel in the masks given, or none left beside the others."""
    what = "is empty"
    if isinstance(given, Mapping):
        values = _array(given[object_id])
        if values.dtype.kind == "f" and not (values > 0.5).any():
            what = "has no value above 0.5"
    return DataError(f"mask of new object {object_id} {what}", expected="at least one pixel")


def _unusable_id(given: object) -> DataError:
    return DataError("object id", expected=f"an integer from 1 to {LARGEST_ID}", got=repr(given))


def _array(mask: Any) -> np.ndarray[Any, Any]:
    """Return a mask in any form as an array; NumPy has no bfloat16, so that becomes float32."""
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu()
        return (mask.float() if mask.dtype == torch.bfloat16 else mask).numpy()
    return np.asarray(mask)


def prepare_masks(masks: Mapping[int, Mask], height: int, width: int, device: torch.device) -> Tensor:
    """Return float32 masks (n, height, width) of 0 and 1, resized by nearest neighbour, on the device.

    Says in the log which objects are too small for it: nothing is left of them.
    """
    resized = [resize_label_map(mask.astype(np.uint8), height, width) for mask in masks.values()]
    for (i, mask), small in zip(masks.items(), resized):
        if not small.any() and mask.any():
            logger.warning(
                "object %d: its mask is too small (%d pixels): none is left at the %s that the network sees; "
                "choose a larger size, or draw more",
                i, np.count_nonzero(mask), pixels_text((height, width)),
            )  # fmt: skip
    return to_device(torch.from_numpy(np.stack(resized).astype(np.float32)), device)
