"""The matching loss: what one attention head should look at, known because clips from stills were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jointformer.model.joint_block import Projected

#: The head of every joint block that learns to match; the others are free.
HEAD = 0
#: Standard deviation, in pixels, of the weights of the tokens around a point.
SPREAD = 8.0
#: A point is in memory where a token's middle is as near as half the diagonal of a token, in pixels.
SEEN = 11.5
#: A point is not in memory where no token's middle is nearer than this; in between nothing is asked.
UNSEEN = 24.0


def matching_targets(query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points of query tokens (B, P, 3) are among memory tokens (B, M, 3): layer, x, y each.

    Returns weights (B, P, M), which sum to 1 in the rows of points that are in memory and are 0 elsewhere, and (B, P)
    whether a point is known not to be there. Points of different layers are never the same.
    """
    distance = torch.cdist(query[..., 1:].float(), memory[..., 1:].float(), compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance.masked_fill(query[..., :1] != memory[..., 0][:, None], torch.inf)
    nearest = distance.amin(2)
    weights = torch.exp(-(distance**2) / (2 * SPREAD**2)) * (nearest < SEEN)[..., None]
    return weights / weights.sum(2, keepdim=True).clamp_min(1e-9), nearest > UNSEEN


def matching_loss(
    projected: Sequence[Projected], memory_keys: Sequence[Sequence[Tensor]], weights: Tensor, unseen: Tensor
) -> Tensor:
    """The mean cross entropy (scalar, float32) of the matching heads' attention, over joint blocks and points.

    projected: per block the query frame's (queries, keys, values), each (N, A, P, D); memory_keys: per memory frame and
    block its keys (N, A, S, D); weights (B, P, M) and unseen (B, P) as `matching_targets` gives them, N a multiple of
    B. Attention runs over the frame's own tokens and all memory, as in the block. A point that is in memory should get
    it from there; one that is nowhere should look at its own frame only.
    """
    own, rows = weights.shape[1], len(projected[0][0]) // len(weights)
    weights, unseen = weights.repeat_interleave(rows, 0), unseen.repeat_interleave(rows, 0)
    seen = weights.sum(2)
    asked = (seen.sum() + unseen.sum()).clamp_min(1.0)
    losses = []
    for block, (q, k, _) in enumerate(projected):
        keys = torch.cat([k[:, HEAD], *(frame[block][:, HEAD] for frame in memory_keys)], dim=1)
        scores = (q[:, HEAD] @ keys.mT).float() * q.shape[3] ** -0.5
        total = scores.logsumexp(2)
        matched = (weights * scores[..., own:]).sum(2) - total * seen
        nowhere = (scores[..., :own].logsumexp(2) - total) * unseen
        losses.append(-(matched + nowhere).sum() / asked)
    return torch.stack(losses).mean()
