"""Clips made in batches by tensor operations: the same clips as one at a time on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data_stills.conftest import centroid, ellipse_still, write_stills
from jointformer.data.clips import batches, stills
from jointformer.data.clips.appearance import Appearance, draw_appearance, motion_blur
from jointformer.data.clips.batches import StillsBatches
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.cutouts import fill_hole
from jointformer.data.clips.device import DevicePack, dense_grids, device_grids, level_of
from jointformer.data.clips.device_look import apply_tones, compress, fill_holes, gaussian_blur, smear
from jointformer.data.clips.motion import CELLS, draw_motions, local_grids
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.render import dense_map
from jointformer.data.clips.stills import StillsClips

CPU = torch.device("cpu")
CONFIG = ClipConfig(size=64, width=96, frames=5)


@pytest.fixture(scope="module")
def device_pack(pack: StillsPack) -> DevicePack:
    return DevicePack(pack, CPU)


def _picture(height: int = 48, width: int = 64) -> np.ndarray:
    coarse = np.random.default_rng(5).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).float().permute(2, 0, 1)[None]


def test_batches_are_the_clips_of_the_cpu(pack: StillsPack, device_pack: DevicePack) -> None:
    config = replace(CONFIG, smallest=0.0)
    single = StillsClips(pack, config, seed=2)
    batch = StillsBatches(device_pack, config, seed=2).sample(range(24))
    overlap, colour, layers = [], [], []
    for index in range(24):
        clip = single.sample(index)
        ours = batch.label_maps[index].numpy()
        overlap.append((ours == clip.label_maps).mean())
        colour.append(np.abs(batch.frames[index].numpy().astype(int) - clip.frames).mean())
        assert clip.points is not None
        theirs = batch.points[index].numpy()
        same = theirs[..., 0] == clip.points[..., 0]
        layers.append(same.mean())
        if overlap[-1] > 0.985 and same.all():  # the same points from another origin and, in flipped layers, mirrored
            extent, wanted = (np.ptp(points[points[..., 0] == 0], axis=0) for points in (theirs, clip.points))
            assert np.allclose(extent, wanted, atol=0.05)
    # Rejected clips are drawn again on the CPU only, so some differ altogether.
    assert np.median(overlap) > 0.985
    assert np.median(colour) < 4.0
    assert np.median(layers) > 0.99


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[StillsPack, DevicePack]:
    """Stills of which every other one has a second partition into regions."""
    folder = write_stills(tmp_path_factory.mktemp("partitions"))
    with (folder / "manifest.csv").open("a", encoding="utf-8") as manifest:
        for number in range(0, 8, 2):
            with Image.open(folder / f"{number}_mask.png") as mask:
                Image.fromarray(np.asarray(mask)[::-1]).save(folder / f"{number}_other.png")
            manifest.write(f"bsds500,{number}.png,{number}_other.png,96,144,3\n")
    pack = StillsPack(folder)
    return pack, DevicePack(pack, CPU)


def _set_look(monkeypatch: pytest.MonkeyPatch, **look: Any) -> None:
    """Clips of both kinds get this look instead of the drawn one."""

    def draw(rng: np.random.Generator, frames: int, side: float, strength: float) -> Appearance:
        drawn = draw_appearance(rng, frames, side, strength)
        return replace(drawn, blur=np.zeros(frames), **look)

    monkeypatch.setattr(stills, "draw_appearance", draw)
    monkeypatch.setattr(batches, "draw_appearance", draw)


@pytest.mark.parametrize(
    ("kind", "frames"),
    [
        ({"own_share": 1.0, "lifted_share": 0.0}, 5),
        ({"own_share": 0.0, "lifted_share": 1.0}, 1),  # a hole is filled from what a frame shows around it
        ({"own_share": 0.0, "lifted_share": 0.0, "blob_share": 1.0}, 5),
        ({"own_share": 0.0, "lifted_share": 0.0, "blob_share": 0.0, "full_share": 1.0}, 5),
        ({"own_share": 0.0, "blob_share": 0.0, "travel_share": 1.0, "grow_share": 1.0, "difficulty": 1.0}, 1),
        ({"own_share": 0.0, "lifted_share": 0.0, "blob_share": 0.0, "travel_share": 1.0, "meet_share": 1.0}, 1),
    ],
    ids=["own", "lifted", "blobs", "pasted", "far and growing", "met"],
)
def test_every_clip_of_every_kind_is_the_cpus(
    packs: tuple[StillsPack, DevicePack], kind: dict[str, float], frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, device_pack = packs
    _set_look(monkeypatch, noise=0.0, quality=0)
    config = replace(CONFIG, smallest=0.0, **kind)  # type: ignore[arg-type]
    batch = StillsBatches(device_pack, config, seed=2).sample(range(8))
    for index in range(8):
        clip = StillsClips(pack, config, seed=2).sample(index)
        assert (batch.label_maps[index].numpy() == clip.label_maps).mean() > 0.97
        apart = batch.frames[index].numpy().astype(np.float32) - clip.frames
        assert max(np.abs(cv2.blur(frame, (9, 9))).mean() for frame in apart[:frames]) < 1.6


def test_noise_is_as_strong_as_the_look_asks_for(
    pack: StillsPack, device_pack: DevicePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean: list[np.ndarray] = []
    noisy: list[np.ndarray] = []
    for found, sigma in ((clean, 0.0), (noisy, 8.0)):
        _set_look(monkeypatch, noise=sigma, quality=0)
        batch = StillsBatches(device_pack, CONFIG).sample([0])
        found += [StillsClips(pack, CONFIG).sample(0).frames, batch.frames[0].numpy()]
    for before, after in zip(clean, noisy, strict=True):
        inner = (before > 40) & (before < 215)
        assert (after.astype(float) - before)[inner].std() == pytest.approx(8.0, rel=0.03)


def test_what_lies_beyond_a_stills_edge_is_mirrored_or_ends(stills_folder: Path) -> None:
    Image.fromarray(np.full((144, 96), 5, np.uint8)).save(stills_folder / "whole.png")
    with (stills_folder / "manifest.csv").open("a", encoding="utf-8") as manifest:
        manifest.write("bsds500,0.png,whole.png,96,144,1\n")
    pack = DevicePack(StillsPack(stills_folder), CPU)
    still, rows, level = pack.pack[0], torch.tensor([pack.row(0, 1)]), torch.tensor([0])
    rng = np.random.default_rng(0)
    # OpenCV interpolates at 32nds of a pixel; odd ones are never half-way between two.
    x, y = (
        ((2 * rng.integers(-40 * 16, (side + 40) * 16, (40, 50)) + 1) / 32).astype(np.float32) for side in (96, 144)
    )
    places = torch.from_numpy(np.stack([x, y], -1))[None, None]
    values = torch.zeros(1, 256)
    values[0, 5] = 0.5
    for reflect, border in ((True, cv2.BORDER_REFLECT_101), (False, cv2.BORDER_REPLICATE)):
        colours, value = pack.sample(rows, level, places, values, reflect=reflect)
        expected = cv2.remap(still.picture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=border)
        np.testing.assert_allclose(colours[0, :, 0].movedim(0, -1).numpy(), expected, atol=0.02)
        there = reflect | ((x > -0.5) & (x < 95.5) & (y > -0.5) & (y < 143.5))
        np.testing.assert_allclose(value[0, 0].numpy(), 0.5 * there, atol=1e-6)
    nearest = pack.nearest(rows - 1, level, places, torch.arange(256.0)[None])[0, 0].numpy()
    expected = cv2.remap(still.masks[0], x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    np.testing.assert_array_equal(nearest, expected)


@pytest.mark.parametrize(("height", "width"), [(384, 480), (385, 477)])
def test_regions_in_small_sizes_of_a_still_lie_within_a_quarter_pixel_of_the_picture(
    stills_folder: Path, height: int, width: int
) -> None:
    pack = StillsPack(stills_folder)
    pack.stills = [ellipse_still(height, width)]
    device_pack = DevicePack(pack, CPU)
    for offset, rows, columns in device_pack.table[0].tolist():
        pixels = device_pack.pixels[offset : offset + rows * columns].view(torch.uint8).view(rows, columns, 4).numpy()
        assert np.allclose(centroid(pixels[..., 3]), centroid(pixels[..., 0]), rtol=0, atol=0.26)


def test_a_clip_of_which_no_target_is_seen_gives_way_to_its_neighbour(device_pack: DevicePack) -> None:
    clips = StillsBatches(device_pack, replace(CONFIG, smallest=0.05))  # 5 of the 100 pixels
    labels = torch.zeros(5, 1, 10, 10, dtype=torch.uint8)
    labels[1, :, :5], labels[1, :, 6, :4], labels[1, :, 7, :5] = 1, 2, 3
    labels[2] = 1  # all that is seen: not to be told from its background
    labels[4, :, :, :2] = 2
    frames, points = torch.arange(5.0).view(5, 1, 1, 1, 1), -torch.arange(5.0).view(5, 1, 1, 1, 1)
    found = clips._checked(frames, batches._Canvas(frames, labels, points), [1, 3, 1, 1, 2])
    assert found.frames.flatten().tolist() == [1, 1, 1, 1, 4]
    assert torch.equal(found.points, -found.frames)
    assert found.num_objects.tolist() == [2, 2, 2, 2, 1]
    wanted = torch.zeros(10, 10, dtype=torch.uint8)
    wanted[:5], wanted[7, :5] = 1, 2  # what is too small is background, and the numbers close up
    assert torch.equal(found.label_maps[:4], wanted.expand(4, 1, 10, 10))
    assert torch.equal(found.label_maps[4] > 0, labels[4] == 2)
    assert int(found.label_maps[4].max()) == 1


def test_a_clip_does_not_depend_on_its_batch(device_pack: DevicePack) -> None:
    clips = StillsBatches(device_pack, CONFIG, seed=1)
    whole, part = clips.sample(range(8)), clips.sample([5, 2])
    for row, index in enumerate((5, 2)):
        assert torch.equal(whole.label_maps[index], part.label_maps[row])
        assert (whole.frames[index].int() - part.frames[row].int()).abs().max() <= 1


def test_every_target_of_a_batch_is_in_the_first_frame(device_pack: DevicePack) -> None:
    clips = StillsBatches(device_pack, replace(CONFIG, difficulty=1.0), seed=3).sample(range(32))
    assert clips.frames.shape == (32, 5, 64, 96, 3)
    assert clips.frames.dtype == clips.label_maps.dtype == torch.uint8
    for labels, count in zip(clips.label_maps, clips.num_objects.tolist(), strict=True):
        area = torch.bincount(labels[0].flatten().long(), minlength=count + 1)
        assert 1 <= count <= 3
        assert len(area) == count + 1
        assert int(area[1:].min()) >= CONFIG.smallest * labels[0].numel()
        assert int(labels.max()) <= count


def test_grids_on_a_device_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    row = np.tile([0.06, 0.07, 0.1, 0.05, 0.02, 0.03], (3, 1))
    motions = draw_motions(rng, 6, row, np.zeros((3, 2)), np.zeros(3), np.zeros((3, 2)), np.ones(3, bool))
    spans = np.asarray([64.0, 20.0, 150.0])
    expected = local_grids(motions, 64, 96, spans)
    found = device_grids([motions], torch.from_numpy(spans).float(), 64, 96, CPU)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-2)
    dense = dense_grids(found, 64, 96)[1, 3].numpy()
    np.testing.assert_allclose(dense, dense_map(expected[1, 3], (0, CELLS, 0, CELLS), (4, 6)), atol=2e-2)


def test_small_layers_are_sampled_from_small_stills() -> None:
    assert [level_of(ratio) for ratio in (3.0, 1.0, 0.7, 0.5, 0.25, 0.01)] == [0, 0, 0, 1, 2, 2]


def test_blurs_are_those_of_opencv() -> None:
    picture = _picture()
    ours = gaussian_blur(_tensor(picture).repeat(2, 1, 1, 1), torch.tensor([1.5, 0.6]), radius=6)
    for row, sigma in enumerate((1.5, 0.6)):
        expected = cv2.GaussianBlur(picture, (0, 0), sigma).astype(float)
        assert np.abs(ours[row].permute(1, 2, 0).numpy() - expected)[8:-8, 8:-8].mean() < 1.0
    moved = smear(_tensor(picture), torch.tensor([[5.0, 2.0]]))[0].permute(1, 2, 0).numpy()
    assert np.abs(moved - motion_blur(picture, (5.0, 2.0)))[8:-8, 8:-8].mean() < 3.0


@pytest.mark.parametrize("quality", [25, 60, 90])
def test_compression_is_like_jpeg(quality: int) -> None:
    rng = np.random.default_rng(1)
    noisy = _picture().astype(float) + rng.normal(0, 12, (48, 64, 1))
    picture = np.clip(noisy, 0, 255).astype(np.uint8)
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    decoded = cv2.imdecode(cv2.imencode(".jpg", picture[..., ::-1], flags)[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    expected = decoded[..., ::-1]
    ours = compress(_tensor(picture), torch.tensor([float(quality)]))[0].permute(1, 2, 0)
    changed = np.abs(expected.astype(float) - picture).mean()
    assert np.abs(ours.clamp(0, 255).numpy() - expected).mean() < 0.25 * changed + 0.6


def test_tones_are_looked_up_per_image() -> None:
    tones = torch.arange(256, dtype=torch.uint8)[None, :, None].repeat(2, 1, 3)
    tones[1] = 255 - tones[1]
    picture = _tensor(_picture()).repeat(2, 1, 1, 1)
    found = apply_tones(picture, tones)
    assert torch.equal(found[0], picture[0])
    assert torch.equal(found[1], 255 - picture[1])


def test_holes_are_filled_like_on_the_cpu() -> None:
    picture = _picture()
    hole = np.zeros((48, 64), np.uint8)
    cv2.circle(hole, (30, 20), 9, 255, -1)
    ours = fill_holes(_tensor(picture), torch.from_numpy(hole).float()[None] / 255)[0].permute(1, 2, 0).numpy()
    expected = fill_hole(picture, hole)
    outside = cv2.dilate(hole, np.ones((5, 5), np.uint8)) == 0
    assert np.array_equal(ours[outside], picture[outside])
    assert np.array_equal(expected[outside], picture[outside])
    assert np.abs(ours - expected)[hole > 0].mean() < 12
    holes = torch.stack([torch.ones(48, 64), torch.from_numpy(hole).float() / 255])  # nothing is around the first one
    both = fill_holes(_tensor(picture).repeat(2, 1, 1, 1), holes)
    assert torch.equal(both[0], _tensor(picture)[0])
    assert np.array_equal(both[1].permute(1, 2, 0).numpy(), ours)
