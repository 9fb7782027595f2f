"""Overlays and cut-out videos, read back: codec, pixel format, count, rate, size, sound, pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from export.clips import FRAMES, RED, H, Masks, W, labels, pictures, read_streams, turn, write_video
from jointformer.data.export_formats import export
from jointformer.data.export_source import ExportObject
from jointformer.data.video import open_video
from jointformer.data.video_file import VideoFile
from jointformer.errors import DataError, OutputError
from jointformer.session.source import ArrayVideo
from jointformer.types import LabelMap

NTSC = Fraction(30000, 1001)


def test_objects_255_ids_apart_keep_their_own_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = (ExportObject(7, "cat", (250, 10, 20)), ExportObject(262, "dog", (10, 30, 240)))
    found = np.zeros((H, W), np.uint16)
    found[8:24, 4:24], found[28:44, 30:60] = 7, 262
    monkeypatch.setattr(Masks, "objects", objects)
    monkeypatch.setattr(Masks, "label_map", lambda self, frame: found)
    grey = np.full((1, H, W, 3), 128, np.uint8)
    shown = read_streams(export(Masks(ArrayVideo(grey)), "overlay", tmp_path / "out", opacity=1, quality=5))["frames"][
        0
    ]
    for one in objects:
        middle = np.argwhere(found == one.id).mean(0).astype(int)
        np.testing.assert_allclose(shown[tuple(middle)], one.colour, atol=8)


class Padded(Masks):
    """The masks at a written video's even size, turned like its frames."""

    def label_map(self, frame: int) -> LabelMap:
        upright = np.pad(labels(frame), ((0, 1), (0, 1)))
        return np.rot90(upright, 1 if self.video.size[0] > self.video.size[1] else 0)


@pytest.mark.parametrize("style", ["fill", "contour", "spotlight", "blur"])
def test_overlays_keep_rate_count_and_odd_size(tmp_path: Path, style: str) -> None:
    masks = Masks(ArrayVideo(pictures(), fps=NTSC))
    facts = read_streams(export(masks, "overlay", tmp_path / style, style=style, quality=10))
    assert (facts["codec"], facts["pix_fmt"], facts["rate"]) == ("h264", "yuv420p", NTSC)
    assert facts["size"] == (H + 1, W + 1)
    assert len(facts["frames"]) == FRAMES
    inside = facts["frames"][0][12:24, 8:22].reshape(-1, 3).mean(0)
    original = pictures()[0][12:24, 8:22].reshape(-1, 3).mean(0)
    expected = (original + RED) / 2 if style == "fill" else original
    assert np.abs(inside - expected).max() < 8
    outside = facts["frames"][0][44:, :20].astype(float)
    plain = pictures()[0][44:, :20]
    same = bool(np.abs(outside[: len(plain)] - plain).mean() < 8)
    assert same is (style in ("fill", "contour"))


def test_the_best_overlay_is_played_as_any_other(tmp_path: Path) -> None:
    path = export(Masks(ArrayVideo(pictures())), "overlay", tmp_path / "out", quality=0)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.profile == "High"


def test_an_overlay_is_encoded_beside_what_comes_next_and_alike_on_all_machines(tmp_path: Path) -> None:
    path = export(Masks(ArrayVideo(pictures())), "overlay", tmp_path / "out")
    settings = path.read_bytes()  # x264 notes them in the first frame
    assert b" sliced_threads=0 " in settings  # slices are waited for, and each machine makes as many as it has cores
    assert b" threads=4 " in settings


def test_an_overlay_has_the_videos_sound_and_stands_upright(tmp_path: Path) -> None:
    video = VideoFile(write_video(tmp_path / "phone.mp4", rotation=90))
    assert video.size == (W + 1, H + 1)
    facts = read_streams(export(Padded(video), "overlay", tmp_path / "out.mp4", quality=10))
    assert facts["size"] == video.size
    assert facts["rate"] == NTSC
    assert len(facts["frames"]) == FRAMES
    assert facts["audio"] == ["aac"]
    # The last frame has no masks: the overlay shows the video as it is, the right way up.
    assert np.abs(facts["frames"][5].astype(float) - video.frame(5)).mean() < 6
    silent = export(Padded(video), "overlay", tmp_path / "silent.mp4", sound=False)
    assert read_streams(silent)["audio"] == []


def test_a_title_in_another_encoding_costs_no_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "old.mp4")
    data = path.read_bytes()
    assert b"SoundHandler" in data
    path.write_bytes(data.replace(b"SoundHandler", b"S\xfcund\xffandler"))
    assert read_streams(export(Padded(VideoFile(path)), "overlay", tmp_path / "out.mp4"))["audio"] == ["aac"]


def test_an_overlay_of_a_range_begins_with_its_sound(tmp_path: Path) -> None:
    video = VideoFile(write_video(tmp_path / "long.mp4", Fraction(25), frames=25))
    path = export(Padded(video), "overlay", tmp_path / "part.mp4", start=10, end=19)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 10
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(0.4, abs=0.05)


def test_a_variable_rate_keeps_every_frames_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = ArrayVideo(pictures())
    times = [Fraction(n, 100) for n in (0, 4, 20, 24, 50, 54)]
    monkeypatch.setattr(video, "time", lambda index: times[index])
    for format in ("overlay", "prores", "webm"):
        facts = read_streams(export(Masks(video), format, tmp_path / "out"))
        assert [round(float(t), 3) for t in facts["times"]] == [float(t) for t in times]


def test_an_export_begins_with_the_timecode_of_its_first_frame(tmp_path: Path) -> None:
    source = write_video(tmp_path / "film.mp4", timecode="00:59:59;28")
    told = {}
    for format in ("overlay", "prores", "webm"):
        path = export(Padded(VideoFile(source)), format, tmp_path / format, start=3)
        with av.open(str(path)) as container:
            told[format] = [stream.metadata.get("timecode") for stream in container.streams if stream.type != "audio"]
    # The picture, and the track of its own in which editing programs look.
    assert told == {"overlay": ["01:00:00;01"] * 2, "prores": ["01:00:00;01"] * 2, "webm": [None]}


@pytest.mark.parametrize(("turned", "expected"), [(False, Fraction(4, 3)), (True, Fraction(3, 4))])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, turned: bool, expected: Fraction) -> None:
    path = tmp_path / "hdv.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W + 1, H + 1, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in np.pad(pictures(), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    if turned:
        turn(path, tmp_path / "upright.mp4")
        path = tmp_path / "upright.mp4"
    wide = read_streams(export(Padded(VideoFile(path)), "webm", tmp_path / "webm"))[
        "size"
    ]  # PyAV cannot tell its muxer
    assert wide == ((round((W + 1) * 4 / 3), H + 1) if turned else (H + 1, round((W + 1) * 4 / 3)))
    for format in ("overlay", "prores"):
        written = export(Padded(VideoFile(path)), format, tmp_path / format)
        with av.open(str(written)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected, format


def test_prores_has_alpha_in_ten_bits(tmp_path: Path) -> None:
    masks = Masks(ArrayVideo(pictures(), fps=NTSC))
    facts = read_streams(export(masks, "prores", tmp_path / "out"))
    assert (facts["codec"], facts["tag"], facts["rate"]) == ("prores", "ap4h", NTSC)
    assert facts["pix_fmt"] in ("yuva444p10le", "yuva444p12le")  # newer FFmpeg decodes 4444 into 12 bits
    assert facts["size"] == (H, W)
    check_cutout(facts["frames"], colour=6, alpha=1)
    with av.open(str(tmp_path / "out.mov")) as container:  # BT.709 in each frame, too, where editors look for it
        said = [(f.color_primaries, f.color_trc, f.colorspace, f.color_range) for f in container.decode(video=0)]
    assert said == [(1, 1, 1, 1)] * FRAMES


def test_prores_does_not_search_for_a_quantiser(tmp_path: Path) -> None:
    """The search took four fifths of the encoder's time, and differed from the finest only where slices are empty."""
    path = export(Masks(ArrayVideo(pictures())), "prores", tmp_path / "out")
    with av.open(str(path)) as container:
        frame = bytes(next(container.demux(video=0)))
    picture = 8 + int.from_bytes(frame[8:10], "big")  # behind the frame's size, "icpf" and its header (SMPTE RDD 36)
    table = picture + (frame[picture] >> 3)
    count = int.from_bytes(frame[picture + 5 : picture + 7], "big")
    sizes = [int.from_bytes(frame[table + 2 * n : table + 2 * n + 2], "big") for n in range(count)]
    slices = np.cumsum([table + 2 * count, *sizes[:-1]])
    assert {frame[at + 1] for at in slices} == {1}


def test_webm_has_alpha(tmp_path: Path) -> None:
    masks = Masks(ArrayVideo(pictures(), fps=Fraction(25)))
    facts = read_streams(export(masks, "webm", tmp_path / "out", quality=8))
    assert (facts["codec"], facts["decoded_format"], facts["rate"]) == ("vp9", "yuva420p", 25)
    assert facts["metadata"].get("alpha_mode") == "1"
    assert facts["size"] == (H, W)
    check_cutout(facts["frames"], colour=12, alpha=40)


@pytest.mark.parametrize("format", ["prores", "webm"])
def test_a_cutout_that_is_opened_as_a_video_is_black_where_it_is_transparent(tmp_path: Path, format: str) -> None:
    video = open_video(export(Masks(ArrayVideo(pictures())), format, tmp_path / "out"))
    assert len(video) == FRAMES
    for t, frame in enumerate(video.iter_frames()):
        mask = labels(t) > 0
        over_black = pictures()[t] * mask[..., None]
        assert np.abs(frame.astype(float) - over_black).mean() < 3
        assert not frame[:4].any()
        assert np.array_equal(video.frame(t), frame)


def check_cutout(frames: np.ndarray, *, colour: float, alpha: float) -> None:
    assert len(frames) == FRAMES
    for t, frame in enumerate(frames):
        mask = labels(t) > 0
        assert np.abs(frame[..., 3].astype(float) - mask * 255).mean() < alpha
        assert (frame[..., 3] > 127).sum() == pytest.approx(mask.sum(), rel=0.03)
        if mask.any():
            assert np.abs(frame[..., :3].astype(float) - pictures()[t])[mask].mean() < colour


def test_a_missing_encoder_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "Codec", missing)
    for format in ("overlay", "prores", "webm"):
        with pytest.raises(OutputError, match="has no encoder"):
            export(Masks(ArrayVideo(pictures())), format, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_picture_before_stands_for_a_damaged_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    film = tmp_path / "film"
    film.mkdir()
    for t, picture in enumerate(pictures()):
        Image.fromarray(picture).save(film / f"{t}.png")
    (film / "3.png").write_bytes(b"")
    source = Masks(open_video(film))
    shown = read_streams(export(source, "overlay", tmp_path / "out", opacity=0, quality=1))["frames"][:, :H, :W]
    assert caplog.messages == ["1 of 6 frames could not be read: the picture before stands for each of them"]
    untouched = shown[..., 2].astype(int)[:, :4].mean((1, 2))
    np.testing.assert_allclose(np.diff(untouched), [20, 20, 0, 40, 20], atol=3)
    caplog.clear()
    export(source, "sheet", tmp_path / "sheet.png", start=2, end=3, pictures=2, columns=2, opacity=0, labels=False)
    assert caplog.messages == ["1 of 2 frames could not be read: the picture before stands for each of them"]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert np.array_equal(sheet[6:10, 6 : 6 + W, 2], sheet[6:10, 12 + W : 12 + 2 * W, 2])
    for format, name in (("rgba", "cut"), ("sheet", "first.png")):
        with pytest.raises(DataError, match=r"film/3\.png"):
            export(source, format, tmp_path / name, start=3)


def test_the_video_itself_is_never_overwritten(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mine.mp4", sound=False)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="input is read from there"):
        export(Padded(VideoFile(path)), "overlay", path)
    assert path.read_bytes() == before
