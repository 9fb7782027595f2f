"""Readers of files that people bring: how to read one, and whole inputs to begin with (all generated here)."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import sqlite3
import zipfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from fuzz.table import READERS, Seeds, reader
from trees import HEIGHT, WIDTH, Tree, draw_frame, draw_ids, make_tree


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _pictures() -> Seeds:
    rgb = Image.fromarray(draw_frame(0))
    exif = Image.Exif()
    exif[274] = 6
    deep = Image.fromarray((np.arange(HEIGHT * WIDTH, dtype=np.uint16) * 80).reshape(HEIGHT, WIDTH))
    return {
        "a.png": _saved(rgb, "PNG"),
        "grey.png": _saved(rgb.convert("L"), "PNG"),
        "deep.png": _saved(deep, "PNG"),
        "alpha.png": _saved(rgb.convert("RGBA"), "PNG"),
        "palette.png": _saved(rgb.quantize(7), "PNG"),
        "turned.jpg": _saved(rgb, "JPEG", exif=exif),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "a.bmp": _saved(rgb, "BMP"),
        "a.webp": _saved(rgb, "WEBP"),
        "a.tiff": _saved(rgb, "TIFF"),
        "a.ppm": _saved(rgb, "PPM"),
    }


@reader("pictures", _pictures)
def _read_picture(path: Path) -> object:
    from jointformer.data.frames import picture_size, read_frame

    picture_size(path)
    return read_frame(path)


def _masks() -> Seeds:
    from jointformer.data.masks import encode_mask

    ids = draw_ids((1, 3, 255), 0)
    colours = np.stack([ids * 5, ids * 3, ids], -1).astype(np.uint8)
    return {
        "palette.png": encode_mask(ids),
        "grey.png": _saved(Image.fromarray(ids), "PNG"),
        "deep.png": _saved(Image.fromarray(ids.astype(np.uint16)), "PNG"),
        "colour.png": _saved(Image.fromarray(colours), "PNG"),
        "bits.png": _saved(Image.fromarray(ids > 0), "PNG"),
        "a.gif": _saved(Image.fromarray(ids), "GIF"),
        "a.bmp": _saved(Image.fromarray(ids), "BMP"),
        "a.tiff": _saved(Image.fromarray(ids), "TIFF"),
    }


@reader("masks", _masks)
def _read_mask(path: Path) -> object:
    from jointformer.data.mask_colours import ColourTable
    from jointformer.data.masks import is_colour_mask, read_mask_file, resolve_void

    is_colour_mask(path)
    return resolve_void(read_mask_file(path, ColourTable.from_files([path])).ids)


def _scores() -> Seeds:
    from jointformer.data.masks import encode_scores

    return {"a.npz": encode_scores(np.full((2, 6, 8), 0.25, np.float32), (1, 3))}


@reader("scores", _scores)
def _read_scores(path: Path) -> object:
    from jointformer.data.masks import read_scores

    return read_scores(path)


def _videos() -> Seeds:
    import av

    found = {}
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mjpeg"), ("a.webm", "libvpx")):
        with TemporaryDirectory() as folder:
            with av.open(f"{folder}/{name}", "w") as container:
                stream = container.add_stream(codec, rate=Fraction(10))
                stream.width, stream.height = WIDTH, HEIGHT
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for step in range(5):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(step), format="rgb24")))
                container.mux(stream.encode())
            found[name] = Path(folder, name).read_bytes()
    return found


@reader("videos", _videos)
def _read_video(path: Path) -> object:
    from jointformer.data.video import open_video

    video = open_video(path)
    video.name(0), video.time(len(video) - 1)
    return list(itertools.islice(video.iter_readable(), 8))


def _weights() -> Seeds:
    from jointformer.model.config import ModelConfig
    from jointformer.model.storage import save_weights
    from seeded import seeded_model

    network = seeded_model(ModelConfig("nano", (8, 12, 24), (1, 1, 2), heads=1))
    found = {}
    for suffix in (".safetensors", ".pth"):
        with TemporaryDirectory() as folder:
            path = save_weights(network, Path(folder) / f"a{suffix}")
            found[path.name] = path.read_bytes()
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3), "b": {"c": torch.ones(2, 2)}}, buffer)
    return {**found, "other.pth": buffer.getvalue()}


@reader("weights", _weights)
def _read_weights(path: Path) -> object:
    from jointformer.model.storage import load_weights_file

    return load_weights_file(path).fitted()


def _metas() -> Seeds:
    youtube = {"videos": {"v": {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}}}
    lvos = {"videos": {"v": {"objects": {"1": {"frame_range": {"start": "1", "end": "11", "frame_nums": "3"}}}}}}
    sequence = {"dataset": "HACS", "seq_name": "a", "height": 4, "width": 6, "segmentations": [{}, {}]}
    sequence["annotated_image_paths"] = ["f1.jpg", "f2.jpg"]
    return {
        f"{name}.json": json.dumps(value).encode()
        for name, value in (("youtube", youtube), ("lvos", lvos), ("burst", {"sequences": [sequence]}))
    }


@reader("metas", _metas, "json")
def _read_metas(path: Path) -> object:
    from jointformer.data.burst import burst_frames
    from jointformer.data.metas import is_plain_name, listed_frames, lvos_frames, youtube_objects
    from jointformer.errors import UserError

    for read in (lambda path: listed_frames(youtube_objects(path)), lvos_frames, burst_frames):
        try:
            found = read(path)
        except UserError:
            continue
        assert all(is_plain_name(name) for video, frames in found.items() for name in (video, *frames))
    return None


def _annotations() -> Seeds:
    outline, counts = [1, 2, 9, 2, 9, 8], {"size": [HEIGHT, WIDTH], "counts": [20, 5, HEIGHT * WIDTH - 25]}
    sides = {"height": HEIGHT, "width": WIDTH}
    regions: list[dict[str, Any]] = [
        {"id": 1, "image_id": 1, "category_id": 1, "track_id": 4, "segmentation": [outline]},
        {"id": 2, "image_id": 1, "category_id": 1, "attributes": {"track_id": 5}, "segmentation": counts},
    ]
    coco = {"images": [{"id": 1, "file_name": "a/1.jpg", **sides}], "annotations": regions}
    videos = {
        "videos": [{"id": 1, "file_names": ["a/1.jpg", "a/2.jpg"], **sides}],
        "annotations": [{"id": 1, "video_id": 1, "segmentations": [None, counts]}],
    }
    png = base64.b64encode(_saved(Image.new("L", (2, 3), 255), "PNG")).decode()
    labelme = {
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        "shapes": [
            {"label": "a", "group_id": 1, "shape_type": "polygon", "points": [[1, 2], [9.5, 2], [9, 8]]},
            {"label": "b", "group_id": None, "shape_type": "circle", "points": [[5, 5], [7, 5]]},
            {"label": "c", "group_id": None, "shape_type": "mask", "points": [[1, 1], [2, 3]], "mask": png},
        ],
    }
    kinds = (("coco", coco), ("videos", videos), ("labelme", labelme))
    return {f"{name}.json": json.dumps(value).encode() for name, value in kinds}


@reader("annotations", _annotations, "json")
def _read_annotations(path: Path) -> object:
    from jointformer.data.convert_annotations import annotations_to_masks

    with TemporaryDirectory() as folder:
        return annotations_to_masks(path, Path(folder) / "masks")


def _cvat() -> Seeds:
    image = """<image id="0" name="a/frame_000001.png" width="%d" height="%d">
      <polygon label="a" points="1.0,2.0;9.5,2;9,8" z_order="1"><attribute name="track_id">3</attribute></polygon>
      <mask label="b" rle="2, 3, 1" left="4" top="5" width="3" height="2" group_id="7"/>
      <ellipse label="c" cx="5" cy="5" rx="3" ry="2" rotation="30"/><points label="d" points="1,1"/></image>"""
    track = """<meta><task><original_size><width>%d</width><height>%d</height></original_size></task></meta>
      <track id="0" label="a"><box frame="0" keyframe="1" outside="0" xtl="1" ytl="2" xbr="9.5" ybr="8" z_order="0"/>
      <box frame="4" keyframe="1" outside="1" xtl="1" ytl="2" xbr="9" ybr="8"/></track>"""
    form = "<?xml version='1.0' encoding='utf-8'?><annotations>%s</annotations>"
    kinds = (("images", image), ("video", track))
    return {f"{name}.xml": (form % (text % (WIDTH, HEIGHT))).encode() for name, text in kinds}


@reader("cvat", _cvat)
def _read_cvat(path: Path) -> object:
    return _read_annotations(path)


def _results() -> Seeds:
    figures = {"J&F": 0.5, "J": None}
    content = {"benchmark": "davis17", "rules": "davis", "figures": figures, "per_video": {"a": figures, "b": figures}}
    return {"scores.json": json.dumps(content).encode()}


@reader("results", _results, "json")
def _read_results(path: Path) -> object:
    from jointformer.evaluation.score_compare import compare

    return compare([path, path]).table()


def _burst() -> Seeds:
    from jointformer.ops.rle import encode_rle

    rle = encode_rle(draw_ids((1,), 0) == 1)
    sequence = {
        "dataset": "HACS", "seq_name": "a", "height": HEIGHT, "width": WIDTH, "annotated_image_paths": ["f1.jpg"],
        "segmentations": [{"1": {"rle": rle, "category_id": 95}}], "track_category_ids": {"1": 95},
    }  # fmt: skip
    return {"a.json": json.dumps({"split": "val", "sequences": [sequence]}).encode()}


@reader("burst", _burst, "json")
def _read_burst(path: Path) -> object:
    from jointformer.data.burst import read_burst
    from jointformer.evaluation.score_burst import iter_sequences
    from jointformer.metrics.burst import BurstRules, sequence_counts

    truth, rules = path.parent / "truth.json", BurstRules(similarity="mask")
    truth.write_bytes(READERS["burst"].seeds()["a.json"])
    return [sequence_counts(sequence, rules) for sequence in iter_sequences(read_burst(truth), path, [], rules)]


@reader("visor", lambda: {"a.json": b'{"P01_107_seq_00001": {"1": "left hand", "2": "pan"}}'}, "json")
def _read_visor(path: Path) -> object:
    from jointformer.data.convert_visor import read_mapping

    return read_mapping(path)


def _manifests() -> Seeds:
    video = {"state": "finished", "frames": 3, "seconds": 1.5, "objects": 2, "bad_frames": 0, "device": "cpu"}
    video["input"] = {"size": "32x24", "frames": "3", "masks": "9ac3"}
    settings = {"dataset": "G", "split": "val", "tracker": {"topk": 30}, "views": [{"size": 480}]}
    videos = {"a": video, "b": {"state": "failed", "error": "x"}, "c": {"state": "open"}}
    whole = {"format": 3, "run": "1b2d", "settings": settings, "dataset_videos": 3, "videos": videos}
    return {"run.json": json.dumps(whole).encode()}


@reader("manifests", _manifests, "json")
def _read_manifest(path: Path) -> object:
    from jointformer.evaluation.scale.shards import merge

    target = path.parent / "run.json"
    if path != target:
        target.write_bytes(path.read_bytes())
    return merge(path.parent)


def _archives() -> Seeds:
    found = {}
    for name, inside in (("flat.zip", ""), ("inside.zip", "Annotations/"), ("packed.zip", "x/Annotations/")):
        buffer = io.BytesIO()
        packing = zipfile.ZIP_DEFLATED if name == "packed.zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            for step in range(2):
                archive.writestr(f"{inside}cat/{step:05d}.png", _masks()["palette.png"])
        found[name] = buffer.getvalue()
    return found


@reader("archives", _archives)
def _read_archive(path: Path) -> object:
    from jointformer.errors import UserError
    from jointformer.evaluation.score_sources import open_masks

    tree = open_masks(path, ["cat"])
    for frame in tree.frames("cat"):
        try:
            tree.header("cat", frame)
            tree.read("cat", frame)
        except UserError:
            continue
    return tree


def _lists() -> Seeds:
    return {
        "val.txt": b"2563_unfold_cloth\n555_tear_aluminium_foil\n",
        "list.txt": b"a.mp4\ta.png\nb\tmasks/b\n\nc.mp4",
    }


@lru_cache
def _vost() -> tuple[TemporaryDirectory[str], Tree]:
    folder = TemporaryDirectory()
    return folder, make_tree(Path(folder.name), "VOST")


@reader("lists", _lists)
def _read_list(path: Path) -> object:
    from jointformer.data.benchmarks import open_benchmark
    from jointformer.errors import UserError
    from jointformer.evaluation.manyvideos import Part, find_jobs

    tree = _vost()[1]
    next(tree.root.rglob("val.txt")).write_bytes(path.read_bytes())
    with contextlib.suppress(UserError):
        open_benchmark("VOST", "val", tree.root)
    listed = path.with_name("listed.txt")
    listed.write_bytes(path.read_bytes())
    return find_jobs([listed], path.parent, Part())


@reader(
    "stills",
    lambda: {
        "manifest.csv": (
            b"set,image,mask,width,height,objects\nx,a.jpg,a.png,32,24,1\nx,a.jpg,b.png,32,24,1\ny,c.jpg,c.png,32,24,1\n"
        )
    },
)
def _read_stills(path: Path) -> object:
    from jointformer.data.clips.pack import StillsPack

    target = path.parent / "manifest.csv"
    if path != target:
        target.write_bytes(path.read_bytes())
    for name in ("a.jpg", "c.jpg"):
        Image.fromarray(draw_frame(0)).save(path.parent / name)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(draw_ids((1,), 0)).save(path.parent / name)
    return StillsPack(path.parent)


def _sessions() -> Seeds:
    from jointformer.session.store import FILE, Store

    with TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        store = Store(path, create=True)
        store.set_meta("video", {"frames": 3, "size": [4, 5]})
        store.close()
        with sqlite3.connect(path) as database:
            database.execute("INSERT INTO cells VALUES (2, 0, 1, x'0102', 0.5, 1, 0)")
        database.close()
        return {FILE: path.read_bytes()}


@reader("sessions", _sessions)
def _read_session(path: Path) -> object:
    from jointformer.session.store import Kind, Store

    store = Store(path, create=False)
    try:
        store.meta("video")
        return [store.cells(kind) for kind in Kind]
    finally:
        store.close()
