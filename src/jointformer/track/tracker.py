"""The tracker: one frame in, one segmentation out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from jointformer.errors import DataError, UserError
from jointformer.model.device import gpu_memory
from jointformer.model.network import JointFormer, require_network
from jointformer.ops.resize import network_size
from jointformer.track.config import TrackerConfig, require_config
from jointformer.track.engine import Engine
from jointformer.track.frames import (
    FrameLike,
    MasksLike,
    empty_mask,
    frame_size,
    masks_by_id,
    prepare_frame,
    prepare_masks,
)
from jointformer.track.segmentation import Segmentation
from jointformer.types import Mask, pixels_text

#: What to do where a GPU has no memory left for a step.
LESS_MEMORY = "fewer objects at a time (--objects-per-pass 1), fewer memory frames or a smaller size take less"


class Tracker:
    """Labels a video frame by frame, remembering each object's looks in a memory of bounded size.

    Objects may appear at any step, may be removed, and a mask given for a known object corrects it. PyTorch's
    inference mode is the tracker's own business.

        tracker = Tracker(load_model("tiny"))
        first = tracker.step(frames[0], masks=label_map)
        for frame in frames[1:]:
            labels = tracker.step(frame).label_map

    model: a network, as `load_model` returns one; trackers may share it. config: how it tracks (None: the defaults).
    Raises ConfigError for what is neither.
    """

    def __init__(self, model: JointFormer, config: TrackerConfig | None = None) -> None:
        require_network(model)
        self.model = model
        self.config = require_config(config)
        self._engine = Engine(model, self.config)
        self._ids: list[int] = []
        self._size: tuple[int, int] | None = None
        self._changing = False
        self._ended = False

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects being tracked, in order of appearance."""
        return tuple(self._ids)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @property
    def memory_nbytes(self) -> int:
        """Bytes that the memory bank has allocated."""
        return 0 if self._engine.bank is None else self._engine.bank.nbytes

    @gpu_memory(LESS_MEMORY)
    def step(
        self,
        frame: FrameLike,
        masks: MasksLike | None = None,
        *,
        last: bool = False,
        pinned: Collection[int] | None = None,
    ) -> Segmentation:
        """Return the segmentation of the video's next frame.

        frame: uint8 (H, W, 3) RGB, a PIL image, or a float tensor (3, H, W) in [0, 1]; all frames of a video have one
        size. masks: objects that appear in this frame, and corrections of known ones, as a label map (H, W) of integers
        or {id: (H, W) mask}. An object is where its mask is True, an integer above 0 or a float above 0.5; threshold
        8-bit mattes yourself (`matte > 127`). In label maps 255 is an id like any other
        (`jointformer.data.masks.resolve_void` takes it out where it is void).
        last: no frame follows, which saves the work of remembering this one; any further call that needs the memory is
        refused. pinned: of the known objects with a mask, those whose memory of this frame is kept longest, as a user's
        corrections are (None: all); leave out what an earlier run has found, which must not displace them.

        Before the first mask there is nothing to track: the result has no objects and the frame is not counted.
        Raises DataError for what is no frame, another size than before, a frame too narrow for the settings' size, or
        unusable masks; then nothing has changed.
        What breaks off the network (an interrupt; no memory left, on a GPU a ConfigError) leaves half a step behind:
        UserError from then on, as after the last frame.
        """
        self._refuse_if_over()
        size = frame_size(frame)
        self._refuse_other_size(size)
        given = {} if masks is None else masks_by_id(masks, *size)
        added = {i: mask for i, mask in given.items() if i not in self._ids}
        for i, mask in added.items():
            if not mask.any():
                raise empty_mask(i, masks)
        h, w = network_size(*size, self.config.size)
        if not self._ids and not added:
            self._ended = last
            nothing = torch.ones((1, h, w), dtype=torch.float32, device=self.model.device)
            return Segmentation((), nothing, size)
        prepared = prepare_frame(frame, self.config.size, self.model.device)
        corrections = {
            self._ids.index(i): self._resized({i: mask}, h, w)[0] for i, mask in given.items() if i in self._ids
        }
        new_masks = self._resized(added, h, w) if added else None
        rows = None if pinned is None else [self._ids.index(i) for i in pinned if i in given and i in self._ids]
        with self._change():
            prob = self._engine.step(prepared, corrections=corrections, new_masks=new_masks, pinned=rows, last=last)
            self._size = size
            self._ids += added
            self._ended = last
        return Segmentation(tuple(self._ids), prob, size)

    @gpu_memory(LESS_MEMORY)
    def add_memory(self, frame: FrameLike, masks: MasksLike) -> None:
        """Remember known objects' looks in a frame from elsewhere in the video, without stepping.

        The frame is kept longest of all memory frames but the first, in whose place it comes where there is room for
        one only. frame, masks: as of `step`. Raises DataError before the first step with masks, for objects not yet
        tracked, and for what `step` refuses, such as a frame of another size; then nothing has changed. Raises
        UserError where `step` does.
        """
        self._refuse_if_over()
        size = frame_size(frame)
        if self._size is None:
            raise DataError("nothing is tracked yet", hint="step once with masks before add_memory")
        self._refuse_other_size(size)
        given = masks_by_id(masks, *size)
        unknown = [i for i in given if i not in self._ids]
        if unknown:
            what = f"objects {unknown} are not tracked yet"
            raise DataError(what, expected=f"ids of {self._ids}", hint="step with them first")
        h, w = network_size(*size, self.config.size)
        prepared = prepare_frame(frame, self.config.size, self.model.device)
        resized = self._resized(given, h, w)
        with self._change():
            self._engine.add_memory(prepared, resized, [self._ids.index(i) for i in given])

    @gpu_memory(LESS_MEMORY)
    def remove_object(self, object_id: int) -> None:
        """Stop tracking an object; its id may be used again later.

        Raises DataError for an id that is not tracked, UserError where `step` does.
        """
        self._refuse_if_over()
        if object_id not in self._ids:
            raise DataError(f"object {object_id} is not tracked", expected=f"one of {self._ids}")
        row = self._ids.index(object_id)
        with self._change():
            self._engine.remove(row)
            del self._ids[row]

    def _refuse_other_size(self, size: tuple[int, int]) -> None:
        """Raise DataError for a frame (H, W) of another size than the video's, where that is known."""
        if self._size is not None and size != self._size:
            raise DataError(
                "frame size changed within the video",
                expected=pixels_text(self._size),
                got=pixels_text(size),
                hint="use a new Tracker for another video, or resize the frames",
            )

    def _refuse_if_over(self) -> None:
        """Raise UserError where what is remembered is not up to the last step."""
        if self._changing:
            raise UserError(
                "an earlier step of this tracker broke off, or another thread is within one",
                hint="what it remembers is incomplete: use a new Tracker",
            )
        if self._ended:
            raise UserError(
                "the video was ended: its last step had last=True and was not remembered", hint="use a new Tracker"
            )

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Run a change of what is remembered; one that breaks off is remembered as unfinished."""
        self._refuse_if_over()  # another thread may have begun one since
        self._changing = True
        yield
        self._changing = False

    def _resized(self, masks: dict[int, Mask], h: int, w: int) -> torch.Tensor:
        return prepare_masks(masks, h, w, self.model.device)
