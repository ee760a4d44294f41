"""Which of the records that a teacher has scored are examples of good text, and which of other text."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Others = Literal["all", "lowest", "drawn"]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TeacherChoice:
    """The best records by a score are positive: a share of them (`top`), or those of at least `least`.

    `others` says which are negative: all the rest; `lowest`, as many as are positive, the worst first, as
    PreSelect takes them; `drawn`, all the rest, and the larger side is then drawn down to the smaller one, as
    BETR does. A record without a score is neither. Equal scores are taken by id, then by position.
    Raises ValueError unless just one of `top` and `least` is given.
    """

    top: float | None = None
    least: float | None = None
    others: Others = "all"

    def __post_init__(self) -> None:
        if (self.top is None) == (self.least is None):
            raise ValueError("give one of top and min")
        if self.top is not None and not 0 < self.top < 1:
            raise ValueError(f"top is {self.top}; it is a share above 0 and below 1")

    def split(self, scores: pa.Array, ids: pa.Array, draws: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
        """The rows of the positives and of the negatives, ascending.

        `draws`: a random number for each record, for `drawn`. Raises ValueError where a side is empty.
        """
        doubles = np.asarray(
            pc.fill_null(scores.cast(pa.float64(), safe=False), float("nan")).to_numpy(zero_copy_only=False)
        )
        scored = np.flatnonzero(~np.isnan(doubles))
        best_first = scored[
            pc.sort_indices(
                pa.table({"score": doubles[scored], "id": ids.take(pa.array(scored)), "position": scored}),
                sort_keys=[("score", "descending"), ("id", "ascending"), ("position", "ascending")],
            ).to_numpy()
        ]
        if self.top is not None:
            count = _part(self.top, len(scored))
        else:
            count = int((doubles[scored] >= self.least).sum())
        good, rest = best_first[:count], best_first[count:]
        if not len(good) or not len(rest):
            side = "no record is good enough" if not len(good) else "all records are good enough"
            raise ValueError(f"of {len(scored)} records with a score, {side}: there is nothing to tell apart")
        if self.others == "lowest":
            # Of equal scores here too the lower id is taken first.
            worst_first = rest[np.argsort(doubles[rest], kind="stable")]
            rest = worst_first[: len(good)]
        elif self.others == "drawn":
            fewer = min(len(good), len(rest))
            good, rest = (_drawn(rows, draws, fewer) for rows in (good, rest))
        return np.sort(good), np.sort(rest)


def _part(share: float, count: int) -> int:
    # As it is written: 0.29 of 100 are 29, though the nearest double is a little less.
    return int(Fraction(repr(share)) * count)


def _drawn(rows: Rows, draws: npt.NDArray[np.uint64], count: int) -> Rows:
    return rows[np.lexsort((rows, draws[rows]))[:count]]
