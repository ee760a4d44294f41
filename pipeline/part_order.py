"""The exchange that brings rows back to the parts that their positions are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .driver import Driver, layer_of, partitions_for
from .stage import Input, Layer, OperatorRef, PartRef, Parts
from .steps.part_order import ROWS, ByPosition, InPartOrder
from .view import ROW_BITS


def part_bits(parts: Sequence[PartRef]) -> int:
    """Bits that hold the number of every part."""
    return max(1, max((part.index for part in parts), default=0).bit_length())


def shift_of(parts: Sequence[PartRef]) -> int:
    """By how much a position is shifted to become a key that sorts alike and fills the upper bits."""
    return 64 - ROW_BITS - part_bits(parts)


def in_part_order(
    driver: Driver,
    name: str,
    rows: Parts,
    parts: Parts,
    columns: Mapping[str, str],
    *,
    bytes_: int,
    by: str | None = None,
    maps: tuple[OperatorRef, ...] | None = None,
    reduce: OperatorRef | None = None,
) -> list[Layer]:
    """For each of `parts` an optional layer, from rows that come in any order.

    `rows` have `position` and `columns` (with their names in the layer), or what `maps` makes of them has
    `key` (see `shift_of`) and the columns; `bytes_` is about their size. Of several rows of a position the
    one with the least value of `by` counts, else the first. All rows of a part are in one file.
    """
    shift, bits = shift_of(parts), part_bits(parts)
    partitions = min(partitions_for(bytes_), 1 << bits)
    commits = driver.run(
        name,
        {ROWS: Input(rows, (OperatorRef.of(ByPosition, shift=shift),) if maps is None else maps, "key")},
        partitions=partitions,
        reduce=reduce or OperatorRef.of(InPartOrder, shift=shift, columns=dict(columns), by=by),
    )
    each = bits - (partitions.bit_length() - 1)
    layers = [replace(layer_of(committed, ROWS), optional=True) for committed in commits]
    return [layers[part.index >> each] for part in parts]
