"""What happens in a clip, decided in numbers before any pixel is touched: backdrop, cut-outs, their motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.events import FEWEST_FRAMES, face, growth_of, journey_of, meets, scenery, wayside
from jointformer.data.clips.layers import BLOB_WAVES, BackdropPlan, ClipPlan, Cutout
from jointformer.data.clips.motion import CAMERA_MOTION, F64, OBJECT_MOTION, Motions, draw_motions
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.regions import Region, choose_region
from jointformer.data.clips.sets import clip_set
from jointformer.data.clips.views import show_targets_once
from jointformer.errors import DataError

#: Draws for one clip; the second half of them are easy ones.
_ATTEMPTS = 48


class Odds:
    """How often the sets of a pack serve as backdrop and as source of cut-outs."""

    def __init__(self, pack: StillsPack) -> None:
        self.pack = pack
        self.backdrops = {source: clip_set(source).backdrop for source in pack.by_source}
        self.cutouts = {source: clip_set(source).cutout for source in pack.by_source}

    def draw(self, rng: np.random.Generator, weights: dict[str, float], like: int | None = None) -> int:
        """The number of a still, of the same set as the still `like` where one is given."""
        sources = list(self.pack.by_source)
        edges = np.cumsum([weights[source] for source in sources])
        source = sources[min(int(np.searchsorted(edges, rng.random() * edges[-1])), len(sources) - 1)]
        source = source if like is None else self.pack[like].source
        numbers = self.pack.by_source[source]
        return numbers[int(rng.integers(len(numbers)))]


class ClipPlanner:
    """Draws the plans of clips of one kind."""

    def __init__(self, pack: StillsPack, config: ClipConfig) -> None:
        self.pack, self.config, self.odds = pack, config, Odds(pack)

    def attempts(self, seed: int, index: int) -> Iterator[tuple[np.random.Generator, ClipPlan]]:
        """Plans for the clip with this number, each with the generator that goes on from it.

        After the last one DataError is raised: the stills give no clip (no region of a fit size).
        """
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng((seed, index, attempt))
            plan = self.draw(rng, easy=attempt >= _ATTEMPTS // 2)
            if plan is not None:
                yield rng, plan
        hint = "objects should cover 1 to 60 % of their picture"
        raise DataError("no clip could be made of these stills", where=self.pack.folder, hint=hint)

    def draw(self, rng: np.random.Generator, easy: bool = False) -> ClipPlan | None:
        """A plan, or None when the draw led to nothing usable; `easy`: one pasted target and nothing else."""
        config = self.config
        speed = config.difficulty * float(np.clip(np.exp(rng.normal(-0.35, 0.65)), 0.1, 2.2)) + 0.02
        full = rng.random() < config.full_share
        wanted = min(config.max_objects, 1 + int(np.searchsorted([0.45, 0.75, 0.95], rng.random())))
        wanted = 1 if easy else config.max_objects if full else wanted
        number = self.odds.draw(rng, self.odds.backdrops)
        cutouts: list[Cutout] = []
        kind, targets = rng.random(), 0
        backdrop = self._backdrop(rng, number, None)
        if not easy and kind < config.own_share:
            backdrop, targets = self._own(rng, number, wanted)
        elif not easy and kind < config.own_share + config.lifted_share:
            backdrop, cutouts = self._lifted(rng, number)
            targets = len(cutouts)
        if targets and not full and rng.random() < 0.5:
            wanted = targets
        extra = 0 if easy else min(4, int(rng.poisson(config.distractors * (0.25 + 0.75 * config.difficulty))))
        for target in [True] * (wanted - targets) + [False] * extra:
            cutout = self._pasted(rng, targets + 1 if target else 0)
            if cutout is None:
                return None
            targets += int(target)
            cutouts.insert(int(rng.integers(len(cutouts) + 1)), cutout)
        if cutouts and not easy and rng.random() < config.twin_share * config.difficulty:
            cutouts.insert(int(rng.integers(len(cutouts) + 1)), self._twin(rng, cutouts))
        return self._moving(rng, backdrop, cutouts, targets, speed) if targets else None

    def _place(self, rng: np.random.Generator, spread: float) -> tuple[float, float]:
        """Where a thing starts, in sides from the picture's middle."""
        height, width = self.config.shape
        x, y = np.clip(rng.normal(0.0, spread, 2), -0.6, 0.6)
        return float(x) * width / self.config.side, float(y) * height / self.config.side

    def _pasted(self, rng: np.random.Generator, label: int, like: int | None = None) -> Cutout | None:
        """A thing of a random still (of the set of still `like`) at a random place and size."""
        low, high = (0.16, 0.62) if label else (0.1, 0.45)
        share = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        number = self.odds.draw(rng, self.odds.cutouts, like)
        still = self.pack[number]
        turn = float(rng.normal(0.0, 0.15)) if rng.random() < 0.9 else float(rng.uniform(-3.1, 3.1))
        feather = float(rng.uniform(0.5, 1.2)) * max(self.config.side / 256, 0.6)
        flip, start = rng.random() < 0.5, self._place(rng, 0.16 if label else 0.3)
        side = share * self.config.side
        if rng.random() < self.config.blob_share:
            return self._blob(rng, number, label, flip, side, start, turn, feather)
        region = choose_region(rng, still)
        if region is None:
            return None
        ratio = side / float(np.sqrt(region.area))
        left, top, right, bottom = region.box
        span = ratio * max(right - left, bottom - top)
        if span > 2.5 * self.config.side:  # a thin thing would be torn over the whole picture
            return None
        return Cutout(number, region, label, flip, ratio, region.middle, span, start, turn, feather)

    def _blob(
        self, rng: np.random.Generator, number: int, label: int, flip: bool, side: float,
        start: tuple[float, float], turn: float, feather: float,
    ) -> Cutout:  # fmt: skip
        """A random smooth closed shape filled with a window of the still."""
        height, width = self.pack[number].picture.shape[:2]
        span = 1.5 * side
        window = min(height, width) * float(rng.uniform(0.4, 0.9))
        half = 0.5 * window
        middle = float(rng.uniform(half, width - half)), float(rng.uniform(half, height - half))
        waves = 1 + np.arange(BLOB_WAVES)
        outline = rng.uniform(-0.35, 0.35, (2, BLOB_WAVES)) / waves
        left, top = int(middle[0] - half), int(middle[1] - half)
        box = (max(left, 0), max(top, 0), min(left + int(window) + 1, width), min(top + int(window) + 1, height))
        region = Region(0, np.zeros(0, np.int64), int(window * window), box)
        return Cutout(number, region, label, flip, span / window, region.middle, span, start, turn, feather, outline)

    def _twin(self, rng: np.random.Generator, cutouts: list[Cutout]) -> Cutout:
        """A distractor that looks like one of the targets among the cut-outs; like any of them where none is one."""
        models = [cutout for cutout in cutouts if cutout.label] or cutouts
        model = models[int(rng.integers(len(models)))]
        flip, start = rng.random() < 0.5, self._place(rng, 0.35)
        return replace(model, label=0, flip=flip, start=start, turn=float(rng.normal(0.0, 0.2)))

    def _with_met(self, rng: np.random.Generator, cutouts: list[Cutout], journey: F64) -> list[Cutout]:
        """`cutouts` and what the camera comes upon: things that pass by, some like a target, and other scenery."""
        models = [cutout for cutout in cutouts if cutout.label]
        found = [
            replace(cutout, start=wayside(rng, self.config, journey), grounded=True)
            if cutout.label == 0 and rng.random() < 0.6
            else cutout
            for cutout in cutouts
        ]
        for _ in range(1 + min(3, int(rng.poisson(1.0)))):
            model, kind = models[int(rng.integers(len(models)))], rng.random()
            thing = (
                self._twin(rng, [model])
                if kind < 0.25
                else self._pasted(rng, 0, like=model.still if kind < 0.6 else None)
            )
            if thing is not None:
                thing = replace(thing, start=wayside(rng, self.config, journey), grounded=True)
                found.insert(0 if rng.random() < 0.75 else int(rng.integers(len(found) + 1)), thing)
        if rng.random() < 0.5:
            number = self.odds.draw(rng, self.odds.backdrops)
            found.insert(0, scenery(rng, self.config, journey, number, self.pack[number]))
        return found

    def _backdrop(self, rng: np.random.Generator, number: int, middle: tuple[float, float] | None) -> BackdropPlan:
        """The still covering the picture with some to spare, its middle near `middle` where one is given."""
        height, width = self.config.shape
        tall, wide = self.pack[number].picture.shape[:2]
        ratio = max(height / tall, width / wide) * float(rng.uniform(1.0, 1.6))
        point = []
        for side, whole, wish in zip((width, height), (wide, tall), middle or (None, None), strict=True):
            half = min(0.5 * side / ratio, 0.5 * whole)
            at = rng.uniform(half, whole - half) if wish is None else wish + rng.normal(0.0, 0.24) * half
            point.append(float(np.clip(at, half, whole - half)))
        return BackdropPlan(number, rng.random() < 0.5, ratio, (point[0], point[1]))

    def _own(self, rng: np.random.Generator, number: int, wanted: int) -> tuple[BackdropPlan, int]:
        """A backdrop with regions of its own as targets."""
        still = self.pack[number]
        mask = int(rng.integers(len(still.masks)))
        labels, middle, count = np.zeros(256, np.uint8), None, 0
        for _ in range(wanted):
            region = choose_region(rng, still, small=0.02, mask=mask)
            if region is not None and not labels[region.ids].any():
                count += 1
                labels[region.ids] = count
                middle = middle or region.middle
        backdrop = self._backdrop(rng, number, middle)
        return replace(backdrop, mask=mask, labels=labels if count else None), count

    def _lifted(self, rng: np.random.Generator, number: int) -> tuple[BackdropPlan, list[Cutout]]:
        """A backdrop and one of its own regions as a target that moves apart from it."""
        still, config = self.pack[number], self.config
        region = choose_region(rng, still, small=0.02, large=0.35)
        if region is None or region.area > 0.4 * still.picture.shape[0] * still.picture.shape[1]:
            return self._backdrop(rng, number, None), []
        backdrop = self._backdrop(rng, number, region.middle)
        sign = -1.0 if backdrop.flip else 1.0
        start = [backdrop.ratio * (a - b) / config.side for a, b in zip(region.middle, backdrop.middle, strict=True)]
        left, top, right, bottom = region.box
        span = backdrop.ratio * max(right - left, bottom - top)
        feather = float(rng.uniform(0.5, 1.2)) * max(config.side / 256, 0.6)
        cutout = Cutout(number, region, 1, backdrop.flip, backdrop.ratio, region.middle, span,
                        (sign * start[0], start[1]), 0.0, feather)  # fmt: skip
        return replace(backdrop, hole=region), [cutout]

    def _moving(
        self, rng: np.random.Generator, backdrop: BackdropPlan, cutouts: list[Cutout], targets: int, speed: float
    ) -> ClipPlan:
        config = self.config
        journey = journey_of(rng, config, backdrop)
        if meets(rng, config, journey):
            cutouts = self._with_met(rng, cutouts, journey)
        count = 1 + len(cutouts)
        pair = face(rng, config, backdrop, cutouts)
        growth = growth_of(rng, config, cutouts)
        # A camera that follows its object keeps it in place while the background passes.
        follows = rng.random() < 0.35 or bool(journey.any())
        pace = speed * float(rng.uniform(0.8, 2.2) if follows else rng.uniform(0.1, 1.2))
        rows = [CAMERA_MOTION.row(pace)]
        starts, turns = [(0.0, 0.0)], [float(rng.normal(0.0, 0.05))]
        away = np.zeros((count, 2))
        for number, cutout in enumerate(cutouts, 1):
            calm = 0.4 if follows and cutout.label else 1.0
            lively = 0.3 if cutout.grounded else 1.0
            rows.append(OBJECT_MOTION.row(lively * speed * float(rng.uniform(0.5, 1.2)), calm))
            starts.append(cutout.start)
            turns.append(cutout.turn)
            stays = cutout.grounded or config.frames < FEWEST_FRAMES
            if not stays and rng.random() < config.leave_share * config.difficulty:
                direction = rng.uniform(0.0, 2.0 * np.pi)
                away[number] = rng.uniform(0.6, 1.1) * np.asarray([np.cos(direction), np.sin(direction)])
        for one, other in (pair, pair[::-1]) if pair else ():  # each goes to where the other began, or beyond
            apart = np.subtract(cutouts[other].start, cutouts[one].start)
            away[1 + one] = apart * float(rng.uniform(0.5, 1.3))
        free = np.asarray([True] + [cutout.label == 0 for cutout in cutouts])
        motions = draw_motions(rng, config.frames, np.asarray(rows), np.asarray(starts), np.asarray(turns), away, free)
        along = np.linspace(0.0, 1.0, config.frames)
        motions.centre[0] += along[:, None] * journey
        motions.linear[:] *= (growth[:, None] ** (along - 0.5))[..., None, None]
        backdrop = show_targets_once(motions, self.pack[backdrop.still], backdrop, config.shape)
        for number in range(1, count):  # some things stand on the ground and move with it
            if cutouts[number - 1].grounded or (not follows and rng.random() < 0.4):
                motions.centre[number] += motions.centre[0]
        spans = np.asarray([config.side] + [cutout.span for cutout in cutouts])
        return ClipPlan(backdrop, tuple(cutouts), targets, motions, spans, self._smear(rng, motions))

    def _smear(self, rng: np.random.Generator, motions: Motions) -> F64:
        """(L,T,2): pixels moved while a frame is exposed; 0 in most clips."""
        if motions.centre.shape[1] < 2 or rng.random() > 0.3 * self.config.difficulty + 0.05:
            return np.zeros_like(motions.centre)
        return np.gradient(motions.centre, axis=1) * self.config.side * float(rng.uniform(0.1, 0.4))
