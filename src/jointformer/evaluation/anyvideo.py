"""Label anybody's video: a file or a folder of pictures, with masks of its objects on some frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from jointformer.data.export_video import overlay_writer
from jointformer.data.given_masks import GivenMasks
from jointformer.data.prefetch import prefetch
from jointformer.data.video import FolderVideo
from jointformer.data.video_file import VideoFile
from jointformer.data.writer import SCORES, ResultWriter
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.scale.budget import score_bytes
from jointformer.evaluation.scale.label import AHEAD, OnFrames, write_result
from jointformer.ops.drawing import OverlayStyle, overlay
from jointformer.system.stop import Interrupted, Stop, never
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


def frame_range(video: VideoFile | FolderVideo, start: int | None, end: int | None) -> tuple[int, int]:
    """Return (first frame, one past the last) of a part of the video. Raises ConfigError for an empty one."""
    first, stop = start or 0, len(video) if end is None else end + 1
    if not 0 <= first < stop <= len(video):
        expected = f"frame numbers from 0 to {len(video) - 1}, start first"
        raise ConfigError("--start/--end", where=video.path, expected=expected, got=f"{start}, {end}")
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
