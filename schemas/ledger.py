"""The ledger: exactly one row for each record that did not come through."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

DROPPED: Final = "dropped"
DUPLICATE: Final = "duplicate"
ERROR: Final = "error"

LEDGER: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),  # the step's name in the job
        pa.field("verdict", pa.string(), nullable=False),  # dropped | duplicate | error
        pa.field("reason", pa.string(), nullable=False),  # snake_case
        pa.field("value", pa.string()),  # what decided: a number, or the id of the record that was kept
    ]
)
