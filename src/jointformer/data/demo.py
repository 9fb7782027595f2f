"""The bundled clip: a fish and a turtle cross in a sea that code paints, with exact masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from jointformer.data.demo_animals import fish_colour, fish_shape, turtle_colour, turtle_shape
from jointformer.data.demo_scene import Floats, Scene, fractal_noise
from jointformer.types import Mask, UInt8Array

HEIGHT, WIDTH, FRAMES = 240, 432, 40
FISH, TURTLE = 1, 2

_SEED = 7
#: The pixels of an animal are painted at this many points a side, so that its edges are smooth.
_POINTS = 2


@dataclass(frozen=True)
class DemoClip:
    """A short video with the true label map of every frame.

    `frames` is (T, H, W, 3) uint8 RGB, `label_maps` (T, H, W) uint8: 0 sea, 1 fish, 2 turtle; `names` are the
    objects' by id.
    """

    frames: UInt8Array
    label_maps: UInt8Array
    names: dict[int, str]


@dataclass(frozen=True)
class _Animal:
    object_id: int
    shape: Callable[[Floats, Floats, float], Mask]
    colour: Callable[[Floats, Floats, float, Floats], Floats]


_FISH = _Animal(FISH, fish_shape, fish_colour)
_TURTLE = _Animal(TURTLE, turtle_shape, turtle_colour)


@dataclass(frozen=True)
class _Pose:
    """Where an animal is: its middle (x, y) and half length in pixels, heading in radians, mirrored or not."""

    x: float
    y: float
    size: float
    heading: float
    mirrored: bool
    phase: float


def demo_clip(frames: int = FRAMES) -> DemoClip:
    """The demo clip: 40 frames of 240x432, the same on every call.

    The fish passes in front of the turtle, leaves the frame on the right and comes back, now behind the turtle.
    `frames` below 40 gives the clip's beginning.
    """
    scene, noise = Scene.build(_SEED), fractal_noise(_SEED + 10, 1.2)
    grain = np.random.default_rng(_SEED + 20)
    pictures, label_maps = [], []
    for index in range(frames):
        picture, label_map = _frame(scene, noise, index)
        noisy = picture + grain.normal(0.0, 2.2, picture.shape)
        pictures.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        label_maps.append(label_map)
    return DemoClip(np.stack(pictures), np.stack(label_maps), {FISH: "fish", TURTLE: "turtle"})


def _frame(scene: Scene, noise: Floats, index: int) -> tuple[Floats, UInt8Array]:
    """The picture (H, W, 3) float32 and the label map (H, W) uint8 of one frame, before the camera's noise."""
    picture = scene.render(HEIGHT, WIDTH, (4.0 * index, 2.0 * sin(0.2 * index)), index / 25)
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    fish = _fish_pose(index)
    animals = [(_TURTLE, _turtle_pose(index)), (_FISH, fish)]
    if fish.mirrored:
        animals.reverse()
    for animal, pose in animals:
        colour, share = _paint(animal, pose, noise)
        picture = picture * (1.0 - share[..., None]) + colour
        label_map[share > 0.5] = animal.object_id
    return _lens(picture), label_map


def _fish_pose(index: int) -> _Pose:
    """Its way: to the right in a wave, out of the frame, and after a turn out of sight back to the left."""
    phase, turn = 0.85 * index, 27
    if index < turn:
        x, y = 88.0 + 18.0 * index, 116.0 - 22.0 * sin(0.13 * index) + 2.0 * sin(phase)
        return _Pose(x, y, 50.0 + 4.0 * sin(0.1 * index), 0.12 * sin(0.13 * index + 2.2), False, phase)
    back = index - turn
    return _Pose(526.0 - 21.0 * back, 92.0 + 3.0 * back, 54.0, -0.1, True, phase)


def _turtle_pose(index: int) -> _Pose:
    """Its way: slowly to the left in an arc, turning and coming nearer."""
    progress = index / (FRAMES - 1)
    x, y = 296.0 - 92.0 * progress, 142.0 - 26.0 * sin(pi * progress)
    return _Pose(x, y, 58.0 + 12.0 * progress, pi + 0.5 - 0.75 * progress, False, 0.32 * index)


def _paint(animal: _Animal, pose: _Pose, noise: Floats) -> tuple[Floats, Floats]:
    """An animal's colours (H, W, 3), times its share of each pixel, and that share (H, W) from 0 to 1."""
    colour, share = np.zeros((HEIGHT, WIDTH, 3), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
    reach = 1.75 * pose.size
    top, bottom = max(0, int(pose.y - reach)), min(HEIGHT, int(pose.y + reach) + 1)
    left, right = max(0, int(pose.x - reach)), min(WIDTH, int(pose.x + reach) + 1)
    if top >= bottom or left >= right:
        return colour, share
    rows = (np.arange((bottom - top) * _POINTS, dtype=np.float32) + 0.5) / _POINTS + top - pose.y
    columns = (np.arange((right - left) * _POINTS, dtype=np.float32) + 0.5) / _POINTS + left - pose.x
    y, x = np.meshgrid(rows / pose.size, columns / pose.size, indexing="ij")
    x = -x if pose.mirrored else x
    u = x * cos(pose.heading) + y * sin(pose.heading)
    v = -x * sin(pose.heading) + y * cos(pose.heading)
    inside = animal.shape(u, v, pose.phase)
    colours = np.zeros((*inside.shape, 3), np.float32)
    colours[inside] = animal.colour(u[inside], v[inside], pose.phase, noise)
    blocks = (bottom - top, _POINTS, right - left, _POINTS)
    share[top:bottom, left:right] = inside.reshape(blocks).mean(axis=(1, 3))
    colour[top:bottom, left:right] = colours.reshape(*blocks, 3).mean(axis=(1, 3))
    return colour, share


def _lens(picture: Floats) -> Floats:
    """The picture through water and lens: a little haze, darker corners."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    hazy = picture * 0.93 + np.array([3.0, 9.0, 12.0], np.float32)
    dimmed: Floats = hazy * (1.0 - 0.13 * (x * x + y * y))[..., None]
    return dimmed
