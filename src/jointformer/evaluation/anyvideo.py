"""Label anybody's video: a file or a folder of pictures, with masks of its objects on some frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from jointformer.data.export_video import overlay_writer
from jointformer.data.frames import list_pictures, natural_key
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import (
    MASK_SUFFIXES,
    MaskFile,
    lone_255_is_object,
    read_mask_file,
    resolve_void,
    say_if_void,
)
from jointformer.data.prefetch import prefetch
from jointformer.data.video import FolderVideo
from jointformer.data.video_file import VideoFile
from jointformer.data.writer import SCORES, ResultWriter
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.scale.budget import score_bytes
from jointformer.evaluation.scale.label import AHEAD, OnFrames, write_result
from jointformer.ops.drawing import OverlayStyle, overlay
from jointformer.ops.label_maps import object_ids
from jointformer.ops.palette import with_colours
from jointformer.system.stop import Interrupted, Stop, never
from jointformer.track.frames import MasksLike
from jointformer.track.loop import BadFramePolicy, Steps, Stopwatch, iter_segmentations
from jointformer.types import UInt8Array

MASKS = "masks"
OVERLAY = "overlay.mp4"
#: What an overlay's encoder takes, per pixel of a frame and besides; noise took 132 a pixel at 854x480 on two cores.
_ENCODER_PER_PIXEL, _ENCODER = 140, 6 << 20


def overlay_bytes(size: tuple[int, int]) -> int:
    """Return the bytes that writing an overlay of (H, W) takes, for a memory plan."""
    return size[0] * size[1] * _ENCODER_PER_PIXEL + _ENCODER


def writing_bytes(size: tuple[int, int], objects: int, *, overlay: bool, scores: bool) -> int:
    """Return the bytes that writing results of (H, W) takes beside the masks, for a memory plan."""
    return overlay_bytes(size) * overlay + score_bytes(size, objects) * scores


@dataclass(frozen=True)
class GivenMasks:
    """Masks given by a person: {frame index: file}, read alike so that a colour is one id in all of them."""

    files: Mapping[int, Path]
    colours: ColourTable | None

    @property
    def first(self) -> int:
        """The index of the first frame with a mask."""
        return min(self.files)

    @cached_property
    def lone_255_is_object(self) -> bool:
        """Whether 255 standing alone is an object: where it does so in the first mask. Raises DataError."""
        return lone_255_is_object([read_mask_file(self.files[self.first], self.colours).ids])

    def read(self, index: int) -> MaskFile:
        """Return the mask of a frame, 255 taken as void where it is no object. Raises DataError for a damaged file."""
        mask = read_mask_file(self.files[index], self.colours)
        ids = resolve_void(mask.ids, lone_is_object=self.lone_255_is_object)
        return MaskFile(ids, mask.palette)  # type: ignore[arg-type]

    @property
    def palette(self) -> UInt8Array:
        """The (256, 3) colours of the first mask, DAVIS's where it has none. Raises DataError."""
        return with_colours(self.read(self.first).palette)

    def at(self, index: int, known: tuple[int, ...]) -> MasksLike | None:
        """Return what is given at a frame, None where nothing is (see `MasksAt`); masks of known ids correct them."""
        label_map = self.read(index).ids if index in self.files else None
        return label_map if label_map is not None and label_map.any() else None

    def count(self) -> int:
        """Return how many objects the masks name together."""
        return len({i for index in self.files for i in object_ids(self.read(index).ids)})


def find_masks(path: str | Path, video: VideoFile | FolderVideo, start: int, end: int) -> GivenMasks:
    """Return the masks of a video: one file for frame `start`, or a folder of files named after frames.

    A name in a folder is a frame's name or its number from 0. Raises DataError for missing or empty folders, names
    that are no frame's, masks of another size than the frames, and masks that name no object.
    """
    names = {video.name(i): i for i in range(len(video))}
    return masks_by_frame(Path(path), video.size, range(start, end), names, len(video))


def masks_by_frame(
    path: Path, size: tuple[int, int], wanted: range, names: Mapping[str, int], length: int
) -> GivenMasks:
    """Return the masks of the wanted frames out of `length`; names: {a frame's name: its index}. See `find_masks`."""
    files = _folder_masks(path, wanted, names, length) if path.is_dir() else {wanted.start: path}
    if not path.exists():
        raise DataError("no such mask file or folder", where=path, expected="a PNG of object ids, or a folder of them")
    colours = ColourTable.from_files(files.values())
    masks = GivenMasks(files, colours if len(colours.ids) > 1 else None)
    objects: set[int] = set()
    for index, file in sorted(files.items()):
        ids = masks.read(index).ids
        found = object_ids(ids)
        objects.update(found)
        if ids.shape != size:
            raise DataError(
                "mask of another size than its frame",
                where=file,
                expected=f"{size[1]}×{size[0]}",
                got=f"{ids.shape[1]}×{ids.shape[0]}",
            )
        if index == masks.first and not found:
            raise DataError("the mask has no object", where=file, expected="at least one pixel above 0")
    say_if_void(objects)
    return masks


def _folder_masks(folder: Path, wanted: range, names: Mapping[str, int], length: int) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in list_pictures(folder):
        if file.suffix.lower() not in MASK_SUFFIXES:
            raise DataError("masks must keep exact values", where=file, expected="PNG files", got=file.suffix)
        index = names.get(file.stem)
        if index is None and file.stem.isdecimal():
            index = int(file.stem)
        if index is None or index >= length:
            raise DataError(
                "no frame has this name", where=file, expected=f"a frame's name or a number from 0 to {length - 1}"
            )
        if index in found:
            raise DataError("two masks for one frame", where=file, got=f"{found[index].name} too")
        if index in wanted:
            found[index] = file
    if not found:
        ends = {index: name for name, index in names.items() if index in (wanted.start, wanted.stop - 1)}
        first, last = (ends.get(index, str(index)) for index in (wanted.start, wanted.stop - 1))
        raise DataError(
            "holds no mask of the frames to be tracked",
            where=folder,
            expected=f"PNG files named after frames {first} to {last}",
        )
    return dict(sorted(found.items(), key=lambda item: natural_key(item[1].name)))


def frame_range(video: VideoFile | FolderVideo, start: int | None, end: int | None) -> tuple[int, int]:
    """Return (first frame, one past the last) of a part of the video. Raises ConfigError for an empty one."""
    first, stop = start or 0, len(video) if end is None else end + 1
    if not 0 <= first < stop <= len(video):
        raise ConfigError(
            "--start/--end", expected=f"frame numbers from 0 to {len(video) - 1}, start first", got=f"{start}, {end}"
        )
    return first, stop


def label_any_video(
    tracker: Steps,
    video: VideoFile | FolderVideo,
    masks: GivenMasks,
    output: Path,
    *,
    end: int,
    write_masks: bool = True,
    write_overlay: bool = True,
    save_scores: bool = False,
    style: OverlayStyle = "fill",
    on_bad_frame: BadFramePolicy = "stop",
    progress: bool = True,
    on_frames: OnFrames = lambda n: None,
    stop: Stop = never,
) -> Stopwatch:
    """Track from the first mask to frame `end` (excluded); write output/masks/*.png and output/overlay.mp4.

    Later masks bring new objects and correct known ones. The results appear under their names when they are whole.
    save_scores: with the masks, write each object's probabilities to output/Scores/masks/*.npz (see `write_scores`).
    on_bad_frame: see `iter_segmentations`; in the overlay the picture before stands for a held frame. stop: asked after
    each frame; then nothing of the video stays and Interrupted is raised.
    Returns the time spent in the model. Raises DataError for damaged frames, OutputError where nothing can be written.
    """
    watch = Stopwatch()
    start = masks.first
    palette = masks.palette

    def frames() -> Iterator[tuple[int, UInt8Array | DataError]]:  # which can be closed, as no enumerate can
        yield from enumerate(video.iter_readable(start, end), start)

    with ExitStack() as stack:
        pictures = films = None
        if write_masks:
            scores = output / SCORES if save_scores else None
            pictures = stack.enter_context(ResultWriter(output, MASKS, palette, scores_root=scores))
        if write_overlay:
            films = stack.enter_context(overlay_writer(video, range(start, end), output / OVERLAY))
        # The overlay shows each picture together with its labels, so the frames are kept until their result is there.
        shown: dict[int, UInt8Array] = {}
        frame: UInt8Array | None = None

        def remembered() -> Iterator[tuple[int, UInt8Array | DataError]]:
            for index, picture in prefetch(frames(), AHEAD):
                if not isinstance(picture, DataError):
                    shown[index] = picture
                yield index, picture

        results = iter_segmentations(
            tracker, remembered(), masks.at, last=end - 1, watch=watch, on_bad_frame=on_bad_frame, ahead=True
        )
        bar = stack.enter_context(tqdm(results, total=end - start, unit="frame", disable=not progress))
        for index, result in bar:
            frame = shown.pop(index, frame)
            if pictures is not None:
                write_result(pictures, video.name(index), result)
            if films is not None and frame is not None:
                drawn = overlay(frame, result.label_map, style=style, palette=palette)
                films.write(drawn, video.time(index) - video.time(start))
            on_frames(1)
            if stop():
                raise Interrupted
    return watch
