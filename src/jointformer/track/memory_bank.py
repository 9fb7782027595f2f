"""The memory bank: a key/value cache per joint block and object, allocated once, written in place, read as views."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jointformer.errors import NoMemoryError
from jointformer.model.config import ModelConfig
from jointformer.model.joint_block import LayerMemory
from jointformer.model.transformer import KeepLayer, MemoryView


@dataclass
class _Row:
    """What one object's row of the bank holds.

    places: where each memory frame lies, oldest first, the object's first frame at index 0. pinned: those that are
    given up last (frames with a mask from the user).
    """

    places: list[int] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)
    has_temporary: bool = False


@dataclass(frozen=True)
class Spot:
    """Where one entry of a memorised frame goes: entry `source` of its tensors to place `place` of a row."""

    source: int
    row: int
    place: int


class MemoryBank:
    """Keys and values of each object's memory frames.

    One row per object; a row has room for the temporary memory (place 0) and `capacity` memory frames behind it, so
    that what is in use is one contiguous view. With capacity 0 the rows grow as needed (unbounded memory).
    """

    def __init__(
        self,
        config: ModelConfig,
        tokens: int,
        capacity: int,
        *,
        temporary: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._capacity = capacity
        self._offset = 1 if temporary else 0
        self._room = self._offset + (capacity or 4)
        self._rows: list[_Row] = []
        shape = (0, config.heads, self._room * tokens, config.head_width)
        self._keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self._values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.layers)]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(t.numel() * t.element_size() for t in (*self._keys, *self._values))

    def frames(self, row: int) -> int:
        """Return the number of memory frames of a row, the temporary one not counted."""
        return len(self._rows[row].places)

    def add_rows(self, count: int) -> None:
        """Add empty rows; the existing ones keep their contents."""
        self._reallocate(rows=len(self._rows) + count, room=self._room)
        self._rows += [_Row() for _ in range(count)]

    def remove_row(self, row: int) -> None:
        """Drop a row; the rows behind it move up."""
        self._reallocate(rows=len(self._rows) - 1, room=self._room, without=row)
        del self._rows[row]

    def append(self, rows: range, *, first_source: int = 0, pinned: Collection[int] = ()) -> list[Spot]:
        """Return where the newest memory frame of these rows goes.

        A full row gives up its oldest unpinned one but the first. Row rows[i] takes entry first_source + i. pinned:
        rows that keep it longest. Where every place but the first is pinned, an unpinned frame becomes the temporary
        memory instead. The bank counts the spots as filled, here and in the next two methods: `writer` must fill them
        before anything is read.
        """
        spots = []
        for source, row in enumerate(rows, first_source):
            state = self._rows[row]
            place = self._place_for(state, row in pinned)
            if place is None:
                spots += self.set_temporary(range(row, row + 1), first_source=source) if self._offset else []
                continue
            spots.append(Spot(source, row, self._offset + place))
            state.places.append(place)
            if row in pinned:
                state.pinned.add(place)
        return spots

    def set_first(self, row: int, source: int) -> list[Spot]:
        """Return where the frame goes that replaces a row's first memory frame; its temporary memory is forgotten."""
        state = self._rows[row]
        state.has_temporary = False
        return [Spot(source, row, self._offset + state.places[0])]

    def set_temporary(self, rows: range, *, first_source: int = 0) -> list[Spot]:
        """Return where the frame goes that is the temporary memory of these rows."""
        for row in rows:
            self._rows[row].has_temporary = True
        return [Spot(source, row, 0) for source, row in enumerate(rows, first_source)]

    def writer(self, spots: Collection[Spot]) -> KeepLayer:
        """Return the function that fills these spots with a layer's keys and values (n, A, P, D)."""

        blocks: list[tuple[Spot, int]] = []  # the first of neighbours that go to one place, and how many they are
        for spot in spots:
            if blocks:
                first, count = blocks[-1]
                if spot == Spot(first.source + count, first.row + count, first.place):
                    blocks[-1] = first, count + 1
                    continue
            blocks.append((spot, 1))

        def write(layer: int, keys: Tensor, values: Tensor) -> None:
            for bank, new in ((self._keys[layer], keys), (self._values[layer], values)):
                for first, count in blocks:
                    span = slice(first.place * self._tokens, (first.place + 1) * self._tokens)
                    bank[first.row : first.row + count, :, span].copy_(new[first.source : first.source + count])

        return write

    def view(self) -> MemoryView:
        """Return what each row holds, grouped where neighbouring rows are equally full. No copy is made."""
        spans = [self._span(row) for row in self._rows]
        groups: list[tuple[int, int]] = []
        for i, span in enumerate(spans):
            if groups and spans[groups[-1][0]] == span:
                groups[-1] = (groups[-1][0], i + 1)
            else:
                groups.append((i, i + 1))
        layers = []
        for keys, values in zip(self._keys, self._values):
            layer = []
            for a, b in groups:
                start, stop = spans[a]
                layer.append(LayerMemory(a, b, keys[a:b, :, start:stop], values[a:b, :, start:stop]))
            layers.append(tuple(layer))
        return MemoryView(tuple(layers), len(self._rows))

    def _span(self, row: _Row) -> tuple[int, int]:
        start = 0 if row.has_temporary else self._offset
        return start * self._tokens, (self._offset + len(row.places)) * self._tokens

    def _place_for(self, row: _Row, pinned: bool) -> int | None:
        """Return where a row's next memory frame goes, having forgotten the one it replaces; None if all are pinned."""
        count = len(row.places)
        if not self._capacity and self._offset + count == self._room:
            self._reallocate(rows=len(self._rows), room=self._room * 2)
        if not self._capacity or count < self._capacity:
            return count
        index = next((i for i in range(1, count) if row.places[i] not in row.pinned), None)
        if index is None:
            if not pinned:
                return None
            index = min(1, count - 1)
        return row.places.pop(index)

    def _reallocate(self, rows: int, room: int, *, without: int | None = None) -> None:
        """Make room for so many rows and frames; without: a row that is left out."""
        count = len(self._rows)
        first = slice(count if without is None else without)
        moved = () if without is None else ((slice(without, count - 1), slice(without + 1, count)),)
        # What was never written is not copied: the system lends memory when it is first touched.
        used = self._offset + max((place + 1 for row in self._rows for place in row.places), default=0)
        span = used * self._tokens
        try:
            for tensors in (self._keys, self._values):
                for layer, old in enumerate(tensors):
                    new = old.new_empty((rows, old.shape[1], room * self._tokens, old.shape[3]))
                    for into, out in ((first, first), *moved):
                        new[into, :, :span] = old[out, :, :span]
                    tensors[layer] = new
        except torch.AcceleratorError:  # a fault of the GPU or in what ran on it before, and a RuntimeError as well
            raise
        except RuntimeError as error:
            got = f"{rows} objects with room for {room} frames of {self._tokens} tokens"
            raise NoMemoryError(
                "no memory for the memory bank", got=got, hint="choose fewer memory frames, or a smaller size"
            ) from error
        self._room = room
