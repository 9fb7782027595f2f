"""Video files as exactly numbered frames, and frames as video files."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image, features

from jointformer.data.export_formats import export
from jointformer.data.export_source import FolderSource
from jointformer.data.export_video import require_encoder, varies
from jointformer.data.masks import write_mask
from jointformer.data.stream import InputSettings, open_stream
from jointformer.data.video import FolderVideo, VideoReader, open_video
from jointformer.data.video_file import VideoFile
from jointformer.data.video_writer import VideoWriter, h264
from jointformer.errors import DataError, OutputError
from jointformer.ops.tone_mapping import Curve, tone_mapped
from jointformer.types import UInt8Array

HEIGHT, WIDTH, LENGTH = 48, 64, 40


def picture(number: int) -> UInt8Array:
    """A frame that shows its number: six bright or dark fields are its bits."""
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for bit in range(6):
        image[8:40, 10 * bit + 2 : 10 * bit + 10] = 255 * (number >> bit & 1)
    image[:8] = (200, 30, 30)  # the upper edge is red
    return image


def number_in(image: UInt8Array) -> int:
    """The number that a frame shows."""
    return sum((int(image[12:36, 10 * bit + 4 : 10 * bit + 8].mean() > 127)) << bit for bit in range(6))


def make_video(
    path: Path,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    times: Callable[[int], int] = lambda k: k,
    rotation: int = 0,
    count: int = LENGTH,
    skip: int = 0,
) -> Path:
    """A video of numbered frames with small groups and B-frames; skip: so many packets at its beginning are missing."""
    if options is None:
        options = {"g": "12", "bf": "3"} if codec == "libx264" else {"g": "12"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        packets = []
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(picture(k), format="rgb24")
            frame.pts, frame.time_base = times(k), 1 / fps
            packets += stream.encode(frame)
        container.mux([*packets, *stream.encode()][skip:])
    return path


def add_sound(
    path: Path, out: Path, codec: str, seconds: float = 3.0, rate: int = 44_100, layout: str = "mono", silent: float = 0
) -> Path:
    """The video with a tone beside it, which begins after `silent` seconds."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream(codec, rate=rate)
        tone = (np.sin(np.arange(int(seconds * rate)) / 20) * 9000).astype(np.int16)
        tone[: int(silent * rate)] = 0
        resampler = av.AudioResampler(format=sound.format, layout=layout, rate=rate)
        sound.layout = layout
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for piece in resampler.resample(frame):
                target.mux(sound.encode(piece))
        target.mux(sound.encode(None))
    return out


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "b-frames": ("a.mp4", {}),
    "open groups": ("a.mkv", {"options": {"g": "10", "bf": "3", "x264-params": "open-gop=1"}}),
    "variable rate": ("a.mkv", {"times": lambda k: k * 3 + k % 2}),
    "first time not 0": ("a.mp4", {"times": lambda k: k + 37}),
    "transport stream": ("a.ts", {"times": lambda k: k + 50}),
    "10 bits": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "webm": ("a.webm", {"codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime", "cpu-used": "8"}}),
    "mov of pictures": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "avi with b-frames": ("a.avi", {}),
    "bare stream": ("a.h264", {}),
    "ntsc": ("a.mp4", {"fps": Fraction(30000, 1001)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frame_numbers_are_exact_in_any_order(tmp_path: Path, kind: str) -> None:
    name, options = KINDS[kind]
    video = VideoFile(make_video(tmp_path / name, **options))
    assert len(video) == LENGTH
    assert video.size == (HEIGHT, WIDTH)
    assert [number_in(frame) for frame in video.iter_frames()] == list(range(LENGTH))
    order = np.random.default_rng(0).permutation(LENGTH)[:20].tolist()
    assert [number_in(video.frame(k)) for k in order] == order
    assert [number_in(frame) for frame in video.iter_frames(29, 33)] == [29, 30, 31, 32]
    video.close()


def test_rates_and_times_are_the_files_own(tmp_path: Path) -> None:
    ntsc = VideoFile(make_video(tmp_path / "n.mp4", fps=Fraction(30000, 1001)))
    assert ntsc.fps == Fraction(30000, 1001)
    assert float(ntsc.time(30)) == pytest.approx(1.001)
    varying = VideoFile(make_video(tmp_path / "v.mkv", times=lambda k: 100 + k * 3 + k % 2))
    assert [round(float(varying.time(k)) * 25) for k in range(4)] == [0, 4, 6, 10]


ONE = 1 << 16  # of a display matrix (ISO/IEC 14496-12)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((-ONE, 0, 0, 0, ONE), lambda image: image[:, ::-1]),
        ((ONE, 0, 0, 0, -ONE), lambda image: image[::-1]),
        ((0, ONE, 0, ONE, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -ONE, 0, -ONE, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1)),
    ],
)
def test_mirrored_videos_are_seen_as_players_show_them(
    tmp_path: Path, matrix: tuple[int, ...], upright: Callable[[UInt8Array], UInt8Array]
) -> None:
    stored = VideoFile(make_video(tmp_path / "a.mp4", count=2)).frame(1)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 20] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    (tmp_path / "selfie.mp4").write_bytes(data)
    video = VideoFile(tmp_path / "selfie.mp4")
    assert video.size == upright(stored).shape[:2]
    assert np.array_equal(video.frame(1), upright(stored))
    with open_stream(str(tmp_path / "selfie.mp4"), InputSettings(format="mp4")) as stream:
        frames = list(stream.frames())
    assert stream.size == video.size
    second = frames[1].picture
    assert isinstance(second, np.ndarray)
    assert np.array_equal(second, upright(stored))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path: Path, rotation: int) -> None:
    video = VideoFile(make_video(tmp_path / "a.mp4", rotation=rotation, count=2))
    frame = video.frame(0)
    assert video.size == frame.shape[:2] == ((HEIGHT, WIDTH) if rotation == 180 else (WIDTH, HEIGHT))
    # The matrix turns counterclockwise: the red upper edge goes to the left at 90 degrees.
    edge = {90: frame[:, :4], 180: frame[-4:], 270: frame[:, -4:]}[rotation]
    assert edge[..., 0].mean() > 150
    assert edge[..., 1].mean() < 80


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("a.apng", "apng", "rgba"), ("a.mov", "prores_ks", "yuva444p10le"), ("a.gif", "", "")]
)
def test_transparency_is_laid_over_black_as_that_of_pictures(
    name: str, codec: str, pixels: str, tmp_path: Path
) -> None:
    image = np.full((HEIGHT, WIDTH, 4), (255, 0, 0, 0), np.uint8)
    image[8:24, 8:40], image[32:, 8:40] = (0, 255, 0, 255), (40, 80, 160, 102)
    if codec:
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"profile": "4444"} if "prores" in codec else {})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
            for _ in range(2):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgba").reformat(format=pixels)))
            container.mux(stream.encode())
    else:
        image[32:] = 0
        shown = [Image.fromarray(np.roll(image, k, 1)) for k in range(2)]
        shown[0].save(tmp_path / name, save_all=True, append_images=shown[1:], disposal=2)
    frame = VideoFile(tmp_path / name).frame(0)
    colours = [frame[place].tolist() for place in ((2, 2), (16, 24), (40, 24))]
    np.testing.assert_allclose(colours, [(0, 0, 0), (0, 255, 0), (16, 32, 64) if codec else (0, 0, 0)], atol=2)


def test_frames_handed_out_are_the_callers_own(tmp_path: Path) -> None:
    video = VideoFile(make_video(tmp_path / "a.mp4", count=3))
    first = video.frame(1)
    first[:] = 0
    assert number_in(video.frame(1)) == 1


def test_a_number_outside_the_video_is_an_index_error(tmp_path: Path) -> None:
    video = VideoFile(make_video(tmp_path / "a.mp4", count=3))
    for number in (-1, 3):
        with pytest.raises(IndexError):
            video.frame(number)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"a\.mp4: the video cannot be decoded"), (b"text" * 99, "the video cannot be decoded")],
)
def test_a_file_that_is_no_video_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        VideoFile(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)


def test_missing_videos_playlists_and_plain_sound_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_video(tmp_path / "a.mp4")
    real = make_video(tmp_path / "real.mp4")
    playlist = tmp_path / "a.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{real}\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match="the video cannot be decoded"):
        VideoFile(playlist)
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, sound.layout = 8000, "mono"
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(DataError, match="no video in the file"):
        VideoFile(tmp_path / "a.mka")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_truncated_video_is_one_line(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, options={"g": "12", "crf": "0"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def read_all() -> None:
        for _ in VideoFile(path).iter_frames():
            pass

    if name == "a.mkv":  # a shorter video, as every player sees it
        assert 0 < len(VideoFile(path)) < LENGTH
    else:
        with pytest.raises(DataError, match="the video cannot be decoded"):
            read_all()


def test_a_damaged_frame_is_named_and_the_others_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    with VideoWriter(path, Fraction(25), (120, 160)) as writer:
        for k in range(20):
            writer.write(np.roll(noise, 9 * k, 1))
    with av.open(str(path)) as container:
        packets = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    time, position, size = packets[11]
    data = bytearray(path.read_bytes())
    data[position + 5 : position + size] = b"\xff" * (size - 5)
    path.write_bytes(data)
    damaged = sorted(p[0] for p in packets).index(time)
    video = VideoFile(path)
    with pytest.raises(DataError, match=rf"a\.mp4: frame {damaged} of 20 cannot be decoded; the file is damaged"):
        list(video.iter_frames())
    assert len(list(video.iter_frames(0, damaged))) == damaged
    assert video.frame(0).shape == (120, 160, 3)


def with_packets(source: Path, target: Path, packets: Mapping[int, bytes]) -> Path:
    """The same video but for some of its packets, in the order of the file."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(opened.streams.video[0])
        for number, packet in enumerate(opened.demux(video=0)):
            if packet.size:
                copy: Any = av.Packet(packets.get(number, bytes(packet)))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.duration, copy.is_keyframe, copy.stream = packet.duration, packet.is_keyframe, stream
                container.mux(copy)
    return target


def with_damage(source: Path, target: Path, number: int) -> Path:
    """The same file whose packet of that number is damaged."""
    packet, data = packet_of(source, number), source.read_bytes()
    assert data.count(packet) == 1
    with av.open(str(source)) as container:
        # AV1's begins with a header, without which it is silently passed over.
        kept = 10 if container.streams.video[0].codec_context.name == "libdav1d" else 0
    target.write_bytes(data.replace(packet, packet[:kept].ljust(len(packet), b"\xff")))
    return target


def packet_of(path: Path, number: int) -> bytes:
    with av.open(str(path)) as container:
        return next(bytes(packet) for at, packet in enumerate(container.demux(video=0)) if at == number)


def numbers(frames: Iterable[UInt8Array | DataError]) -> list[int | None]:
    """The number that each frame shows, None for errors."""
    return [None if isinstance(frame, DataError) else number_in(frame) for frame in frames]


def numbers_streamed(path: Path) -> list[int | None]:
    """The numbers that frames show where the file is read as it comes."""
    format = {".mkv": "matroska", ".ts": "mpegts"}.get(path.suffix, path.suffix[1:])
    with open_stream(str(path), InputSettings(format)) as stream:
        frames = list(stream.frames())
    assert [frame.index for frame in frames] == list(range(len(frames)))
    return numbers(frame.picture for frame in frames)


#: A picture of MPEG-4 that is not coded, at the time of frame 6 of 25 frames/s.
NOT_CODED = bytes.fromhex("000001b6534f")
NO_PICTURE = b"\x55" * 200


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize(("name", "codec"), [("webm", "libvpx"), ("mp4", "mpeg4")])
def test_packets_that_show_nothing_are_no_frames(tmp_path: Path, name: str, codec: str, damaged: bool) -> None:
    whole = make_video(tmp_path / f"a.{name}", codec=codec, count=12, options={"g": "20" if codec == "libvpx" else "1"})
    first = packet_of(whole, 6)
    nothing = NOT_CODED if codec == "mpeg4" else bytes([first[0] & ~0x10]) + first[1:]
    path = with_packets(whole, tmp_path / f"b.{name}", {6: nothing} | ({9: NO_PICTURE[:10]} if damaged else {}))
    video = VideoFile(path)
    found = numbers(video.iter_readable())
    assert [number for number in found if number is not None][:8] == [0, 1, 2, 3, 4, 5, 7, 8]
    assert [at for at, number in enumerate(found) if number is None] == [8] * damaged
    assert len(video) == len(found) == 11
    assert found == numbers_streamed(path)
    assert [float(video.time(k)) for k in (5, 6)] == [0.2, 0.28]
    assert number_in(video.frame(7)) == 8


@pytest.fixture(params=[1, 3, 16])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders with so many threads, as processors of more or fewer cores have them."""
    from jointformer.data.video_container import video_stream

    def with_threads(container: Any, path: Path) -> Any:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = request.param
        return stream

    for module in ("video_file", "stream"):
        monkeypatch.setattr(f"jointformer.data.{module}.video_stream", with_threads)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("hurt", [0, 3, 14, 18, 19])
@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.mov", "png", "rgb24"), ("a.mkv", "mpeg4", "yuv420p"), ("a.mkv", "libsvtav1", "yuv420p")],
)
def test_a_damaged_frame_takes_none_of_the_others_along_on_any_number_of_cores(
    tmp_path: Path, name: str, codec: str, pixels: str, hurt: int
) -> None:
    options = {"g": "1"} if codec == "mpeg4" else {"svtav1-params": "keyint=1"} if codec == "libsvtav1" else {}
    require_encoder(codec, tmp_path)
    whole = make_video(tmp_path / name, codec=codec, pix_fmt=pixels, count=20, options=options)
    path = with_damage(whole, tmp_path / f"b{whole.suffix}", hurt)
    expected = [None if k == hurt else k for k in range(20)]
    assert numbers(VideoFile(path).iter_readable()) == expected
    assert [number_in(VideoFile(path).frame(k)) for k in range(20) if k != hurt] == [k for k in range(20) if k != hurt]
    assert numbers_streamed(path) == expected[hurt == 0 :]  # a stream begins with what can be decoded


@pytest.mark.usefixtures("threads")
def test_what_threads_lose_in_the_middle_of_a_file_is_found(tmp_path: Path) -> None:
    require_encoder("libsvtav1", tmp_path)
    whole = make_video(tmp_path / "a.mkv", codec="libsvtav1", count=60, options={"svtav1-params": "keyint=10"})
    path = with_damage(whole, tmp_path / "b.mkv", 20)
    found = [at for at, number in enumerate(numbers(VideoFile(path).iter_readable())) if number is None]
    assert found[0] == 20
    assert found == [at for at, number in enumerate(numbers_streamed(path)) if number is None]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.h264", "libx264")])
def test_short_videos_without_times_are_read_whole(tmp_path: Path, name: str, codec: str, count: int) -> None:
    path = make_video(tmp_path / name, codec=codec, count=count, options={"g": "12", "bf": "2"})
    video = VideoFile(path)
    assert len(video) == count
    assert [number_in(frame) for frame in video.iter_frames()] == list(range(count))
    assert number_in(video.frame(count - 1)) == count - 1


@pytest.mark.usefixtures("threads")
def test_a_damaged_frame_of_a_video_without_times_counts_as_it_does_in_a_stream(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "a.avi", codec="mpeg4", count=20, options={"g": "5", "bf": "2"})
    path = with_packets(whole, tmp_path / "b.avi", {17: NO_PICTURE})
    video = VideoFile(path)
    found = numbers(video.iter_readable())
    assert (len(video), found.count(None)) == (20, 1)
    assert found == numbers_streamed(path)
    assert [numbers([video.frame(k)])[0] for k, number in enumerate(found) if number is not None] == [
        number for number in found if number is not None
    ]


def test_reordered_frames_of_an_avi_have_the_times_in_a_stream_that_they_have_in_a_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", count=8)
    with open_stream(str(path), InputSettings("avi")) as stream:
        assert [frame.time for frame in stream.frames()] == [Fraction(k, 25) for k in range(8)]
    assert [VideoFile(path).time(k) for k in range(8)] == [Fraction(k, 25) for k in range(8)]


def test_an_interrupted_frame_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoFile(make_video(tmp_path / "a.mp4", count=6))
    assert number_in(video.frame(2)) == 2
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr("jointformer.data.video_file.to_rgb", Mock(side_effect=KeyboardInterrupt))
        video.frame(3)
    assert number_in(video.frame(3)) == 3


def test_frames_of_another_size_are_errors_and_the_others_are_read(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "a.mov", codec="png", pix_fmt="rgb24", count=6, options={})
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "PNG")
    path = with_packets(whole, tmp_path / "b.mov", {2: file.getvalue(), 3: file.getvalue()})
    video = VideoFile(path)
    assert numbers(video.iter_readable()) == [0, 1, None, None, 4, 5]
    line = r"b\.mov: the frame size changes, expected 64x48 as the first frame, got 9x9$"
    with pytest.raises(DataError, match=line):
        list(video.iter_frames())
    for number in (2, 3, 3):
        with pytest.raises(DataError, match=line):
            video.frame(number)
    assert [number_in(video.frame(k)) for k in (4, 1)] == [4, 1]


def test_a_folder_of_pictures_is_a_video_too(tmp_path: Path) -> None:
    for k in (0, 2, 10):
        Image.fromarray(picture(k)).save(tmp_path / f"{k}.png")
    video: VideoReader = open_video(tmp_path, fps=Fraction(10))
    assert isinstance(video, FolderVideo)
    assert [number_in(frame) for frame in video.iter_frames()] == [0, 2, 10]
    assert [number_in(frame) for frame in video.iter_frames(1, 2)] == [2]
    assert (video.name(2), video.time(2), video.size) == ("10", Fraction(1, 5), (HEIGHT, WIDTH))
    Image.new("RGB", (9, 9)).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"2\.png: the frame size changes, expected 64x48 as the first frame, got 9x9"):
        video.frame(1)
    with pytest.raises(DataError, match="holds no pictures"):
        FolderVideo(_empty(tmp_path / "none"))


def test_a_folder_of_files_that_are_no_pictures_names_one(tmp_path: Path) -> None:
    for name in ("IMG_10.HEIC", "IMG_9.HEIC", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    line = r"holds no pictures that can be read, expected JPEG, .*, got IMG_9\.HEIC and 1 more; convert them$"
    with pytest.raises(DataError, match=line):
        FolderVideo(tmp_path)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(24000, 1001), Fraction(15, 2)])
def test_a_written_video_keeps_rate_order_and_colours(tmp_path: Path, fps: Fraction) -> None:
    with VideoWriter(tmp_path / "out" / "a.mp4", fps, (HEIGHT, WIDTH)) as writer:
        for k in range(LENGTH):
            writer.write(picture(k))
        assert not (tmp_path / "out" / "a.mp4").exists()
    video = VideoFile(tmp_path / "out" / "a.mp4")
    assert (len(video), video.fps) == (LENGTH, fps)
    assert [number_in(frame) for frame in video.iter_frames()] == list(range(LENGTH))
    np.testing.assert_allclose(video.frame(5)[2:5, 4:60].mean((0, 1)), (200, 30, 30), atol=8)


BARS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (200, 60, 60), (60, 120, 200), (0, 0, 0), (90, 90, 90)]


#: The shares of red and blue in the brightness, by AVColorSpace: BT.709, BT.601, BT.2020.
SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def bars_coded(width: int, coded: int, *, whole_range: bool) -> np.ndarray:
    """The bars as the planes of a yuv420p picture, (48, width): FFmpeg's own way there is what is tested."""
    red, blue = SHARES[coded]
    rgb = np.repeat(np.array(BARS, float)[None] / 255, width // len(BARS), 1).repeat(32, 0)
    bright = rgb @ (red, 1 - red - blue, blue)
    colours = [(rgb[..., k] - bright)[::2, ::2] / (2 - 2 * share) for k, share in ((2, blue), (0, red))]
    bright = 255 * bright if whole_range else 16 + 219 * bright
    planes = [bright, *(128 + (255 if whole_range else 224) * colour for colour in colours)]
    return np.rint(np.concatenate([plane.clip(0, 255).ravel() for plane in planes])).astype(np.uint8).reshape(48, width)


def write_bars(path: Path, width: int, codec: str, coded: int, said: int | None, *, curve: int | None = None) -> Path:
    """A video of coloured bars that are coded in one way (of AVColorSpace), and said to be in another or in none.

    curve: of AVColorTransferCharacteristic.
    """
    whole_range = codec == "mjpeg"
    pixels = "yuvj420p" if whole_range else "yuv420p"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={} if whole_range else {"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, width, pixels
        if said is not None:
            stream.codec_context.colorspace = said
        if curve is not None:
            stream.codec_context.color_trc = curve
        frame = av.VideoFrame.from_ndarray(bars_coded(width, coded, whole_range=whole_range), format=pixels)
        frame.colorspace, frame.color_range = said or 2, 2 if whole_range else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("width", "codec", "coded", "said"),
    [
        (1280, "libx264", 1, None),
        (1280, "libx264", 1, 1),
        (1280, "libx264", 5, 5),
        (1280, "libx264", 9, 9),
        (1272, "libx264", 5, None),
        (1280, "mjpeg", 5, None),
    ],
)
def test_colours_are_those_that_players_show(
    tmp_path: Path, width: int, codec: str, coded: int, said: int | None
) -> None:
    path = write_bars(tmp_path / "bars.mkv", width, codec, coded, said)
    with open_stream(str(path), InputSettings("matroska")) as stream:
        streamed = next(stream.frames()).picture
    side = width // len(BARS)
    for image in (VideoFile(path).frame(0), streamed):
        assert isinstance(image, np.ndarray)
        seen = [image[16, k * side + side // 2] for k in range(len(BARS))]
        np.testing.assert_allclose(seen, BARS, atol=5)


@pytest.mark.parametrize("said", [9, None])
@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_seen_as_ordinary_screens_show_it(tmp_path: Path, curve: int, name: Curve, said: int | None) -> None:
    path = write_bars(tmp_path / "bars.mkv", 1280, "libx264", 9, said, curve=curve)
    with open_stream(str(path), InputSettings("matroska")) as stream:
        streamed = next(stream.frames()).picture
    for image in (VideoFile(path).frame(0), streamed):
        assert isinstance(image, np.ndarray)
        shown = 255 * tone_mapped(np.array(BARS) / 255, name)
        # Pure colours are no colours of BT.709: what the codec rounds there is seen tenfold.
        np.testing.assert_allclose(image[16, 80::160][3:], shown[3:], atol=8)


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG"), (1, None)])
def test_an_hdr_video_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, curve: int, name: str | None
) -> None:
    caplog.set_level("INFO")
    with av.open(str(tmp_path / "bars.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p10le"
        stream.codec_context.color_trc = curve
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p10le")))
        container.mux(stream.encode())
    for _ in range(2):
        assert VideoFile(tmp_path / "bars.mkv").frame(0).shape == (32, 32, 3)
    with open_stream(str(tmp_path / "bars.mkv"), InputSettings("matroska")) as streamed:
        next(streamed.frames())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (name is not None)
    assert all(f"bars.mkv: an HDR video ({name}), read as ordinary screens show it" in text for text in told)


def test_an_overlays_colours_are_the_videos_own(tmp_path: Path) -> None:
    video = VideoFile(write_bars(tmp_path / "bars.mp4", 1280, "libx264", 1, None))
    with VideoWriter(tmp_path / "out.mp4", video.fps, video.size, codec=h264(1)) as writer:
        writer.write(video.frame(0))
    np.testing.assert_allclose(VideoFile(tmp_path / "out.mp4").frame(0)[:, 80::160], video.frame(0)[:, 80::160], atol=4)


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (3, 400)])
def test_odd_sizes_are_padded_to_even_ones(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), size) as writer:
        for _ in range(3):
            writer.write(np.full((*size, 3), 200, np.uint8))
    video = VideoFile(tmp_path / "a.mp4")
    assert video.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert abs(int(video.frame(1).mean()) - 200) < 4


def test_varying_times_are_kept(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(11, 10)]
    with VideoWriter(tmp_path / "a.mp4", Fraction(10), (HEIGHT, WIDTH), variable=True) as writer:
        for k, time in enumerate(times):
            writer.write(picture(k), time)
    video = VideoFile(tmp_path / "a.mp4")
    assert [float(video.time(k)) for k in range(4)] == pytest.approx([float(t) for t in times], abs=1e-4)


def test_a_frame_that_is_left_out_leaves_the_others_in_their_places(tmp_path: Path) -> None:
    places, rate = [0, 1, 4, 5], Fraction(24000, 1001)
    with VideoWriter(tmp_path / "a.mp4", rate, (HEIGHT, WIDTH)) as writer:
        for k in places:
            writer.write(picture(k), k / rate)
    video = VideoFile(tmp_path / "a.mp4")
    assert [video.time(k) for k in range(4)] == [k / rate for k in places]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", "mp4"), ("libmp3lame", "mkv"), ("libmp3lame", "avi"), ("pcm_s16le", "mkv")]
)
def test_the_sound_of_the_original_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, suffix: str
) -> None:
    source = add_sound(make_video(tmp_path / f"v.{suffix}"), tmp_path / f"s.{suffix}", codec)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source) as writer:
        for k in range(LENGTH):
            writer.write(picture(k))
    with av.open(str(tmp_path / "a.mp4")) as container:
        (track,) = container.streams.audio
        samples = np.concatenate([f.to_ndarray().ravel() for f in container.decode(track)])
        seconds = len(samples) / track.codec_context.sample_rate
    assert seconds == pytest.approx(LENGTH / 25, abs=0.1)  # not the 3 s of the source
    assert np.abs(samples.astype(np.float64)).mean() > 0.01
    assert not caplog.messages


@pytest.mark.parametrize(
    ("rate", "layout", "kept", "channels"),
    [
        (22_050, "mono", 22_050, 1),
        (44_100, "stereo", 44_100, 2),
        (37_800, "mono", 48_000, 1),
        (48_000, "5.1", 48_000, 2),
    ],
)
def test_encoded_sound_keeps_its_rate_and_channels_where_aac_has_them(
    tmp_path: Path, rate: int, layout: str, kept: int, channels: int
) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / "s.mkv", "pcm_s16le", rate=rate, layout=layout)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source) as writer:
        for k in range(LENGTH):
            writer.write(picture(k))
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = container.streams.audio[0].codec_context
        assert (track.name, track.sample_rate, track.channels) == ("aac", kept, channels)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_lasts_as_long_as_frames_of_varying_times(tmp_path: Path, codec: str) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / "s.mkv", codec)
    with VideoWriter(tmp_path / "a.mp4", Fraction(5), (HEIGHT, WIDTH), variable=True, audio_from=source) as writer:
        for time in (Fraction(0), Fraction(1, 10), Fraction(2)):
            writer.write(picture(0), time)
    with av.open(str(tmp_path / "a.mp4")) as container:
        last = list(container.decode(audio=0))[-1]
    assert float(last.time) + last.samples / last.sample_rate == pytest.approx(2.2, abs=0.05)


def test_the_sound_of_a_part_begins_with_the_part(tmp_path: Path) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / "s.mp4", "aac", seconds=1.6)
    start = Fraction(1)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source, audio_start=start) as writer:
        for k in range(25, LENGTH):
            writer.write(picture(k))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(container.streams.audio[0]))
    assert float(frames[0].time) < 0.05
    assert float(frames[-1].time) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 5)])
def test_copied_sound_is_whole_from_its_first_moment(tmp_path: Path, suffix: str, start: Fraction) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / f"s.{suffix}", "aac", rate=48_000)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source, audio_start=start) as writer:
        for k in range(5):
            writer.write(picture(k))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(audio=0))
    # Without the packet before, a decoder fades the first 1024 samples in, and what lies before them is missing.
    assert frames[0].time <= 0.001
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])[:2048]
    loud = np.sqrt((sound.reshape(8, 256) ** 2).mean(1))
    assert loud[4:].min() > 0.15
    assert loud[0] == pytest.approx(loud[4:].mean(), rel=0.2)


def test_encoded_sound_is_whole_from_its_first_moment_within_a_packet(tmp_path: Path) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / "s.mkv", "mp2", rate=48_000)
    start = Fraction(1, 25)  # mp2 has packets of 24 ms
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source, audio_start=start) as writer:
        for k in range(5):
            writer.write(picture(k))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(audio=0))
    assert frames[0].time <= 0.001
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])[256:2304]
    loud = np.sqrt((sound.reshape(8, 256) ** 2).mean(1))
    assert loud == pytest.approx(loud[4:].mean(), rel=0.2)


@pytest.mark.parametrize(("codec", "suffix"), [("mp2", "mkv"), ("libmp3lame", "mkv"), ("aac", "ts")])
def test_damaged_sound_is_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, suffix: str
) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / f"s.{suffix}", codec, rate=48_000)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0)]
    data = bytearray(source.read_bytes())
    for packet in packets[4:24:5]:
        at = data.index(packet[:40])
        # No header at all; or one of a kind that cannot be copied: several blocks with checksums.
        data[at : at + 7] = packet[:1] + b"\xf0" + packet[2:6] + b"\xff" if codec == "aac" else bytes(7)
    source.write_bytes(data)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source) as writer:
        for k in range(LENGTH):
            writer.write(picture(k))
    (said,) = caplog.messages
    assert said.startswith(f"{source}: some sound is damaged and left out (")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == LENGTH
        container.seek(0)
        last = [frame.time for frame in container.decode(audio=0)][-1]
    assert last == pytest.approx(LENGTH / 25, abs=0.15)


def test_sound_of_an_unknown_kind_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / "s.mkv", "mp2", rate=48_000)
    source.write_bytes(source.read_bytes().replace(b"A_MPEG/L2", b"A_XPEG/L2"))
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source) as writer:
        writer.write(picture(0))
    assert caplog.messages == [f"{source}: some sound is damaged and left out (unknown codec)"]


def test_an_original_without_sound_gives_a_silent_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4")
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=source) as writer:
        writer.write(picture(0))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert not container.streams.audio


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4", Fraction(25), (8, 8)) as writer:  # noqa: PT012
        writer.write(np.zeros((8, 8, 3), np.uint8))
        raise ZeroDivisionError
    with (
        pytest.raises(OutputError, match="no frames for a video"),
        VideoWriter(tmp_path / "a.mp4", Fraction(25), (8, 8)),
    ):
        pass
    with VideoWriter(tmp_path / "b.mp4", Fraction(25), (8, 8)) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ValueError, match=r"expected a frame of shape \(8, 8, 3\)"):
            writer.write(np.zeros((9, 8, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("frames", [3, 60], ids=["at the end", "on the way"])
def test_a_video_that_the_disk_does_not_take_is_one_line_and_leaves_nothing(tmp_path: Path, frames: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    path = tmp_path / "a.mp4"
    line = f"^{re.escape(str(path))}: cannot be written: the file is too large for .*; choose another output folder$"
    film = VideoWriter(path, Fraction(25), noise.shape[:2])
    with pytest.raises(OutputError, match=line), film:  # noqa: PT012
        for k in range(frames):
            film.write(np.roll(noise, k * 7))
    assert list(tmp_path.iterdir()) == []


def without_first_packet(path: Path, out: Path) -> Path:
    """A transport stream (188-byte packets) cut so that its first frames lack their key frame."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        second = [packet.pos for packet in container.demux(video=0) if packet.size][1]
    out.write_bytes(data[: 188 * 3] + data[second - second % 188 :])
    return out


#: A key frame every 12 frames and nowhere else.
SMALL_GROUPS = {"g": "12", "bf": "3", "x264-params": "scenecut=0"}
VP9_GROUPS = {"g": "12", "deadline": "realtime", "cpu-used": "8"}


@pytest.mark.parametrize(
    ("name", "codec", "options", "first"),
    [
        ("a.ts", "libx264", SMALL_GROUPS, 12),
        ("a.ts", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0:scenecut=0"}, 14),
        ("a.webm", "libvpx-vp9", VP9_GROUPS, 12),
        ("a.mkv", "libsvtav1", {"g": "12", "preset": "10", "svtav1-params": "pred-struct=1"}, 12),
    ],
)
def test_a_file_that_begins_between_key_frames_begins_with_the_first_that_players_show(
    name: str, codec: str, options: dict[str, str], first: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_encoder(codec, tmp_path)
    path = make_video(tmp_path / name, codec=codec, options=options, skip=1)
    video = VideoFile(path)
    assert [number_in(frame) for frame in video.iter_frames()] == list(range(first, LENGTH))
    assert [number_in(video.frame(k)) - first for k in (20, 0, 7)] == [20, 0, 7]
    assert [float(video.time(k)) for k in (0, 1)] == [0, 0.04]
    assert f"{path}: it begins with {first - 1} frames that lack their key frame: left out" in caplog.text
    assert numbers_streamed(path) == list(range(first, LENGTH))  # the same frames under the same numbers


def test_a_file_without_any_key_frame_is_one_line(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.webm", codec="libvpx-vp9", options=VP9_GROUPS, count=9, skip=1)
    with pytest.raises(DataError, match=r"a\.webm: the video cannot be decoded, got invalid data found"):
        VideoFile(path)


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_sound_stays_with_the_picture_where_a_file_begins_between_key_frames(tmp_path: Path, codec: str) -> None:
    heard = add_sound(make_video(tmp_path / "v.mp4", options=SMALL_GROUPS), tmp_path / "s.ts", codec, silent=1.0)
    masks = tmp_path / "masks"
    write_mask(masks / "00000.png", np.ones((HEIGHT, WIDTH), np.uint8))
    source = FolderSource(masks, VideoFile(without_first_packet(heard, tmp_path / "b.ts")))
    export(source, "overlay", tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        pieces = [(float(f.time), f.to_ndarray()[0]) for f in container.decode(audio=0)]
    onset = next(t + np.argmax(abs(x) > 0.05) / 44_100 for t, x in pieces if (abs(x) > 0.05).any())
    assert onset == pytest.approx(1.0 - 12 / 25, abs=0.02)  # frame 12 is the first


@pytest.mark.parametrize(("codec", "start", "heard"), [("aac", 0, True), ("mp2", 29, False)])
def test_sound_of_joined_recordings_is_never_that_of_other_pictures(
    codec: str, start: int, heard: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = add_sound(make_video(tmp_path / "1.ts", count=25), tmp_path / "1s.ts", codec, 1.0)
    second = add_sound(make_video(tmp_path / "2.ts"), tmp_path / "2s.ts", codec, 1.6, silent=1.2)
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    write_mask(tmp_path / "masks" / "00000.png", np.ones((HEIGHT, WIDTH), np.uint8))
    source = FolderSource(tmp_path / "masks", VideoFile(tmp_path / "both.ts"))
    export(source, "overlay", tmp_path / "a.mp4", start=start)
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = container.decode(audio=0) if container.streams.audio else ()
        pieces = [(float(f.time), f.to_ndarray()[0]) for f in decoded]
    loud = [time for time, sound in pieces if (abs(sound) > 0.05).any()]
    assert (max(loud, default=0) > 0.5, max(loud, default=0) < 1.1) == (heard, True)
    line = "both.ts: some sound is damaged and left out (recordings were joined: that of the first is kept)"
    assert sum(message.endswith(line) for message in caplog.messages) == 1


def with_cut_sound(path: Path, out: Path, parts: list[tuple[int, int]]) -> Path:
    """The same mp4 or mov, of whose sound the parts of (milliseconds, first sample) are heard one after the other."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"elst")  # of the last track: the kind of box, flags, how many parts; each with its speed (1)
    (zero,) = struct.unpack_from(">i", data, at + 16)
    edits = b"".join(struct.pack(">IiI", length, zero + first, 1 << 16) for length, first in parts)
    data[at + 8 : at + 24] = struct.pack(">I", len(parts)) + edits
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = data.rindex(box, 0, at + 4) - 4
        (size,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">I", data, place, size + len(edits) - 12)
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(("codec", "suffix"), [("aac", "mp4"), ("libmp3lame", "mov")])
@pytest.mark.parametrize("start", [0, 5, 25])
def test_sound_cut_by_an_edit_list_is_kept_behind_the_cut(
    codec: str, suffix: str, start: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = add_sound(make_video(tmp_path / "v.mp4"), tmp_path / f"s.{suffix}", codec, silent=1.0)
    path = with_cut_sound(whole, tmp_path / f"c.{suffix}", [(800, 0), (800, 61_740)])  # to 0.8 s, on from 1.4 s
    with VideoWriter(
        tmp_path / "a.mp4", Fraction(25), (HEIGHT, WIDTH), audio_from=path, audio_start=Fraction(start, 25)
    ) as writer:
        for k in range(start, LENGTH):
            writer.write(picture(k))
    assert not caplog.messages
    with av.open(str(tmp_path / "a.mp4")) as container:
        pieces = [(float(f.time), f.to_ndarray()[0]) for f in container.decode(audio=0)]
    loud = [t + k / 44_100 for t, x in pieces for k in np.flatnonzero(abs(x) > 0.05)]
    assert [loud[0], loud[-1]] == pytest.approx([max(0, 0.8 - start / 25), 1.6 - start / 25], abs=0.03)


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
def test_a_frame_is_found_from_the_key_frame_before_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = VideoFile(make_video(tmp_path / name, options=SMALL_GROUPS))
    real, decoded = video._numbered, []

    def counted(*arguments: Any) -> Iterator[tuple[int, Any]]:
        decoded.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(video, "_numbered", counted)
    for number in (30, 23, 12, 36, 0, 24):
        assert number_in(video.frame(number)) == number
    assert len(decoded) == 6  # each at the first try


@pytest.mark.parametrize("later", [0, 7])
def test_recordings_joined_end_to_end_are_read_to_the_end(tmp_path: Path, later: int) -> None:
    first = make_video(tmp_path / "1.ts", count=30)
    second = make_video(tmp_path / "2.ts", count=24, times=lambda k: k + later)  # its clock begins anew
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    video = VideoFile(path)
    wanted = [*range(30), *range(24)]
    assert [number_in(frame) for frame in video.iter_frames()] == wanted
    assert number_in(video.frame(40)) == wanted[40]
    assert float(video.time(53)) == pytest.approx(53 / 25)


def test_an_animated_avif_is_more_than_its_first_picture(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    shown = [Image.fromarray(picture(k)) for k in range(6)]
    shown[0].save(tmp_path / "a.avif", save_all=True, append_images=shown[1:], duration=100)
    video = VideoFile(tmp_path / "a.avif")
    assert [number_in(frame) for frame in video.iter_frames()] == list(range(6))
    assert float(video.time(1)) == pytest.approx(0.1)


def test_a_rate_that_only_the_clock_has_is_measured(tmp_path: Path) -> None:
    # As browsers record: Matroska without a frame's usual duration (element 23E383), in milliseconds.
    path = make_video(
        tmp_path / "a.mkv", fps=Fraction(1000), times=lambda k: k * 40 + (k % 3) * 7, options={"bf": "0", "g": "12"}
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83")
    length = 4 + (data[at + 3] & 0x7F)
    data[at : at + length] = bytes([0xEC, 0x80 | length - 2]) + bytes(length - 2)  # a void element
    path.write_bytes(data)
    video = VideoFile(path)
    assert float(video.fps) == pytest.approx(25, rel=0.01)
    assert float(video.time(2)) == pytest.approx(0.094)


def test_times_of_a_slow_video_are_kept_to_20_milliseconds() -> None:
    late = [Fraction(0), Fraction(4, 100), Fraction(1, 100)]
    slow: Any = SimpleNamespace(fps=Fraction(4), time=lambda k: Fraction(k, 4) + late[k])
    assert varies(slow, range(3))
    late[1] = Fraction(1, 100)
    assert not varies(slow, range(3))


def test_a_camera_of_a_thousand_frames_a_second_keeps_its_rate(tmp_path: Path) -> None:
    assert VideoFile(make_video(tmp_path / "a.mp4", fps=Fraction(1000))).fps == 1000


def test_metadata_in_another_encoding_do_not_matter(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", count=3)
    data = path.read_bytes()
    assert b"VideoHandler" in data
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xe9o\xffandler"))
    assert len(VideoFile(path)) == 3
