"""The benchmarks as rows of a table: where their files lie, what is read and what is saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from jointformer.data.sources import MasksRead
from jointformer.errors import ConfigError

#: "all" frames, or those that YouTube-VOS's, LVOS's or BURST's json names.
Saved = Literal["all", "youtube", "lvos", "burst"]


@dataclass(frozen=True)
class Benchmark:
    """One row: paths are below the data root, alternatives in order of preference.

    `video_list`: the file that lists the videos; None: every folder of frames is a video (which
    `metas`, where given, must name). `first_frame_given`: the first frame must have a mask.
    `zip_holds`: what the submission server's zip has at its root ("" where no zip is made): Annotations, the videos'
    folders, or val.json with polygons in the place of masks, for which `mapping` names the objects.
    `server`: where results are sent, if not to what scored the published ones.
    `size_from`: the folder of frames whose size masks have and results get, where it is not the frames' own.
    """

    key: str
    split: str
    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    download: str
    video_list: str | None = None
    metas: tuple[str, ...] = ()
    masks_read: MasksRead = "first"
    saved: Saved = "all"
    first_frame_given: bool = True
    output_folder: Literal["", "Annotations"] = ""
    zip_holds: Literal["", "Annotations", "videos", "val.json"] = ""
    mapping: str | None = None
    server: str | None = None
    size_from: str | None = None

    @property
    def zip_folder(self) -> str:
        """The folder of the server's zip that holds the videos' folders; "" where these are at its root."""
        return "Annotations" if self.zip_holds == "Annotations" else ""

    @property
    def zips_masks(self) -> bool:
        """Whether the server's zip holds masks as they are."""
        return self.zip_holds in ("Annotations", "videos")

    def zips_run(self, save_all: bool) -> bool:
        """Whether a run's masks become the server's zip; of all frames `submit pack` chooses those that it wants."""
        return self.zips_masks and not (save_all and self.saved != "all")


_DAVIS = "https://davischallenge.org/davis2017/code.html"
_YOUTUBE = "https://youtube-vos.org/dataset/vos/"
_MOSE = "https://henghuiding.github.io/MOSE/"
_LVOS = "https://lingyihongfd.github.io/lvos.github.io/dataset.html"
_BURST = "https://github.com/Ali2500/BURST-benchmark"


def _davis17(split: str, folder: str, list_name: str) -> Benchmark:
    base = f"DAVIS/2017/{folder}"
    return Benchmark(
        key="D17",
        split=split,
        name=f"DAVIS 2017 {list_name}",
        images=(f"{base}/JPEGImages/480p",),
        masks=(f"{base}/Annotations/480p",),
        video_list=f"{base}/ImageSets/2017/{list_name}.txt",
        zip_holds="videos" if split == "test" else "",
        download=_DAVIS,
    )


def _youtube(year: int, split: str, folder: str) -> Benchmark:
    base = f"YouTubeVOS-{year}"
    return Benchmark(
        key=f"Y{year % 100}",
        split=split,
        name=f"YouTube-VOS {year} {split}",
        images=(f"{base}/all_frames/{folder}_all_frames/JPEGImages", f"{base}/{folder}/JPEGImages"),
        masks=(f"{base}/{folder}/Annotations",),
        metas=(f"{base}/{folder}/meta.json",),
        masks_read="new_objects",
        saved="youtube",
        first_frame_given=False,
        output_folder="Annotations",
        zip_holds="Annotations",
        download=_YOUTUBE,
    )


def _mose(split: str, folder: str) -> Benchmark:
    return Benchmark(
        key="MOSE",
        split=split,
        name=f"MOSE {split}",
        images=(f"MOSE/{folder}/JPEGImages",),
        masks=(f"MOSE/{folder}/Annotations",),
        zip_holds="videos",
        download=_MOSE,
    )


def _lvos(split: str, folder: str, masks: str) -> Benchmark:
    return Benchmark(
        key="LVOS",
        split=split,
        name=f"LVOS {split}",
        images=(f"LVOS/{folder}/JPEGImages",),
        masks=(f"LVOS/{folder}/{masks}",),
        metas=(f"LVOS/{folder}/{folder}_meta.json", f"LVOS/{folder}_meta.json"),
        masks_read="new_objects",
        saved="lvos",
        first_frame_given=False,
        output_folder="Annotations",
        zip_holds="Annotations",
        download=_LVOS,
    )


def burst_places(split: str) -> tuple[str, ...]:
    """Where a split's json may lie, by people's habits in unpacking it: folders below BURST's own, in order."""
    return split, f"annotations/{split}", f"{split}/annotations", "annotations"


def _burst(split: str) -> Benchmark:
    return Benchmark(
        key="BURST",
        split=split,
        name=f"BURST {split}",
        images=(f"BURST/{split}/JPEGImages",),
        masks=(f"BURST/{split}/Annotations_first_only",),
        metas=tuple(f"BURST/{place}/first_frame_annotations.json" for place in burst_places(split)),
        masks_read="new_objects",
        saved="burst",
        first_frame_given=False,
        output_folder="Annotations",
        zip_holds="Annotations",
        download=_BURST,
    )


_D16 = Benchmark(
    key="D16",
    split="val",
    name="DAVIS 2016 val",
    images=("DAVIS/2016/JPEGImages/480p",),
    masks=("DAVIS/2016/Annotations/480p",),
    video_list="DAVIS/2017/trainval/ImageSets/2016/val.txt",
    download="https://davischallenge.org/davis2016/code.html",
)
_VOST = Benchmark(
    key="VOST",
    split="val",
    name="VOST val",
    images=("VOST/JPEGImages",),
    masks=("VOST/Annotations",),
    video_list="VOST/ImageSets/val.txt",
    download="https://www.vostdataset.org/data.html",
)
_VISOR = Benchmark(
    key="VISOR",
    split="val",
    name="VISOR val",
    images=("VISOR/JPEGImages/480p",),
    masks=("VISOR/Annotations/480p",),
    video_list="VISOR/ImageSets/2022/val.txt",
    zip_holds="val.json",
    mapping="VISOR/val_data_mapping.json",
    download="https://epic-kitchens.github.io/VISOR/",
    server="https://codalab.lisn.upsaclay.fr/competitions/9767",  # its published row names the toolkit
)
_GENERIC = Benchmark(
    key="G",
    split="val",
    name="generic folders",
    images=("JPEGImages",),
    masks=("Annotations",),
    first_frame_given=False,
    download="",
)

#: Every benchmark by (key, split).
BENCHMARKS: dict[tuple[str, str], Benchmark] = {
    (row.key, row.split): row
    for row in (
        _D16,
        _davis17("val", "trainval", "val"),
        _davis17("test", "test-dev", "test-dev"),
        _youtube(2018, "val", "valid"),
        _youtube(2018, "test", "test"),
        _youtube(2019, "val", "valid"),
        _youtube(2019, "test", "test"),
        _VOST,
        _mose("val", "valid"),
        _mose("test", "test"),
        _VISOR,
        _lvos("val", "valid", "Annotations_first_only"),
        _lvos("test", "test", "Annotations"),
        _burst("val"),
        _burst("test"),
        _GENERIC,
        replace(_GENERIC, split="test"),
    )
}


def find_benchmark(key: str, split: str) -> Benchmark:
    """The row of a benchmark. Raises `ConfigError` for an unknown key or split."""
    if (key, split) in BENCHMARKS:
        return BENCHMARKS[key, split]
    keys = list(dict.fromkeys(known for known, _ in BENCHMARKS))
    if key not in keys:
        near = _keys_of(key) or get_close_matches(key.upper(), keys, 1, 0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else None
        raise ConfigError("unknown dataset", expected=f"one of {', '.join(keys)}", got=repr(key), hint=hint)
    splits = [s for k, s in BENCHMARKS if k == key]
    raise ConfigError(f"dataset {key} has no such split", expected=" or ".join(splits), got=repr(split))


def _keys_of(word: str) -> list[str]:
    """The keys of the benchmarks whose name begins with a word, as people write it: `youtubevos`, `davis`."""
    begin = _letters(word)
    return list(dict.fromkeys(row.key for row in BENCHMARKS.values() if begin and _letters(row.name).startswith(begin)))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def full_resolution(row: Benchmark) -> Benchmark:
    """The DAVIS row that reads full-resolution frames with the 480p masks and saves at the size of the 480p frames."""
    (images,) = row.images
    folders = ("Full-Resolution", "1080p")
    return replace(row, images=tuple(images.replace("480p", folder) for folder in folders), size_from=images)
