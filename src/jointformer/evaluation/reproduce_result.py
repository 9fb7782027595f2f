"""What came of a published row that was run again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jointformer.data.published import PublishedRow
from jointformer.evaluation.reproduce_rows import Piece, row_name

#: `planned`: a dry run; `checked`: published masks of a row whose truth is with a server; `open`: this shard's
#: videos are finished, others are not.
Status = Literal["scored", "packed", "checked", "planned", "open", "missing", "failed"]


@dataclass(frozen=True)
class RowResult:
    """What came of one row. `ours` has the published figures' names; figures are in percent.

    `where` is the folder or zip of the masks, `archive` what a server takes, `fps` frames per second in the
    model (0 where nothing was run).
    """

    row: PublishedRow
    status: Status
    pieces: Sequence[Piece] = ()
    ours: dict[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    where: Path | None = None
    archive: Path | None = None
    fps: float = 0.0

    @property
    def name(self) -> str:
        """The row's name."""
        return row_name(self.row)

    @property
    def good(self) -> bool:
        """Whether the row came to an end, or could."""
        return self.status not in ("missing", "failed")

    def difference(self, figure: str) -> float:
        """Ours minus published in points; NaN where there is no such figure of ours."""
        return self.ours.get(figure, math.nan) - self.row.published[figure]
