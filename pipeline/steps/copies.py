"""How often a record is written: what steps that draw with replacement, or for several epochs, say of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def times_written(rows: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 (n,): the product of the columns; null, of records that no such step has seen, counts once."""
    times = np.ones(len(rows), np.int64)
    for name in columns:
        times *= pc.fill_null(rows.column(name), 1).to_numpy().astype(np.int64)
    return times
