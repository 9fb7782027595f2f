"""What is wrong with predictions, found before or while they are scored, and said in one line per kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from jointformer.errors import DataError
from jointformer.evaluation.score_plans import Plan, VideoPlan
from jointformer.evaluation.score_sources import MaskTree
from jointformer.ops.png import STRETCHED
from jointformer.types import pixels_text

_NAMED = 3


@dataclass
class Problems:
    """Files by what is wrong with them."""

    files: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, file: str) -> None:
        """Note one file under a kind such as `missing`."""
        self.files.setdefault(kind, []).append(file)

    def extend(self, more: Problems) -> None:
        """Note another's files too."""
        for kind, files in more.files.items():
            self.files.setdefault(kind, []).extend(files)

    def lines(self) -> list[str]:
        """One line per kind: the count and the first files."""
        return [describe(kind, files) for kind, files in self.files.items()]

    def stop(self, where: str, hint: str | None = None) -> None:
        """Raise DataError with all kinds if there are any."""
        if self.files:
            raise DataError("; ".join(self.lines()), where=where, hint=hint)


def describe(kind: str, files: Iterable[str]) -> str:
    """A kind of problem with its count and first files: `predictions missing: 2 (a/00003.png, b/00001.png)`."""
    named = list(files)
    more = ", …" if len(named) > _NAMED else ""
    return f"{kind}: {len(named)} ({', '.join(named[:_NAMED])}{more})"


def check_predictions(plan: Plan, truth: MaskTree, predictions: MaskTree) -> Problems:
    """Missing, unreadable, coloured and wrongly sized predictions, from listings and PNG headers alone.

    And masks that are read `STRETCHED`; of the annotations only a video's first one is looked at.
    """
    problems = Problems()
    for video in (video for video in plan.videos if video.frames):
        present = predictions.frames(video.video)
        # A video's annotations nearly always have one size: only a prediction of another one needs a second look.
        first = truth.header(video.video, video.frames[0])
        usual = first.size
        if first.is_stretched:
            problems.add(STRETCHED, f"annotation {video.video}/{video.frames[0]}.png")
        for frame in video.frames:
            if frame not in present:
                problems.add("predictions missing", f"{video.video}/{frame}.png")
            else:
                _check_header(problems, video, frame, usual, truth, predictions)
    return problems


def other_layout(plan: Plan, predictions: MaskTree) -> str | None:
    """What lies in the folder of a video that has no masks, such as a folder per object; None where nothing does."""
    for video in (one for one in plan.videos if one.frames and not predictions.frames(one.video)):
        found = predictions.others(video.video)
        if found:
            return f"{video.video} holds {', '.join(found)}, not a PNG of all objects' ids per frame"
    return None


def check_truth(plan: Plan, truth: MaskTree) -> None:
    """DataError naming the annotations that the plan needs and the folder does not have."""
    problems = Problems()
    for video in plan.videos:
        present = truth.frames(video.video)
        for frame in video.frames:
            if frame not in present:
                problems.add("annotations missing", f"{video.video}/{frame}.png")
    problems.stop(truth.folder)


def _check_header(
    problems: Problems,
    video: VideoPlan,
    frame: str,
    usual: tuple[int, int],
    truth: MaskTree,
    predictions: MaskTree,
) -> None:
    file = f"{video.video}/{frame}.png"
    try:
        header = predictions.header(video.video, frame)
    except DataError as error:
        problems.add("predictions that cannot be read", f"{file} ({error.what})")
        return
    if header.is_stretched:
        problems.add(STRETCHED, file)
    if not header.is_index:
        problems.add(f"predictions {header.fault}", f"{file} ({header.kind})")
    elif header.size != usual and header.size != (true := truth.header(video.video, frame).size):
        sizes = f"{pixels_text(header.size)}, annotation {pixels_text(true)}"
        problems.add("predictions of another size", f"{file} ({sizes})")
