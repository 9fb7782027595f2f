"""Videos with alpha, of VP8 and VP9 above all: what is transparent is black, in whatever way the frames are read."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from jointformer.data.export_video import require_encoder
from jointformer.data.stream import InputSettings, open_stream
from jointformer.data.video_file import VideoFile
from jointformer.data.video_writer import Codec, VideoWriter

H, W, LENGTH = 48, 64, 24


def alpha(t: int) -> np.ndarray:
    """(H, W): a square that moves."""
    found = np.zeros((H, W), np.uint8)
    found[8:32, 4 + t : 28 + t] = 255
    return found


def write(path: Path, encoder: str, **options: str) -> Path:
    """A WebM of bright noise, another one every 9 frames: there the encoder begins anew, though not for the alpha."""
    require_encoder(encoder, path)
    options = {"crf": "10", "b": "0", "deadline": "good", "cpu-used": "5", "auto-alt-ref": "0", **options}
    with VideoWriter(
        path, Fraction(25), (H, W), codec=Codec("webm", encoder, "yuva420p", options, channels=4)
    ) as writer:
        for t in range(LENGTH):
            noise = np.random.default_rng(t // 9).integers(100, 255, (H // 8, W // 8, 3), np.uint8)
            writer.write(np.dstack([noise.repeat(8, 0).repeat(8, 1), alpha(t)]))
    return path


def remux(source: Path, target: Path, keeps: Callable[[int], bool]) -> Path:
    """The same packets in a file that says to have alpha, which those have that are kept as they are."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(opened.streams.video[0])
        stream.metadata["alpha_mode"] = "1"
        for number, packet in enumerate(opened.demux(video=0)):
            if packet.size:
                copy: Any = packet if keeps(number) else av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                container.mux(copy)
    return target


def colours(path: Path) -> np.ndarray:
    """The frames as FFmpeg's decoders give them: without alpha."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("width", [96, 97, 98, 100, 101])
def test_the_last_columns_of_a_frame_have_their_own_alpha(tmp_path: Path, width: int) -> None:
    image = np.full((H, width, 4), 200, np.uint8)
    image[: H // 2, :, 3], image[H // 2 :, :, 3] = 255, 0
    path, codec = tmp_path / "a.mkv", Codec("matroska", "ffv1", "yuva420p", {}, channels=4)
    with VideoWriter(path, Fraction(25), image.shape[:2], codec=codec) as writer:
        for _ in range(8):
            writer.write(image)
    expected = image[..., :3] * (image[..., 3:] > 0)
    for frame in VideoFile(path).iter_frames():
        assert np.array_equal(frame, expected)


@pytest.mark.parametrize("encoder", ["libvpx", "libvpx-vp9"])
def test_what_is_transparent_is_black_in_whatever_order_frames_are_read(tmp_path: Path, encoder: str) -> None:
    path = write(tmp_path / "cutout.webm", encoder, g="7")
    stored = colours(path)
    video = VideoFile(path)
    assert [video.time(t) for t in range(len(video))] == [Fraction(t, 25) for t in range(LENGTH)]
    frames = list(video.iter_frames())
    for t, (frame, colour) in enumerate(zip(frames, stored)):
        over_black = colour * (alpha(t)[..., None] > 0)
        assert np.abs(frame.astype(int) - over_black).mean() < 3
        assert np.abs(colour.astype(int) - over_black).mean() > 30
    for t in np.random.default_rng(0).permutation(LENGTH).tolist():
        assert np.array_equal(VideoFile(path).frame(t), frames[t])
    with open_stream(str(path), InputSettings("webm")) as stream:
        for one, frame in zip(stream.frames(), frames, strict=True):
            assert isinstance(one.picture, np.ndarray)
            assert np.array_equal(one.picture, frame)


def test_key_frames_of_the_picture_alone_are_no_place_to_begin_at(tmp_path: Path) -> None:
    path = write(tmp_path / "cutout.webm", "libvpx")
    with av.open(str(path)) as container:
        keys = [t for t, packet in enumerate(container.demux(video=0)) if packet.size and packet.is_keyframe]
    assert len(keys) > 1
    assert VideoFile(path)._index.keys == [0]


@pytest.mark.parametrize("kept", [0, 5])
def test_frames_whose_alpha_is_missing_are_opaque(tmp_path: Path, kept: int) -> None:
    """Browsers record all videos as if they had alpha; where the page is opaque, a frame has none."""
    whole = write(tmp_path / "whole.webm", "libvpx-vp9")
    frames, stored = list(VideoFile(whole).iter_frames()), colours(whole)
    got = list(VideoFile(remux(whole, tmp_path / "part.webm", lambda t: t < kept)).iter_frames())
    assert np.array_equal(got, [*frames[:kept], *stored[kept:]])


def test_an_alpha_that_comes_back_is_the_same_wherever_reading_began(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.webm", "libvpx-vp9", g="7")
    path = remux(whole, tmp_path / "part.webm", lambda t: t < 5 or t >= 16)  # key frames are 0, 7, 14 and 21
    frames, stored = list(VideoFile(whole).iter_frames()), colours(whole)
    expected = [*frames[:5], *stored[5:21], *frames[21:]]
    assert np.array_equal(list(VideoFile(path).iter_frames()), expected)
    assert np.array_equal([VideoFile(path).frame(t) for t in range(LENGTH)], expected)


def test_a_damaged_alpha_leaves_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "cutout.webm", "libvpx-vp9")
    monkeypatch.setattr("jointformer.data.video_alpha._alpha_of", lambda packet: b"\x82no alpha")
    assert np.array_equal(list(VideoFile(path).iter_frames()), colours(path))
