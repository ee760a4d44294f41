"""Reading a part: its layers joined by position, streamed over the widest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.records import PAYLOADS
from .operator import LayerReader, build
from .stage import Layer, PartRef
from .store import open_parquet

ROW_BITS = 32  # position = ingest part << 32 | row in that part
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20


def part_range(index: int) -> tuple[np.uint64, np.uint64]:
    """The first position of an ingest part, and the first one behind it."""
    return np.uint64(index << ROW_BITS), np.uint64((index + 1) << ROW_BITS)


def resolve(layers: Sequence[Layer], columns: Sequence[str] | None) -> dict[str, Layer]:
    """The layer that each column is read from: the latest that has it."""
    found: dict[str, Layer] = {}
    for layer in layers:
        found |= dict.fromkeys(layer.columns, layer)
    found.pop("position", None)
    if columns is None:
        return found
    return {name: found[name] for name in columns if name != "position"}


def read_part(part: PartRef, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows that every required layer holds, in order of position: `position` and the columns asked for.

    Yields at least one batch. One layer is streamed: the source if a column is read from there, else the one
    that has the image or the text, else the first. What is read from others is held in memory. Columns of
    optional layers are null where these have no row.
    """
    wanted = resolve(part.layers, columns)
    low, high = part_range(part.index)
    sources = [layer for layer in part.layers if layer.reader and layer in wanted.values()]
    files = [layer for layer in part.layers if not layer.reader]
    large = [wanted[name] for name in PAYLOADS if name in wanted and not wanted[name].optional]
    base = sources[0] if sources else large[0] if large else files[0]
    alive: np.ndarray | None = None
    tables: dict[str, pa.Table] = {}
    last = next((layer for layer in reversed(files) if not layer.optional), None)
    for layer in files:
        names = [name for name, source in wanted.items() if source is layer]
        if layer is base or (not names and layer is not last):
            continue  # later layers hold subsets of earlier ones
        tables[layer.path] = _read_range(layer, names, low, high)
        if layer is last:
            alive = tables[layer.path].column("position").to_numpy()
    base_names = [name for name, source in wanted.items() if source is base]
    seen = 0
    empty = True
    for batch in _stream(part, base, base_names):
        positions = batch.column("position").to_numpy()
        if alive is not None:
            keep = _member(positions, alive)
            if not keep.all():
                batch = batch.filter(pa.array(keep))
                positions = positions[keep]
        if not len(batch) and not empty:
            continue
        empty = False
        seen += len(batch)
        yield _assemble(batch, positions, wanted, tables, part.index)
    if alive is not None and seen != len(alive):
        raise ValueError(f"{part.label or 'part'}: {len(alive) - seen} of its records cannot be read again")


def _stream(part: PartRef, base: Layer, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if base.reader is None:
        return _stream_range(base, names, *part_range(part.index))
    reader = build(base.reader)
    assert isinstance(reader, LayerReader)
    return reader.read_again(part.index)


def _assemble(
    batch: pa.RecordBatch,
    positions: np.ndarray,
    wanted: dict[str, Layer],
    tables: dict[str, pa.Table],
    part: int,
) -> pa.RecordBatch:
    arrays = [batch.column("position")]
    fields = [pa.field("position", pa.uint64(), nullable=False)]
    places: dict[str, pa.Array] = {}
    for name, layer in wanted.items():
        table = tables.get(layer.path)
        if table is None:
            arrays.append(batch.column(name))
            fields.append(batch.schema.field(name))
            continue
        if layer.path not in places:
            places[layer.path] = _places(positions, table.column("position").to_numpy(), layer, part)
        column = table.column(name).take(places[layer.path]).combine_chunks()
        arrays.append(
            column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
        )
        fields.append(table.schema.field(name).with_nullable(True))
    arrays = [pa.concat_arrays(a.chunks) if isinstance(a, pa.ChunkedArray) else a for a in arrays]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _member(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    if not len(among):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(among, values)
    places[places == len(among)] = 0
    found: np.ndarray = among[places] == values
    return found


def _places(positions: np.ndarray, among: np.ndarray, layer: Layer, part: int) -> pa.Array:
    found = _member(positions, among)
    if not layer.optional and not found.all():
        raise ValueError(f"layer {layer.path} lacks {int((~found).sum())} positions of part {part}")
    return pa.array(np.searchsorted(among, positions), pa.int64(), mask=~found)


def _groups_in_range(file: pq.ParquetFile, low: np.uint64, high: np.uint64) -> list[int]:
    index = file.schema_arrow.names.index("position")
    groups = []
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(index).statistics
        if (
            statistics is None
            or not statistics.has_min_max
            or not (statistics.max < low or statistics.min >= high)
        ):
            groups.append(group)
    return groups


def _in_range(table: pa.Table, low: np.uint64, high: np.uint64) -> pa.Table:
    positions = table.column("position").to_numpy()
    start, stop = np.searchsorted(positions, [low, high])
    return table.slice(start, stop - start)


def _read_range(layer: Layer, names: Sequence[str], low: np.uint64, high: np.uint64) -> pa.Table:
    with open_parquet(layer.path) as file:
        groups = _groups_in_range(file, low, high)
        return _in_range(
            file.read_row_groups(groups, columns=["position", *names]), low, high
        ).combine_chunks()


def _stream_range(
    layer: Layer, names: Sequence[str], low: np.uint64, high: np.uint64
) -> Iterator[pa.RecordBatch]:
    """Batches cut by fixed rules, so that every engine and every worker sees the same ones."""
    columns = ["position", *dict.fromkeys(names)]
    with open_parquet(layer.path) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        empty = True
        for group in _groups_in_range(file, low, high):
            # Small batches keep what the operators touch in the processor's cache.
            rows = file.metadata.row_group(group).num_rows
            bytes_ = sum(_column_bytes(file, group, name) for name in columns)
            batch_rows = max(1, min(BATCH_ROWS if names else rows, rows * BATCH_BYTES // max(1, bytes_)))
            table = _in_range(file.read_row_group(group, columns=columns).select(columns), low, high)
            for batch in table.combine_chunks().to_batches(max_chunksize=batch_rows):
                empty = False
                yield batch
        if empty:
            yield pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def _column_bytes(file: pq.ParquetFile, group: int, name: str) -> int:
    row_group = file.metadata.row_group(group)
    return sum(
        row_group.column(i).total_uncompressed_size
        for i in range(row_group.num_columns)
        if row_group.column(i).path_in_schema.split(".")[0] == name
    )
