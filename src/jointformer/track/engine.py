"""The frame loop's one step on tensors: what is segmented, what becomes memory, in which order, as published."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from jointformer.model.compiled import compiled
from jointformer.model.cost import pass_bytes
from jointformer.model.device import exact_products
from jointformer.model.network import JointFormer, sum_of_others
from jointformer.ops.aggregation import soft_aggregate
from jointformer.ops.padding import pad, padding_to_multiple, unpad
from jointformer.system.heap import give_back_freed_memory, keep_freed_memory, resident_size
from jointformer.track.config import TrackerConfig
from jointformer.track.memory_bank import MemoryBank, Spot


class Engine:
    """All that a video leaves behind between frames: each object's memory and token, and the step count.

    Works on normalised tensors at network size; objects are rows, numbered in order of appearance. `Tracker` adds
    pictures, sizes and object ids.
    """

    def __init__(self, model: JointFormer, config: TrackerConfig) -> None:
        self.model = compiled(model) if config.compile else model
        self.config = config
        self.bank: MemoryBank | None = None
        self.tokens = model.initial_tokens(1, 0)
        if model.device.type == "cpu":
            keep_freed_memory()
        self._steps = 0
        self._last_memory_step = 0

    @property
    def rows(self) -> int:
        """The number of objects."""
        return self.tokens.shape[1]

    @property
    def _per_pass(self) -> int | None:
        """Objects that go through the network together; None for all.

        On a CPU one object fills the cores, and more would only leave the cache: the default is 1, and an object's
        result there does not depend on which others are tracked beside it in the same pass.
        """
        if self.config.objects_per_pass is None and self.model.device.type == "cpu":
            return 1
        return self.config.objects_per_pass

    def remove(self, row: int) -> None:
        """Forget an object; the rows behind it move up."""
        assert self.bank is not None
        self.bank.remove_row(row)
        self.tokens = torch.cat([self.tokens[:, :row], self.tokens[:, row + 1 :]], dim=1)

    @torch.inference_mode()
    def step(
        self,
        frame: Tensor,
        *,
        corrections: dict[int, Tensor] | None = None,
        new_masks: Tensor | None = None,
        pinned: Collection[int] | None = None,
        last: bool = False,
    ) -> Tensor:
        """Return the aggregated probabilities (N+1, H, W) of the next frame, background first, new objects at the end.

        frame: (3, H, W) normalised. corrections: {row: (H, W) mask} for known objects. new_masks: (n, H, W) one-hot
        masks of new objects. pinned: the corrected rows whose memory of this frame stays longest, and with room for one
        frame only takes the first one's place (None: all). last: nothing follows, so nothing is memorised.
        """
        corrections = corrections or {}
        pinned = corrections if pinned is None else pinned
        given = new_masks is not None and len(new_masks) > 0
        is_memory = not last and (
            given or bool(corrections) or self._steps - self._last_memory_step >= self.config.memory_every
        )
        padding = padding_to_multiple(frame.shape[1], frame.shape[2])
        x = pad(frame, padding)[None]
        old = self.rows
        prob = self._segment(x, update_token=not last) if old else x.new_zeros((1, *x.shape[2:]))
        if given or corrections:
            added = pad(new_masks.to(x), padding) if new_masks is not None else x.new_zeros((0, *x.shape[2:]))
            corrected = {row: pad(mask.to(x), padding) for row, mask in corrections.items()}
            prob = _merge_given(prob[1:], corrected, added)
        if not last and (is_memory or self.config.include_last):
            self._memorize(x, prob[1:], old, pinned, is_memory)
        if is_memory:
            self._last_memory_step = self._steps
        self._steps += 1
        return unpad(prob, padding)

    @torch.inference_mode()
    def add_memory(self, frame: Tensor, masks: Tensor, rows: list[int]) -> None:
        """Give known objects one more pinned memory frame out of turn; tokens and the step count stay.

        frame: (3, H, W). masks: (len(rows), H, W), the objects' masks there.
        """
        assert self.bank is not None
        padding = padding_to_multiple(frame.shape[1], frame.shape[2])
        padded = pad(masks.to(frame), padding)
        others = sum_of_others(padded[None])[0]
        x = pad(frame, padding)[None]
        per_pass = self._per_pass or len(rows)
        for a in range(0, len(rows), per_pass):
            group = rows[a : a + per_pass]
            spots: list[Spot] = []
            for source, row in enumerate(group):
                spots += self.bank.append(range(row, row + 1), first_source=source, pinned=(row,))
            tokens = torch.stack([self.tokens[:, row] for row in group], dim=1)
            self._write(spots, x, padded[a : a + per_pass], others[a : a + per_pass], tokens)

    def _make_room(self, x: Tensor, objects: int) -> None:
        """Give freed memory back to the system where the next pass of so many objects might exceed the limit.

        The heap keeps much of what a step frees, in gaps that no later block happens to fit.
        """
        limit = self.config.memory_limit
        if limit is None or self.model.device.type != "cpu":
            return
        height, width = x.shape[2:]
        needed = pass_bytes(self.model.config, height, width, objects, self.model.dtype.itemsize)
        if resident_size() + needed > limit:
            give_back_freed_memory()

    def _segment(self, x: Tensor, update_token: bool) -> Tensor:
        assert self.bank is not None
        self._make_room(x, min(self.rows, self._per_pass or self.rows))
        with exact_products(self.model.device):
            out = self.model.segment(
                self.model.encode_frame(x),
                self.bank.view(),
                self.tokens,
                attention=self.config.attention,
                update_token=update_token,
                objects_per_pass=self._per_pass,
            )
        self.tokens = out.tokens
        return out.prob[0]

    def _memorize(self, x: Tensor, masks: Tensor, old: int, pinned: Collection[int], is_memory: bool) -> None:
        """Encode the frame for every object: new objects' first memory, old objects' newest or temporary one."""
        new = len(masks) - old
        if self.bank is None:
            self.bank = self._build_bank(x)
        if new:
            self.bank.add_rows(new)
            self.tokens = torch.cat([self.tokens, self.model.initial_tokens(1, new).to(self.tokens)], dim=1)
        others = sum_of_others(masks[None])[0]
        per_pass = self._per_pass or len(masks)
        tokens = []
        for a in range(0, len(masks), per_pass):
            b = min(a + per_pass, len(masks))
            spots = self._spots(a, b, old, pinned, is_memory)
            tokens.append(self._write(spots, x, masks[a:b], others[a:b], self.tokens[:, a:b]))
        self.tokens = torch.cat(tokens, dim=1)

    def _write(self, spots: list[Spot], x: Tensor, masks: Tensor, others: Tensor, tokens: Tensor) -> Tensor:
        """Fill spots of the bank with a frame (1, 3, H, W) as n objects see it; return their tokens (1, n, C)."""
        assert self.bank is not None
        self._make_room(x, len(masks))
        keep = self.bank.writer(spots)
        with exact_products(self.model.device):
            return self.model.memorize_into(
                keep, x, masks[None], tokens, others=others[None], attention=self.config.attention
            )

    def _spots(self, a: int, b: int, old: int, pinned: Collection[int], is_memory: bool) -> list[Spot]:
        """Return where rows [a, b) of a memorised frame go by the published rules, with corrections."""
        assert self.bank is not None
        seen, fresh = range(a, min(b, old)), range(max(a, old), b)
        if is_memory and self.config.max_memory_frames != 1:
            spots = self.bank.append(seen, pinned=pinned)
        else:
            spots = self.bank.set_temporary(seen)
        if self.config.max_memory_frames == 1:
            for row in (row for row in seen if row in pinned):
                spots += self.bank.set_first(row, row - a)
        return spots + self.bank.append(fresh, first_source=max(a, old) - a)

    def _build_bank(self, x: Tensor) -> MemoryBank:
        tokens = (x.shape[2] // 16) * (x.shape[3] // 16)
        return MemoryBank(
            self.model.config,
            tokens,
            self.config.max_memory_frames,
            temporary=self.config.keeps_temporary,
            device=self.model.device,
            dtype=self.model.dtype,
        )


def _merge_given(prob: Tensor, corrections: dict[int, Tensor], added: Tensor) -> Tensor:
    """Return the aggregation (N+n+1, H, W) of old objects' probabilities with the masks given in this frame.

    Old objects are silenced wherever any given mask is set, corrected ones are replaced, new ones come behind.
    """
    prob = prob.clone()
    for mask in (*corrections.values(), *added):
        prob.masked_fill_(mask > 0.5, 0)
    for row, mask in corrections.items():
        prob[row] = mask
    return soft_aggregate(torch.cat([prob, added]))
