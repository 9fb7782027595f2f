"""Bad inputs and how to make them: every case is a command line that must end in one clear sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from jointformer.data.masks import write_mask
from jointformer.data.video_writer import VideoWriter
from trees import HEIGHT, WIDTH, draw_frame, draw_ids, make_tree


class Bench:
    """A folder with a generic tree of one video, a picture folder, mini weights, and commands over them."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.root = root
        self.weights = weights
        self.out = root / "out"
        self.images, self.masks = root / "data/JPEGImages/cat", root / "data/Annotations/cat"
        for folder in (self.images, self.masks):
            folder.mkdir(parents=True)
        for step in range(3):
            Image.fromarray(draw_frame(step)).save(self.images / f"{step:05d}.jpg", quality=95)
        self.mask = self.masks / "00000.png"
        write_mask(self.mask, draw_ids((1, 3), 0))

    def evaluate(self, *more: str) -> list[str]:
        """Return an evaluation of the generic tree."""
        start = ["evaluate", "--dataset", "G", "--generic-path", str(self.root / "data")]
        return [*start, *self.common("--sizes", "-1"), *more]

    def benchmark(self, key: str, split: str = "val", *more: str) -> list[str]:
        """Return an evaluation of a benchmark in the folder `bench`."""
        start = ["evaluate", "--dataset", key, "--split", split, "--data-root", str(self.root / "bench")]
        return [*start, *self.common("--sizes", "24"), *more]

    def track(self, video: Path | None = None, masks: Path | None = None, *more: str) -> list[str]:
        """Return a tracking of the pictures."""
        start = ["track", str(video or self.images), "--masks", str(masks or self.mask), "--no-overlay"]
        return [*start, *self.common("--size", "-1"), *more]

    def model(self, path: Path) -> list[str]:
        """Return an evaluation with other weights."""
        return [*self.evaluate(), "--model", str(path)]

    def common(self, *more: str) -> list[str]:
        """Return the flags of all runs."""
        flags = ["--model", str(self.weights), "-o", str(self.out), "--precision", "float32", "--device", "cpu"]
        return [*flags, "--quiet", *more]

    def tree(self, key: str, split: str = "val") -> Path:
        """Return the root of a benchmark's tiny tree."""
        return make_tree(self.root / "bench", key, split).root

    def write(self, name: str, data: bytes | str) -> Path:
        """Return the path of a file with this content."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path


@dataclass(frozen=True)
class Case:
    """A bad input: its group and name, what to run. loose: the sentence quotes a library, whose words may change."""

    group: str
    name: str
    make: Callable[[Bench], list[str]]
    loose: bool = False
    code: int = 2


CASES: list[Case] = []
Make = Callable[[Bench], list[str]]


def case(group: str, name: str, *, loose: bool = False, code: int = 2) -> Callable[[Make], Make]:
    """Return a decorator that enters a case into the table."""

    def enter(make: Make) -> Make:
        CASES.append(Case(group, name, make, loose, code))
        return make

    return enter


def flags(name: str, *more: str) -> None:
    """Enter a case that is wrong in its flags alone."""
    CASES.append(Case("Settings", name, lambda bench: bench.evaluate(*more)))


flags("an unknown dataset", "--dataset", "D18")
flags("a split that the dataset does not have", "--dataset", "D17", "--split", "train")
flags("k below 1", "--topk", "-3")
flags("a size too small for the network", "--sizes", "5")
flags("sizes that are not numbers", "--sizes", "480,x")
flags("a number that is none", "--topk", "sixty")
flags("a misspelt flag", "--top-k", "60")
flags("memory below 0", "--max-memory-frames", "-1")
flags("memory every 0 steps", "--memory-every", "0")
flags("0 objects per pass", "--objects-per-pass", "0")
flags("an unknown device", "--device", "tpu")
flags("an unknown precision", "--precision", "int8")
flags("misspelt weights", "--model", "s0123")
flags("a network in the place of its weights", "--model", "base")
flags("a video that is not there", "--videos", "dog")
flags("a preset of unpublished data", "--preset")
flags("0 processes", "--workers", "0")
flags("0 threads", "--threads", "0")
flags("one of several GPUs with Ray, which hands them out", "--ray", "auto", "--devices", "cuda:1")
flags("part 5 of 4", "--shard", "5/4")
flags("a part that is not a fraction", "--shard", "first")
flags("overwriting in a run of several parts", "--shard", "1/2", "--overwrite")
flags("an unknown policy for bad frames", "--on-bad-frame", "pray")
flags("a memory budget that is not a size", "--memory-budget", "lots")
flags("a memory budget that cannot hold the program", "--memory-budget", "100MB")
flags("a memory budget with Ray, without a number of actors", "--ray", "auto", "--memory-budget", "2GB")


@case("Settings", "no dataset")
def _(bench: Bench) -> list[str]:
    return ["evaluate", *bench.common()]


@case("Settings", "scores per video of BURST, whose measure has none")
def _(bench: Bench) -> list[str]:
    return ["score", "burst", "--annotations", str(bench.masks), "--predictions", str(bench.masks), "--per-video"]


@case("Settings", "training at an infinite learning rate")
def _(bench: Bench) -> list[str]:
    return ["train", "--stages", "2", "--lr", "inf", "--data-root", str(bench.root), "--out", str(bench.out)]


@case("Output folders", "results of other settings in the folder")
def _(bench: Bench) -> list[str]:
    from jointformer.cli.main import main

    assert main(bench.evaluate("--topk", "9")) == 0
    return bench.evaluate("--topk", "10")


@case("Output folders", "results of another input in the folder")
def _(bench: Bench) -> list[str]:
    from jointformer.cli.main import main

    assert main(bench.evaluate()) == 0
    (bench.images / "00002.jpg").unlink()
    return bench.evaluate()


@case("Output folders", "masks of another program in the folder")
def _(bench: Bench) -> list[str]:
    bench.write("out/cat/00000.png", bench.mask.read_bytes())
    return bench.evaluate()


def _called(bench: Bench, name: str, *more: str) -> list[str]:
    """Return an evaluation of the video under another name."""
    for folder in (bench.images, bench.masks):
        folder.rename(folder.parent / name)
    return bench.evaluate(*more)


@case("Output folders", "a video with the name of the folder of scores")
def _(bench: Bench) -> list[str]:
    return _called(bench, "scores", "--save-scores")


@case("Output folders", "a video with the name of the run's manifest")
def _(bench: Bench) -> list[str]:
    return _called(bench, "run.json")


@case("Output folders", "frames where results would be overwritten")
def _(bench: Bench) -> list[str]:
    return bench.evaluate("-o", str(bench.images.parent), "--overwrite")


@case("Output folders", "a damaged run.json", loose=True)
def _(bench: Bench) -> list[str]:
    bench.write("out/run.json", "{")
    return bench.evaluate()


@case("Output folders", "a run.json nested without end", loose=True)
def _(bench: Bench) -> list[str]:
    bench.write("out/run.json", "[" * 100_000)
    return bench.evaluate()


@case("Output folders", "merging a folder that is not there")
def _(bench: Bench) -> list[str]:
    return ["evaluate", "--merge", str(bench.out)]


@case("Output folders", "merging a folder that holds no run")
def _(bench: Bench) -> list[str]:
    bench.out.mkdir()
    return ["evaluate", "--merge", str(bench.out)]


@case("Output folders", "merging and tracking in one command")
def _(bench: Bench) -> list[str]:
    return ["evaluate", "--merge", str(bench.out), "--shard", "1/2"]


@case("Output folders", "a file where the folder should be")
def _(bench: Bench) -> list[str]:
    bench.write("out", "")
    return bench.evaluate()


@case("Output folders", "a video whose name is a path on other systems")
def _(bench: Bench) -> list[str]:
    for folder in (bench.images, bench.masks):
        folder.rename(folder.with_name("black\\cat"))
    return bench.evaluate()


@case("Output folders", "a file where a video's folder should be")
def _(bench: Bench) -> list[str]:
    bench.write("out/cat", "")
    return bench.evaluate()


@case("Output folders", "a file above the folder")
def _(bench: Bench) -> list[str]:
    bench.write("out", "")
    return [*bench.evaluate(), "-o", str(bench.out / "run")]


@case("Output folders", "a name longer than the file system takes")
def _(bench: Bench) -> list[str]:
    return [*bench.evaluate(), "-o", str(bench.root / ("long" * 80))]


@case("Output folders", "tracking into a folder with results")
def _(bench: Bench) -> list[str]:
    (bench.out / "masks").mkdir(parents=True)
    return bench.track()


@case("Output folders", "a link where the masks should be")
def _(bench: Bench) -> list[str]:
    bench.out.mkdir()
    (bench.out / "masks").symlink_to(bench.root / "elsewhere")
    return bench.track(None, None, "--overwrite")


@case("Output folders", "a pipe in place of a file of figures")
def _(bench: Bench) -> list[str]:
    os.mkfifo(bench.root / "figures.json")
    read = ["--annotations", str(bench.masks.parent), "--predictions", str(bench.masks.parent)]
    return ["score", "generic", *read, "--json", str(bench.root / "figures.json")]


@case("Output folders", "results in the folder of the given masks")
def _(bench: Bench) -> list[str]:
    (bench.root / "masks").mkdir()
    mask = bench.mask.rename(bench.root / "masks/00000.png")
    return [*bench.track(None, mask.parent, "--overwrite"), "-o", str(bench.root)]


@case("Frames", "no such data folder")
def _(bench: Bench) -> list[str]:
    return [*bench.evaluate(), "--generic-path", str(bench.root / "nothing")]


@case("Frames", "a file as the data folder")
def _(bench: Bench) -> list[str]:
    return [*bench.evaluate(), "--generic-path", str(bench.mask)]


@case("Frames", "no folder of frames")
def _(bench: Bench) -> list[str]:
    (bench.root / "data/JPEGImages").rename(bench.root / "data/frames")
    return bench.evaluate()


@case("Frames", "pictures without a folder per video")
def _(bench: Bench) -> list[str]:
    for path in bench.images.iterdir():
        path.rename(bench.images.parent / path.name)
    bench.images.rmdir()
    return bench.evaluate()


@case("Frames", "a video without pictures")
def _(bench: Bench) -> list[str]:
    for path in bench.images.iterdir():
        path.unlink()
    return bench.evaluate()


@case("Frames", "an empty file")
def _(bench: Bench) -> list[str]:
    (bench.images / "00000.jpg").write_bytes(b"")
    return bench.evaluate()


@case("Frames", "a text with the name of a picture")
def _(bench: Bench) -> list[str]:
    (bench.images / "00000.jpg").write_text("not a picture at all")
    return bench.evaluate()


@case("Frames", "a picture cut off in the middle of the video", loose=True, code=1)
def _(bench: Bench) -> list[str]:
    path = bench.images / "00001.jpg"
    path.write_bytes(path.read_bytes()[:400])
    return bench.evaluate()


@case("Frames", "two pictures of one frame")
def _(bench: Bench) -> list[str]:
    Image.fromarray(draw_frame(1)).save(bench.images / "00001.png")
    return bench.evaluate()


@case("Frames", "a frame of another size", code=1)
def _(bench: Bench) -> list[str]:
    Image.fromarray(draw_frame(1, 2)).save(bench.images / "00001.jpg")
    return bench.evaluate()


@case("Frames", "floating-point pixels", code=1)
def _(bench: Bench) -> list[str]:
    (bench.images / "00001.jpg").unlink()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(bench.images / "00001.tiff")
    return bench.evaluate()


@case("Frames", "32-bit pixels", code=1)
def _(bench: Bench) -> list[str]:
    (bench.images / "00001.jpg").unlink()
    Image.fromarray(np.full((HEIGHT, WIDTH), 70_000, np.int32)).save(bench.images / "00001.tiff")
    return bench.evaluate()


@case("Frames", "frames of one row", code=1)
def _(bench: Bench) -> list[str]:
    for path in bench.images.iterdir():
        Image.new("RGB", (5000, 1)).save(path)
    Image.fromarray(np.ones((1, 5000), np.uint8)).save(bench.mask)
    return [*bench.evaluate(), "--sizes", "480"]


def _png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@case("Frames", "a picture that claims 60000 × 60000 pixels")
def _(bench: Bench) -> list[str]:
    (bench.images / "00000.jpg").unlink()
    (bench.images / "00000.png").write_bytes(_png_header(60_000, 60_000))
    return bench.evaluate()


@case("Masks", "no folder of masks")
def _(bench: Bench) -> list[str]:
    bench.masks.parent.rename(bench.root / "data/labels")
    return bench.evaluate()


@case("Masks", "no masks for a video")
def _(bench: Bench) -> list[str]:
    bench.masks.rename(bench.masks.parent / "dog")
    return bench.evaluate()


@case("Masks", "an empty folder")
def _(bench: Bench) -> list[str]:
    bench.mask.unlink()
    return bench.evaluate()


@case("Masks", "masks as JPEG")
def _(bench: Bench) -> list[str]:
    bench.mask.unlink()
    Image.fromarray(draw_ids((1,), 0)).save(bench.masks / "00000.jpg")
    return bench.evaluate()


@case("Masks", "a JPEG that is called PNG")
def _(bench: Bench) -> list[str]:
    Image.fromarray(draw_ids((1,), 0)).save(bench.mask, "JPEG")
    return bench.evaluate()


@case("Masks", "a mask that belongs to no frame")
def _(bench: Bench) -> list[str]:
    bench.mask.rename(bench.masks / "00009.png")
    return bench.evaluate()


@case("Masks", "another size than the frame")
def _(bench: Bench) -> list[str]:
    write_mask(bench.mask, draw_ids((1,), 0, 2))
    return bench.evaluate()


@case("Masks", "a mask without an object")
def _(bench: Bench) -> list[str]:
    write_mask(bench.mask, draw_ids((), 0))
    return bench.evaluate()


@case("Masks", "a mask that is cut off", loose=True)
def _(bench: Bench) -> list[str]:
    bench.mask.write_bytes(bench.mask.read_bytes()[:-60])
    return bench.evaluate()


@case("Masks", "an id above 255")
def _(bench: Bench) -> list[str]:
    Image.fromarray((draw_ids((1,), 0).astype(np.uint16)) * 300).save(bench.mask)
    return bench.evaluate()


@case("Masks", "floating-point pixels")
def _(bench: Bench) -> list[str]:
    bench.mask.unlink()
    Image.fromarray(draw_ids((1,), 0).astype(np.float32)).save(bench.masks / "00000.tiff")
    return bench.evaluate()


def _soft() -> np.ndarray:
    """Return a white square with soft edges."""
    soft = np.zeros((HEIGHT, WIDTH), np.uint8)
    for depth in range(6):
        soft[2 + depth : 22 - depth, 2 + depth : 30 - depth] = 51 * depth
    return soft


@case("Masks", "smoothed edges in grey")
def _(bench: Bench) -> list[str]:
    Image.fromarray(_soft()).save(bench.mask)
    return bench.evaluate()


@case("Masks", "smoothed edges in colour")
def _(bench: Bench) -> list[str]:
    soft = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    soft[..., 0] = np.arange(WIDTH) * 7
    soft[..., 1] = np.arange(HEIGHT)[:, None] * 9
    Image.fromarray(soft).save(bench.mask)
    return bench.evaluate()


@case("Benchmarks", "no meta.json")
def _(bench: Bench) -> list[str]:
    next(bench.tree("Y19").rglob("meta.json")).unlink()
    return bench.benchmark("Y19")


def _meta(bench: Bench, content: str) -> list[str]:
    next(bench.tree("Y19").rglob("meta.json")).write_text(content)
    return bench.benchmark("Y19")


@case("Benchmarks", "a meta.json that is cut off", loose=True)
def _(bench: Bench) -> list[str]:
    return _meta(bench, '{"videos": {')


@case("Benchmarks", "a meta.json of another kind")
def _(bench: Bench) -> list[str]:
    return _meta(bench, '{"videos": [1, 2]}')


@case("Benchmarks", "a meta.json nested without end")
def _(bench: Bench) -> list[str]:
    return _meta(bench, '{"videos":' + "[" * 100_000)


@case("Benchmarks", "a meta.json whose frames are numbers")
def _(bench: Bench) -> list[str]:
    return _meta(bench, json.dumps({"videos": {"0062f687f1": {"objects": {"1": {"frames": [1, 2]}}}}}))


@case("Benchmarks", "a meta.json that names a folder outside")
def _(bench: Bench) -> list[str]:
    return _meta(bench, json.dumps({"videos": {"../../secret": {"objects": {"1": {"frames": ["00000"]}}}}}))


@case("Benchmarks", "a meta.json that lacks a video")
def _(bench: Bench) -> list[str]:
    path = next(bench.tree("Y19").rglob("meta.json"))
    data = json.loads(path.read_text())
    data["videos"].popitem()
    path.write_text(json.dumps(data))
    return bench.benchmark("Y19")


@case("Benchmarks", "a frame to be saved is missing")
def _(bench: Bench) -> list[str]:
    root = bench.tree("Y19")
    next(root.rglob("JPEGImages/0062f687f1/00005.jpg")).unlink()
    return bench.benchmark("Y19")


@case("Benchmarks", "a list of videos is missing")
def _(bench: Bench) -> list[str]:
    next(bench.tree("VOST").rglob("val.txt")).unlink()
    return bench.benchmark("VOST")


@case("Benchmarks", "a list that leads out of the data")
def _(bench: Bench) -> list[str]:
    next(bench.tree("VOST").rglob("val.txt")).write_text("../../etc\n")
    return bench.benchmark("VOST")


@case("Benchmarks", "an empty list of videos")
def _(bench: Bench) -> list[str]:
    next(bench.tree("VOST").rglob("val.txt")).write_text("\n")
    return bench.benchmark("VOST")


@case("Benchmarks", "no mask for the first frame")
def _(bench: Bench) -> list[str]:
    root = bench.tree("MOSE")
    path = next(root.rglob("Annotations/0a1b2c3d/00000.png"))
    path.rename(path.parent / "00001.png")
    return bench.benchmark("MOSE")


@case("Benchmarks", "the wrong data folder")
def _(bench: Bench) -> list[str]:
    bench.tree("MOSE")
    return bench.benchmark("D17")


@case("Videos", "no such file")
def _(bench: Bench) -> list[str]:
    return bench.track(bench.root / "film.mp4")


@case("Videos", "a name longer than the file system takes")
def _(bench: Bench) -> list[str]:
    return bench.track(bench.root / ("long" * 80))


@case("Videos", "an empty file", loose=True)
def _(bench: Bench) -> list[str]:
    return bench.track(bench.write("film.mp4", b""))


@case("Videos", "a text with the name of a video", loose=True)
def _(bench: Bench) -> list[str]:
    return bench.track(bench.write("film.mp4", "not a video " * 50))


@case("Videos", "a picture as the video")
def _(bench: Bench) -> list[str]:
    return bench.track(bench.images / "00000.jpg")


@case("Videos", "a mask of another size")
def _(bench: Bench) -> list[str]:
    write_mask(bench.root / "mask.png", draw_ids((1,), 0, 2))
    return bench.track(None, bench.root / "mask.png")


@case("Videos", "an empty folder")
def _(bench: Bench) -> list[str]:
    (bench.root / "pictures").mkdir()
    return bench.track(bench.root / "pictures")


@case("Videos", "no such mask")
def _(bench: Bench) -> list[str]:
    return bench.track(None, bench.root / "mask.png")


@case("Videos", "a mask named after no frame")
def _(bench: Bench) -> list[str]:
    bench.mask.rename(bench.masks / "cat.png")
    return bench.track(None, bench.masks)


@case("Videos", "a part beyond the end")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--start", "2", "--end", "7")


@case("Videos", "a file as the folder of results")
def _(bench: Bench) -> list[str]:
    return [*bench.track(), "--output", "result.mp4"]


@case("Videos", "an unknown style")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--style", "neon")


@case("Videos", "a rate of 0")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--fps", "0")


@case("Videos", "one frame in three hours")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--fps", "0.0001")


@case("Videos", "a rate that is not a number")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--fps", "24/0")


@case("Videos", "a rate for a video that has one")
def _(bench: Bench) -> list[str]:
    with VideoWriter(bench.root / "film.mp4", Fraction(30000, 1001), (HEIGHT, WIDTH)) as video:
        video.write(draw_frame(0))
    return bench.track(bench.root / "film.mp4", None, "--fps", "24")


@case("Videos", "a picture that is cut off, without --on-bad-frame", loose=True)
def _(bench: Bench) -> list[str]:
    path = bench.images / "00001.jpg"
    path.write_bytes(path.read_bytes()[:400])
    return bench.track()


def _many(bench: Bench, *more: str) -> list[str]:
    """Return a tracking of every video in `videos`, with masks in `masks`."""
    (bench.root / "videos").mkdir(exist_ok=True)
    bench.images.rename(bench.root / "videos/cat")
    (bench.root / "masks").mkdir(exist_ok=True)
    command = ["track", str(bench.root / "videos"), "--masks", str(bench.root / "masks"), "--no-overlay"]
    return [*command, *bench.common("--size", "-1"), *more]


@case("Many videos", "no masks for any of them")
def _(bench: Bench) -> list[str]:
    return _many(bench)


@case("Many videos", "a damaged one among them", loose=True, code=1)
def _(bench: Bench) -> list[str]:
    command = _many(bench)
    for name in ("cat", "dog"):
        write_mask(bench.root / f"masks/{name}.png", draw_ids((1,), 0))
    bench.write("videos/dog.mp4", "not a video " * 50)
    return command


@case("Many videos", "masks of one video in two places")
def _(bench: Bench) -> list[str]:
    command = _many(bench)
    write_mask(bench.root / "masks/cat.png", draw_ids((1,), 0))
    write_mask(bench.root / "masks/cat/00000.png", draw_ids((1,), 0))
    return command


@case("Many videos", "two videos of one name")
def _(bench: Bench) -> list[str]:
    bench.write("videos/cat.mp4", "")
    return _many(bench)


@case("Many videos", "a video without a name")
def _(bench: Bench) -> list[str]:
    return ["track", str(bench.write("list.txt", "/\n")), *bench.common()]


@case("Many videos", "an empty list")
def _(bench: Bench) -> list[str]:
    return ["track", str(bench.write("list.txt", "\n")), *bench.common()]


@case("Many videos", "a list of three columns")
def _(bench: Bench) -> list[str]:
    return ["track", str(bench.write("list.txt", "cat.mp4\tcat.png\tmore\n")), *bench.common()]


@case("Many videos", "a list without masks")
def _(bench: Bench) -> list[str]:
    return ["track", str(bench.write("list.txt", "data/JPEGImages/cat\n")), *bench.common()]


@case("Many videos", "several processes for one video")
def _(bench: Bench) -> list[str]:
    return bench.track(None, None, "--workers", "2")


@case("Many videos", "a stream's flag for many")
def _(bench: Bench) -> list[str]:
    return _many(bench, "--queue", "3")


@case("Many videos", "a rate where every video has its own")
def _(bench: Bench) -> list[str]:
    with VideoWriter(bench.root / "dog.mp4", Fraction(30000, 1001), (HEIGHT, WIDTH)) as video:
        video.write(draw_frame(0))
    return ["track", str(bench.write("list.txt", f"dog.mp4\t{bench.mask}\n")), *bench.common(), "--fps", "10"]


@case("Weights", "a file of another kind", loose=True)
def _(bench: Bench) -> list[str]:
    return bench.model(bench.write("weights.pth", "hello " * 100))


@case("Weights", "a web page saved as weights")
def _(bench: Bench) -> list[str]:
    return bench.model(bench.write("weights.pth", "<!DOCTYPE html><html><body>Sign in</body></html>"))


@case("Weights", "a folder")
def _(bench: Bench) -> list[str]:
    return bench.model(bench.images)


@case("Weights", "a program in a pickle", loose=True)
def _(bench: Bench) -> list[str]:
    path = bench.root / "weights.pth"
    torch.save({"weight": _Program()}, path)
    return bench.model(path)


class _Program:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("this must never be printed",)


@case("Weights", "an old pickle without a zip", loose=True)
def _(bench: Bench) -> list[str]:
    buffer = io.BytesIO()
    pickle.dump({"weight": [1.0]}, buffer)
    return bench.model(bench.write("weights.pth", buffer.getvalue()))


@case("Weights", "ONNX files into a folder that holds something")
def _(bench: Bench) -> list[str]:
    return ["weights", "onnx", str(bench.weights), str(bench.images)]


@case("Weights", "ONNX files that keep more keys than a frame has")
def _(bench: Bench) -> list[str]:
    return ["weights", "onnx", str(bench.weights), str(bench.out), "--size", "96x160"]


@case("Weights", "safetensors that are cut off", loose=True)
def _(bench: Bench) -> list[str]:
    return bench.model(bench.write("weights.safetensors", bench.weights.read_bytes()[:-1000]))


@case("Weights", "safetensors with a header of terabytes", loose=True)
def _(bench: Bench) -> list[str]:
    return bench.model(bench.write("weights.safetensors", struct.pack("<Q", 1 << 42) + b"{}"))


@case("Weights", "a tensor is missing")
def _(bench: Bench) -> list[str]:
    state = safetensors.torch.load_file(bench.weights)
    del state["convmae.norm.weight"]
    path = bench.root / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    return bench.model(path)


@case("Weights", "NaN among the weights")
def _(bench: Bench) -> list[str]:
    state = safetensors.torch.load_file(bench.weights)
    state["convmae.norm.weight"][0] = float("nan")
    path = bench.root / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    return bench.model(path)


@case("Weights", "no such file")
def _(bench: Bench) -> list[str]:
    return bench.model(bench.root / "weights.safetensors")


def _annotated(bench: Bench, *annotations: dict[str, object], pictures: int = 1) -> list[str]:
    """Return the conversion of COCO annotations; ids of pictures begin at 1."""
    images = [{"id": k, "file_name": f"{k:05d}.jpg", "height": 20, "width": 30} for k in range(1, pictures + 1)]
    path = bench.write("coco.json", json.dumps({"images": images, "annotations": annotations}))
    return ["data", "masks", str(path), str(bench.out)]


def _outline(*points: float, picture: int = 1) -> dict[str, object]:
    return {"id": 1, "image_id": picture, "category_id": 1, "segmentation": [points]}


@case("Annotations and scores", "a json that holds no annotations")
def _(bench: Bench) -> list[str]:
    return ["data", "masks", str(bench.write("a.json", "{}")), str(bench.out)]


@case("Annotations and scores", "annotations that do not say which object is which")
def _(bench: Bench) -> list[str]:
    first, second = _outline(1, 1, 9, 1, 9, 9), _outline(1, 1, 9, 1, 9, 9, picture=2)
    return _annotated(bench, first, first, second, pictures=2)


@case("Annotations and scores", "an outline with a corner far outside")
def _(bench: Bench) -> list[str]:
    return _annotated(bench, _outline(1, 1, 1e8, 1, 9, 9))


@case("Annotations and scores", "an annotation of no picture")
def _(bench: Bench) -> list[str]:
    return _annotated(bench, _outline(1, 1, 9, 1, 9, 9, picture=7))


@case("Annotations and scores", "a folder that holds something where masks would be written")
def _(bench: Bench) -> list[str]:
    bench.write("out/mine.txt", "")
    return _annotated(bench, _outline(1, 1, 9, 1, 9, 9))


@case("Annotations and scores", "CVAT's XML of a whole project")
def _(bench: Bench) -> list[str]:
    xml = "<annotations><meta><original_size/><original_size/></meta><track id='0'/></annotations>"
    return ["data", "masks", str(bench.write("annotations.xml", xml)), str(bench.out)]


@case("Annotations and scores", "comparing what are no scores")
def _(bench: Bench) -> list[str]:
    path = str(bench.write("a.json", "{}"))
    return ["compare", path, path]


@case("Annotations and scores", "comparing scores of other videos")
def _(bench: Bench) -> list[str]:
    head = {"benchmark": "davis17", "rules": "davis", "figures": {}}
    contents = {video: json.dumps({**head, "per_video": {video: {}}}) for video in ("cat", "dog")}
    paths = [bench.write(f"{video}.json", content) for video, content in contents.items()]
    return ["compare", *map(str, paths)]
