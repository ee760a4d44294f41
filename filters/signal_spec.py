"""What a signal is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from .signal_options import SignalOptions

Family = Literal["measure", "lines", "code", "url", "pii", "caption", "header", "pixels", "bytes"]


@dataclass(frozen=True)
class SignalSpec:
    """A signal: its column's name and type, its unit, what it is, and where it was first described.

    `family` is what computes it, from the columns `inputs`; `options` are those of SignalOptions that it
    depends on. In the family `measure` it is the counter `of`, divided by the counter `per` where there is
    one, and `needs` are the parts of the pass that fill them.
    """

    name: str
    type: pa.DataType
    unit: str
    doc: str
    source: str
    family: Family = "measure"
    inputs: tuple[str, ...] = ("text",)
    options: tuple[str, ...] = ()
    of: int = 0
    per: int | None = None
    needs: int = 0


Columns = Mapping[str, pa.Array]
Requests = Sequence[tuple[str, SignalSpec]]  # the name of a column, and the signal in it
Compute = Callable[[Columns, Requests, SignalOptions], dict[str, pa.Array]]  # what a family does with a batch
