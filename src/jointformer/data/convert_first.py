"""Full annotations -> first masks only: of each object the mask of the frame where it appears (LVOS, BURST)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jointformer.data.convert_jobs import Converted, run_jobs
from jointformer.data.frames import list_folder, list_pictures, list_subfolders
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import MASK_SUFFIXES, read_mask_file, resolve_void, without, write_mask
from jointformer.errors import ConfigError, DataError
from jointformer.ops.label_maps import object_ids
from jointformer.system.files import replace_dir


@dataclass(frozen=True)
class FirstMasksJob:
    """One video's masks -> the files in which an object appears first, with those objects alone."""

    source: Path
    target: Path

    @property
    def files(self) -> int:
        """How many masks the video has."""
        return len(list_folder(self.source))

    def run(self) -> None:
        """Writes `target`. Raises DataError for damaged masks and videos without objects."""
        files = list_pictures(self.source, MASK_SUFFIXES)
        colours = ColourTable.from_files(files)
        known: set[int] = set()
        lone = True
        with replace_dir(self.target) as folder:
            for path in files:
                mask = read_mask_file(path, colours if len(colours.ids) > 1 else None)
                # White alone is an object only where the video begins so (as for the readers of benchmarks).
                ids = resolve_void(mask.ids, lone_is_object=lone)
                new = without(ids, known)
                found = object_ids(new)
                if not found:
                    continue
                lone = lone and found == (255,)
                known |= set(found)
                write_mask(folder / f"{path.stem}.png", np.ascontiguousarray(new), mask.palette)
            if not known:
                raise DataError("none of the masks has an object", where=self.source)


def first_masks(source: Path, target: Path, *, workers: int = 1, progress: bool = False) -> Converted:
    """Writes `target`/<video>/ for every video folder in `source`; returns how many. Raises UserError."""
    videos = list_subfolders(source)
    if not videos:
        raise DataError("no videos", where=source, expected="a folder of masks per video")
    if source.resolve() == target.resolve():
        raise DataError("source and target are the same folder", where=source)
    if source.resolve() in target.resolve().parents:  # the next run would take it for one of the videos
        raise ConfigError("the result would lie inside the source", where=target, hint="choose a folder elsewhere")
    jobs = [FirstMasksJob(video, target / video.name) for video in videos]
    return run_jobs(jobs, workers=workers, progress=progress)
