"""Bootstrapped cross entropy plus dice: what every predicted frame of a clip is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.data.masks import VOID


def hardest_share(iteration: int, start: int, end: int, least: float = 0.15) -> float | None:
    """The share of pixels that the cross entropy keeps at an iteration; None: all, by a plain mean.

    Before `start` every pixel counts; until `end` the share falls linearly from 1 to `least` and stays there.
    """
    if iteration < start:
        return None
    if iteration > end:
        return least
    return least + (1 - least) * (end - iteration) / (end - start)


@dataclass(frozen=True)
class FrameLoss:
    """Cross entropy and dice of one predicted frame (scalars with a gradient)."""

    cross_entropy: Tensor
    dice: Tensor


def frame_loss(
    logits: Tensor, labels: Tensor, num_objects: Tensor, hardest: float | None = None, *, void: bool = False
) -> FrameLoss:
    """Cross entropy and dice of one frame of every clip of the batch.

    logits (B, N+1, H, W), background first; labels (B, H, W) integers; num_objects (B,): the slots that
    each clip uses. Labels above a clip's number of objects count as background, 255 as void where
    `void`. The cross entropy sees background and the clip's own objects only, and of the pixels the `hardest`
    share (None: a plain mean); the dice sees the softmax over all slots, unused ones included (they have no
    target pixels).
    Source: the training recipe of JointFormer (arXiv 2308.13505); dice and bootstrapping as in STCN and XMem.
    """
    logits = logits.float()
    labels = labels.long()
    beyond = labels > num_objects.view(-1, 1, 1)
    if void:
        beyond &= labels != VOID
    labels = labels.masked_fill(beyond, 0)
    return FrameLoss(
        cross_entropy=_bootstrapped_cross_entropy(logits, labels, num_objects, hardest, void),
        dice=_dice(logits, labels, void),
    )


def _bootstrapped_cross_entropy(
    logits: Tensor, labels: Tensor, num_objects: Tensor, share: float | None, void: bool
) -> Tensor:
    slot = torch.arange(logits.shape[1], device=logits.device)
    unused = slot[None] > num_objects[:, None]
    logits = logits.masked_fill(unused[:, :, None, None], torch.finfo(logits.dtype).min)
    ignore = VOID if void else -100
    pixels = F.cross_entropy(logits, labels, reduction="none", ignore_index=ignore).flatten(1)
    if share is None:
        if not void:
            return pixels.mean()
        valid = (labels != VOID).flatten(1).sum(1).clamp(min=1)
        return (pixels.sum(1) / valid).mean()
    # From here on void pixels stay in with loss 0, as in the published runs.
    kept = max(1, int(share * pixels.shape[1]))
    return pixels.topk(kept, dim=1, sorted=False).values.mean()


def _dice(logits: Tensor, labels: Tensor, void: bool) -> Tensor:
    slots = logits.shape[1] - 1
    masks = logits.softmax(1)[:, 1:]
    ids = torch.arange(1, slots + 1, device=logits.device).view(1, -1, 1, 1)
    targets = (labels[:, None] == ids).to(masks.dtype)
    if void:  # one value per slot over the valid pixels of the whole batch
        valid = (labels != VOID)[:, None]
        masks, targets = masks * valid, targets * valid
        masks, targets = masks.transpose(0, 1).flatten(1), targets.transpose(0, 1).flatten(1)
    else:  # one value per clip and slot
        masks, targets = masks.flatten(2), targets.flatten(2)
    overlap = (masks * targets).sum(-1)
    return (1 - (2 * overlap + 1) / (masks.sum(-1) + targets.sum(-1) + 1)).mean()


@torch.no_grad()
def iou_sum(logits: Tensor, labels: Tensor, num_objects: Tensor) -> Tensor:
    """Of all clips' objects that are in a frame, the sum of their IoU and their number (2,), for a mean over batches.

    logits (B, N+1, H, W), labels (B, H, W). What is found in void counts for nothing.
    """
    slots = logits.shape[1] - 1
    ids = torch.arange(1, slots + 1, device=logits.device).view(1, -1, 1, 1)
    found = (logits.argmax(1)[:, None] == ids) & (labels[:, None] != VOID)
    wanted = labels[:, None].long() == ids
    present = wanted.flatten(2).any(-1) & (ids.view(1, -1) <= num_objects.view(-1, 1))
    union = (found | wanted).flatten(2).sum(-1)
    iou = (found & wanted).flatten(2).sum(-1) / union.clamp(min=1)
    return torch.stack([(iou * present).sum(), present.sum()])
