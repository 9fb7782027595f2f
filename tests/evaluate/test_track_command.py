"""`jointformer track` on anybody's video."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.cli.main import main
from jointformer.data.masks import read_mask_file, write_mask
from jointformer.ops.palette import davis_palette
from jointformer.track.engine import Engine

H, W, LENGTH = 33, 49, 6


def frames() -> list[np.ndarray]:
    base = np.random.default_rng(0).integers(0, 255, (H + 20, W + 20, 3), dtype=np.uint8)
    return [base[t : t + H, t : t + W] for t in range(LENGTH)]


def label_map() -> np.ndarray:
    ids = np.zeros((H, W), np.uint8)
    ids[4:16, 5:20], ids[18:30, 25:40] = 3, 7
    return ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pictures numbered from 10."""
    path = tmp_path / "pictures"
    path.mkdir()
    for t, frame in enumerate(frames(), 10):
        Image.fromarray(frame).save(path / f"{t:04d}.png")
    write_mask(tmp_path / "mask.png", label_map())
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """An mp4 with sound, whose pixels are not square."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(30000, 1001))
        video.width, video.height, video.pix_fmt = W - 1, H - 1, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(16, 15)  # as in PAL's DV
        sound = container.add_stream("aac", rate=44100)
        for frame in frames():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[: H - 1, : W - 1]), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 9000), np.float32), format="fltp", layout="mono")
        tone.rate = 44100
        container.mux(sound.encode(tone))
        container.mux(sound.encode())
    write_mask(tmp_path / "film.png", label_map()[: H - 1, : W - 1])
    return path


def track(weights: Path, video: Path | str, masks: Path | str, output: Path | str, *more: str) -> int:
    return main(
        ["track", str(video), "--masks", str(masks), "-o", str(output), "--model", str(weights), "--size", "-1",
         "--precision", "float32", "--quiet", *more]
    )  # fmt: skip


@pytest.mark.parametrize(("given", "rate"), [(None, Fraction(25)), ("24000/1001", Fraction(24000, 1001))])
def test_a_folder_of_pictures_becomes_masks_and_an_overlay(
    given: str | None, rate: Fraction, folder: Path, tmp_path: Path, mini_weights: Path
) -> None:
    more = [] if given is None else ["--fps", given]
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", *more) == 0
    names = sorted(p.name for p in (tmp_path / "out" / "masks").iterdir())
    assert names == [f"{t:04d}.png" for t in range(10, 16)]
    assert np.array_equal(read_mask_file(tmp_path / "out" / "masks" / "0010.png").ids, label_map())
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert container.streams.video[0].average_rate == rate
        assert sum(1 for _ in container.decode(video=0)) == LENGTH


def test_a_film_keeps_its_rate_and_sound(film: Path, tmp_path: Path, mini_weights: Path) -> None:
    assert track(mini_weights, film, tmp_path / "film.png", tmp_path / "out") == 0
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
        assert len(container.streams.audio) == 1
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        aspect = container.streams.video[0].sample_aspect_ratio
    assert times == [t * Fraction(1001, 30000) for t in range(LENGTH)]
    assert aspect == Fraction(16, 15)


@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5, 9]], ids=["constant", "variable"])
def test_an_overlay_has_the_frame_times_of_the_film(places: list[int], tmp_path: Path, mini_weights: Path) -> None:
    """Also where the container rounds the times of 24000/1001 to milliseconds. Timecode counts equal frames."""
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(24000, 1001))
        video.width, video.height, video.pix_fmt = W - 1, H - 1, "yuv420p"
        video.metadata["timecode"] = "01:00:59:23"
        for place, frame in zip(places, frames()):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[: H - 1, : W - 1]), format="rgb24")
            picture.pts, picture.time_base = place, Fraction(1001, 24000)
            container.mux(video.encode(picture))
        container.mux(video.encode())
    write_mask(tmp_path / "first.png", label_map()[: H - 1, : W - 1])
    assert track(mini_weights, tmp_path / "film.mkv", tmp_path / "first.png", tmp_path / "out", "--start", "1") == 0
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
        timecode = container.streams.video[0].metadata.get("timecode")
    expected = [(place - 1) * Fraction(1001, 24000) for place in places[1:]]
    if places == list(range(LENGTH)):
        assert (rate, times, timecode) == (Fraction(24000, 1001), expected, "01:01:00:00")
    else:
        assert timecode is None
        assert [float(t) for t in times] == pytest.approx([float(t) for t in expected], abs=0.001)


def test_masks_named_by_frame_bring_objects_and_corrections(folder: Path, tmp_path: Path, mini_weights: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    write_mask(masks / "0010.png", np.where(label_map() == 3, 3, 0))
    correction = np.zeros((H, W), np.uint8)
    correction[20:30, 2:12], correction[2:9, 30:40] = 3, 9
    write_mask(masks / "3.png", correction)  # a number from 0: the picture 0013
    assert track(mini_weights, folder, masks, tmp_path / "out") == 0
    assert np.array_equal(read_mask_file(tmp_path / "out" / "masks" / "0013.png").ids, correction)


@pytest.mark.parametrize(("first", "tracked"), [((3, 7, 255), {3, 7}), ((3, 255), {3}), ((255,), {255})])
def test_255_alone_in_a_later_mask_is_an_object_only_where_it_is_in_the_first(
    first: tuple[int, ...], tracked: set[int], folder: Path, tmp_path: Path, mini_weights: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    ids = np.where(np.isin(label_map(), first), label_map(), 0)
    ids[20:30, 2:12] = 255
    write_mask(masks / "0010.png", ids)
    later = np.zeros((H, W), np.uint8)
    later[2:9, 30:40] = 255
    write_mask(masks / "0013.png", later)
    assert track(mini_weights, folder, masks, tmp_path / "out", "--no-overlay") == 0
    found = {t: read_mask_file(tmp_path / "out" / "masks" / f"{t:04d}.png").ids for t in range(10, 16)}
    assert set(np.unique(found[10])) == tracked | {0}
    assert set(np.unique(np.stack(list(found.values())))) <= tracked | {0}
    assert np.array_equal(found[13], later) == (tracked == {255})


@pytest.mark.parametrize(("second", "said"), [(7, True), (255, False)])
def test_an_object_255_that_gets_company_is_told_to_be_taken_for_void(
    second: int, said: bool, folder: Path, tmp_path: Path, mini_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    ids = np.zeros((H, W), np.uint8)
    ids[4:16, 5:20] = 255
    write_mask(given / "0.png", ids)
    ids[4:16, 5:20], ids[18:30, 25:40] = 0, second
    write_mask(given / "2.png", ids)
    assert track(mini_weights, folder, given, tmp_path / "out", "--no-overlay") == 0
    assert ("object 255 is taken for void" in caplog.text) is said


def test_a_part_of_the_video_can_be_tracked(folder: Path, tmp_path: Path, mini_weights: Path) -> None:
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", "--start", "2", "--end", "3") == 0
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["0012.png", "0013.png"]


def test_colours_of_an_rgb_mask_become_ids(folder: Path, tmp_path: Path, mini_weights: Path) -> None:
    picture = np.zeros((H, W, 3), np.uint8)
    picture[4:16, 5:20], picture[18:30, 25:40] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    assert track(mini_weights, folder, tmp_path / "rgb.png", tmp_path / "out", "--no-overlay") == 0
    first = read_mask_file(tmp_path / "out" / "masks" / "0010.png")
    assert set(np.unique(first.ids)) == {0, 1, 2}
    assert first.palette is not None
    assert tuple(first.palette[first.ids[5, 6]]) == (255, 0, 0)
    assert not (tmp_path / "out" / "overlay.mp4").exists()


@pytest.mark.parametrize("own", [{3: (255, 0, 255), 7: (0, 255, 255)}, {3: (255, 0, 255)}, {}], ids=len)
def test_objects_have_the_colours_of_the_given_masks_everywhere(
    own: dict[int, tuple[int, int, int]], tmp_path: Path, mini_weights: Path
) -> None:
    (tmp_path / "grey").mkdir()
    for t in range(2):
        Image.new("RGB", (W, H), (128, 128, 128)).save(tmp_path / "grey" / f"{t}.png")
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1) if not own else np.zeros((256, 3), np.uint8)
    for number, colour in own.items():
        palette[number] = colour
    write_mask(tmp_path / "mask.png", label_map(), palette)
    assert track(mini_weights, tmp_path / "grey", tmp_path / "mask.png", tmp_path / "out") == 0
    export = ["export", str(tmp_path / "out" / "masks"), "--video", str(tmp_path / "grey"), "--format", "overlay"]
    assert main([*export, "-o", str(tmp_path / "again.mp4"), "--quiet"]) == 0
    stored = read_mask_file(tmp_path / "out" / "masks" / "0.png").palette
    assert stored is not None
    for path in (tmp_path / "out" / "overlay.mp4", tmp_path / "again.mp4"):
        with av.open(str(path)) as container:
            shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
        for number, place in ((3, np.s_[8:12, 9:16]), (7, np.s_[22:26, 29:36])):
            colour = own.get(number, davis_palette()[number])
            assert tuple(stored[number]) == tuple(colour)
            np.testing.assert_allclose(shown[place].mean((0, 1)), (np.array(colour, int) + 128) / 2, atol=12)


def test_only_the_overlay_can_be_written(folder: Path, tmp_path: Path, mini_weights: Path) -> None:
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", "--overlay-only") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["overlay.mp4"]


def test_scores_that_are_saved_give_exports_soft_edges(
    folder: Path, tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    soft = ["export", str(out / "masks"), "--video", str(folder), "--format", "rgba", "--soft", "--quiet", "-o"]
    assert track(mini_weights, folder, tmp_path / "mask.png", out, "--no-overlay") == 0
    assert main([*soft, str(tmp_path / "none")]) == 2
    assert "track with --save-scores" in capsys.readouterr().err
    assert track(mini_weights, folder, tmp_path / "mask.png", out, "--no-overlay", "--save-scores", "--overwrite") == 0
    assert main([*soft, str(tmp_path / "soft")]) == 0
    alpha = np.array(Image.open(tmp_path / "soft" / "0012.png"))[..., 3]
    labels = read_mask_file(out / "masks" / "0012.png").ids
    assert alpha.shape == labels.shape
    assert len(np.unique(alpha)) > 10
    assert alpha[labels > 0].mean() > alpha[labels == 0].mean()
    assert track(mini_weights, folder, tmp_path / "mask.png", out, "--no-overlay", "--overwrite") == 0
    assert not list(out.rglob("*.npz"))  # they would be taken for these masks'
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "b", "--overlay-only", "--save-scores") == 2


def test_earlier_results_are_not_overwritten_unasked(
    folder: Path, tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 0
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", "--overwrite") == 0


@pytest.mark.parametrize(("flag", "left"), [("--no-overlay", "masks"), ("--overlay-only", "overlay.mp4")])
def test_overwriting_leaves_nothing_of_the_earlier_run_beside_the_new_one(
    flag: str, left: str, folder: Path, tmp_path: Path, mini_weights: Path
) -> None:
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 0
    write_mask(tmp_path / "other.png", np.where(label_map() == 3, 9, 0))
    assert track(mini_weights, folder, tmp_path / "other.png", tmp_path / "out", flag, "--overwrite") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == [left]


def test_overwriting_keeps_the_earlier_results_where_the_new_run_fails(
    folder: Path, tmp_path: Path, mini_weights: Path
) -> None:
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    (folder / "0013.png").write_bytes(b"")
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", "--no-overlay", "--overwrite") == 2
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == before


@pytest.mark.parametrize("name", ["masks", "Scores/masks", "overlay.mp4"])
def test_what_no_result_can_replace_is_said_before_anything_is_tracked(
    name: str,
    folder: Path,
    tmp_path: Path,
    mini_weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("loaded a network in vain")

    monkeypatch.setattr("jointformer.model.weights.load_model", load)
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    make: list[tuple[str, Callable[[], object]]] = [
        ("a link", lambda: place.symlink_to(tmp_path / "elsewhere")),
        ("a link", lambda: place.symlink_to(tmp_path / "nowhere")),
        ("a file", lambda: place.write_text("mine")),
    ]
    if name == "overlay.mp4":
        make = [("a folder", place.mkdir)]
    for what, put in make:
        put()
        for more in ([], ["--overwrite"]):
            assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out", "--save-scores", *more) == 2
            assert f"{place}: cannot be written: {what} is in the way; " in capsys.readouterr().err
        assert [path.name for path in place.parent.iterdir()] == [place.name]
        if not place.is_dir() or place.is_symlink():
            place.unlink()


def test_overwriting_removes_no_masks_that_were_given(folder: Path, tmp_path: Path, mini_weights: Path) -> None:
    given = tmp_path / "out" / "masks" / "0010.png"
    given.parent.mkdir(parents=True)
    write_mask(given, label_map())
    assert track(mini_weights, folder, given.parent, tmp_path / "out", "--overlay-only", "--overwrite") == 0
    assert given.is_file()


INPUTS_AS_TARGETS = {
    "a folder of masks": ("film.mp4", "masks", ["."], "masks"),
    "a folder of masks of a stream": ("film.mp4", "masks", [".", "--output-format", "folder"], "masks"),
    "the video": ("overlay.mp4", "film.png", [".", "--end", "3"], "overlay.mp4"),
    "the video of a stream": ("film.mp4", "masks", ["film.mp4", "--output-format", "nut"], "film.mp4"),
    "standard input": ("-", "masks", ["film.mp4", "--output-format", "nut"], "film.mp4"),
    "a first mask for figures": ("film.mp4", "film.png", ["-", "--json", "film.png"], "film.png"),
    "a folder of frames": ("pictures/masks", "mask.png", ["pictures"], "pictures/masks"),
    "a frame": ("pictures/masks", "mask.png", ["pictures/masks/0010.png", "--output-format", "png"], "0010.png"),
}


@pytest.mark.parametrize("case", INPUTS_AS_TARGETS)
def test_what_is_read_is_never_replaced(
    case: str,
    film: Path,
    folder: Path,
    tmp_path: Path,
    mini_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video, masks, (output, *more), said = INPUTS_AS_TARGETS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks" / "0.png", label_map()[: H - 1, : W - 1])
    (tmp_path / "overlay.mp4").write_bytes(film.read_bytes())
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (tmp_path / "moved").rename(folder / "masks")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with film.open("rb") as file:
        keep = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            assert track(mini_weights, video, masks, output, "--overwrite", *more) == 2
        finally:
            os.dup2(keep, 0)
            os.close(keep)
    assert f"{said}: cannot be written: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_results_may_lie_beside_what_is_read(
    film: Path, tmp_path: Path, mini_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert track(mini_weights, "film.mp4", "film.png", ".") == 0
    assert track(mini_weights, "film.mp4", "film.png", ".", "--overwrite") == 0
    assert len(list((tmp_path / "masks").iterdir())) == LENGTH


def smooth_mask(path: Path) -> None:
    ramp = np.linspace(0, 255, H * W * 3).astype(np.uint8).reshape(H, W, 3)
    Image.fromarray(ramp).save(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such mask file or folder"),
        (lambda p: p.mkdir(), "holds no"),
        (lambda p: write_mask(p, np.zeros((H, W), np.uint8)), "the mask has no object"),
        (lambda p: write_mask(p, np.ones((H, W + 2), np.uint8)), f"another size than its frame, expected {W}x{H}"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n broken"), "mask.png"),
        (smooth_mask, "colours"),
    ],
    ids=["missing", "empty folder", "no object", "size", "truncated", "anti-aliased"],
)
def test_a_bad_mask_is_one_line_and_exit_code_2(
    make: Callable[[Path], None],
    message: str,
    folder: Path,
    tmp_path: Path,
    mini_weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad" / "mask.png"
    path.parent.mkdir()
    make(path)
    assert track(mini_weights, folder, path, tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_truncated_film_is_one_line_and_leaves_nothing(
    film: Path, tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film.write_bytes(film.read_bytes()[:700])
    assert track(mini_weights, film, tmp_path / "film.png", tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "film.mp4" in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_gpu_without_memory_for_the_step_is_one_line_and_exit_code_2(
    folder: Path,
    tmp_path: Path,
    mini_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB. Of the rest")

    monkeypatch.setattr(Engine, "step", fail)
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 2
    said = "no memory left on the GPU, got CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB; fewer obj"
    assert capsys.readouterr().err.startswith(f"jointformer track: {said}")
    assert not list((tmp_path / "out").rglob("*"))


def test_a_truncated_picture_is_named_and_nothing_half_written_stays(
    folder: Path, tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder / "0013.png"
    broken.write_bytes(broken.read_bytes()[:200])
    assert track(mini_weights, folder, tmp_path / "mask.png", tmp_path / "out") == 2
    assert "0013.png" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*"))
