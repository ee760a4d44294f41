"""The step that counts how many records share a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schemas import images as schema
from .compiled import CorpusStep, MapStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order
from .stage import Input, OperatorRef, PartRef, Parts
from .steps.frequency import (
    AddFrequency,
    CountPairs,
    DistinctPairs,
    FindFrequencies,
    HashValues,
    PairRows,
    ValueRows,
)
from .steps.occurrences import AddUp
from .steps.reading import Keep, stream_part

PAIR_ROW_BYTES = 32  # key, value, low, other
VALUE_ROW_BYTES = 32  # key, low, position, count
FREQUENCY_ROW_BYTES = 16


@dataclass
class FrequencyStep(CorpusStep):
    """Counts the records that share a value, or the different values beside it.

    Through the exchange goes a row for each value of a part, through the one before it, with `distinct`, a
    row for each pair of values of a part; back come only values that are not there once. A value of all
    records is one row of each part, or of each 32 MB of rows that a task sorts.
    """

    options: schema.Frequency | None = None
    hashes: tuple[str, str, str] = ("", "", "")  # columns: halves of the value's, and of what is beside it

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        options, name = self.options, self.stage_name
        (column,) = self.makes
        key, low, _ = self.hashes
        pairs = self._pairs(driver, parts) if options.distinct else ()
        values = OperatorRef.of(ValueRows, key=key, low=low, each=0 if options.distinct else 1)
        rows = sum(part.rows for part in parts)
        commits = driver.run(
            f"{name}-values",
            {"values": Input((*parts, *pairs), (values,), "key", (key, low))},
            partitions=partitions_for((rows + sum(part.rows for part in pairs)) * VALUE_ROW_BYTES),
            reduce=OperatorRef.of(FindFrequencies),
            combine=OperatorRef.of(AddUp),
        )
        found = tuple(stream_part(c.task, c.streams["frequencies"]) for c in commits)
        layers = in_part_order(
            driver,
            f"{name}-parts",
            found,
            parts,
            {"frequency": "frequency"},
            bytes_=sum(part.rows for part in found) * FREQUENCY_ROW_BYTES,
        )
        add = OperatorRef.of(
            AddFrequency,
            step=self.name,
            column=column,
            key=key,
            low=low,
            most=options.max,
            least=options.min,
        )
        keep = OperatorRef.of(Keep, stream="alive", columns=[column])
        commits = driver.run(
            f"{name}-apply",
            {
                "records": Input(
                    add_layer(parts, layers), (add, keep), columns=("id", "source", key, low, "frequency")
                )
            },
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])

    def _pairs(self, driver: Driver, parts: Parts) -> tuple[PartRef, ...]:
        """The different pairs of the corpus, numbered behind `parts`."""
        key, low, other = self.hashes
        commits = driver.run(
            f"{self.stage_name}-pairs",
            {
                "pairs": Input(
                    parts,
                    (OperatorRef.of(PairRows, key=key, low=low, other=other),),
                    "key",
                    (key, low, other),
                )
            },
            partitions=partitions_for(sum(part.rows for part in parts) * PAIR_ROW_BYTES),
            reduce=OperatorRef.of(CountPairs),
            combine=OperatorRef.of(DistinctPairs),
        )
        first = _behind(parts)
        return tuple(stream_part(first + c.task, c.streams["pairs"]) for c in commits)


def _behind(parts: Sequence[PartRef]) -> int:
    return 1 + max((part.index for part in parts), default=-1)


def compile_frequency(name: str, column: str, options: schema.Frequency) -> FrequencyStep:
    """The step of a job; `column` is what the count is written to."""
    # No column of a job has such a name.
    key, low, other = (f"{column}#{part}" for part in ("key", "low", "other"))
    operator = OperatorRef.of(
        HashValues, of=options.of, distinct=options.distinct, key=key, low=low, other=other
    )
    adds = (key, low, other) if options.distinct else (key, low)
    reads = frozenset(name for name in (options.of, options.distinct) if name)
    keys = MapStep(name, operator, reads, adds)
    return FrequencyStep(
        name, frozenset(adds), keys, types={column: "int64"}, options=options, hashes=(key, low, other)
    )
