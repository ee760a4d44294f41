"""From the surviving records to shards and to the ledger that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Scorer
from ...schemas.job import Modality
from ...schemas.ledger import LEDGER
from ...schemas.records import RECORDS
from ...scorers.assets import LocalAssets
from ..draws import drawn, drawn_copies, draws
from ..exchange import partition_of
from ..operator import Operator, Output, Reader, Reducer
from ..sinks import Sink, open_sink
from ..sinks.embedding_files import EmbeddingFiles
from ..sinks.image_columns import IMAGE, IMAGE_COLUMNS, image_columns
from ..stage import Layer, OperatorRef, PartRef, StreamRef
from ..store import open_parquet
from ..view import BATCH_BYTES, BATCH_ROWS, ROW_BITS, read_part
from .copies import times_written

# The stream of a shard; what goes with it is in streams of this name and its suffix, as `shard.idx`.
SHARD: Final = "shard"
# Figures of a shard: its tokens, and its records by language.
TOKENS: Final = "tokens"
LANGUAGE: Final = "lang:"
# Of each array of embeddings: how long they are, 0 where no record has one; the records without one.
DIMENSIONS: Final = "dimensions:"
MISSING: Final = "missing_embeddings:"
# A figure of a part: the bytes of its records, uncompressed.
OUTPUT_BYTES: Final = "output_bytes"


class Measure(Operator):
    """Adds up the bytes of the records of a part, from which shards are planned; `copies` are the columns
    whose product says how often a record is written."""

    def __init__(self, copies: Sequence[str] = ()) -> None:
        self._copies = copies

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        _count_bytes(batch, out, self._copies)
        return batch


def _count_bytes(batch: pa.RecordBatch, out: Output, copies: Sequence[str] = ()) -> None:
    bytes_ = pc.fill_null(batch.column("bytes"), 0).to_numpy(zero_copy_only=False)
    out.accounts.figures[OUTPUT_BYTES] += int((bytes_ * times_written(batch, copies)).sum())


SHUFFLE = "shuffle"  # what ids are drawn for


class ShuffleKey(Operator):
    """Adds the key by which a global shuffle moves records, of which it makes the copies."""

    def __init__(self, seed: int, copies: Sequence[str] = ()) -> None:
        self._seed, self._copies = seed, copies

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if self._copies:
            times = times_written(batch, self._copies)
            rows, keys = drawn_copies(batch.column("id"), times, self._seed, SHUFFLE)
            return batch.take(pa.array(rows)).append_column("key", pa.array(keys))
        return batch.append_column("key", pa.array(draws(batch.column("id"), self._seed, SHUFFLE)))


class CollectRecords(Reducer):
    """Commits the records of a partition in the order of their keys; they get new positions."""

    def reduce(self, inputs: Any, out: Output) -> None:
        row = partition = 0
        for batch in inputs["records"]:
            if len(batch) and not row:
                partition = int(partition_of(batch.column("key").to_numpy()[:1], self._partitions)[0])
            first = (partition << ROW_BITS) + row
            row += len(batch)
            _count_bytes(batch, out)
            positions = pa.array(np.arange(first, first + len(batch), dtype=np.uint64))
            out.emit("records", batch.drop_columns(["key"]).set_column(0, "position", positions))

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions


class ReadShard(Reader):
    """The records of one shard: ranges of bytes of several parts, each put in its final order first.

    `copies`: the columns whose product says how often a record is there, one behind the other unless they
    are shuffled.
    """

    def __init__(
        self,
        pieces: Sequence[dict[str, Any]],
        columns: Sequence[str],
        shuffle: bool,
        seed: int,
        copies: Sequence[str] = (),
    ) -> None:
        self._pieces, self._columns, self._shuffle, self._seed = pieces, list(columns), shuffle, seed
        self._copies = list(copies)

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        for piece in self._pieces:
            layers = tuple(_layer(**layer) for layer in piece["layers"])
            yield from self._piece(PartRef(piece["index"], layers), piece["start"], piece["stop"])

    def _piece(self, source: PartRef, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """The records whose first byte, counted over the part, is in start … stop - 1."""
        if self._shuffle:
            yield from self._shuffled(source, start, stop)
            return
        passed = 0
        for batch in read_part(source, [*self._columns, "bytes"]):
            times = times_written(batch, self._copies)
            sizes = np.repeat(batch.column("bytes").to_numpy(), times)
            ends = passed + np.cumsum(sizes)
            first, last = np.searchsorted(ends - sizes, [start, stop])
            passed = int(ends[-1]) if len(sizes) else passed
            batch = batch.select(self._columns)
            if not self._copies:
                yield batch.slice(first, last - first)
            else:
                rows = np.repeat(np.arange(len(batch)), times)[first:last]
                for low, high in _cuts(sizes[first:last]):
                    yield batch.take(pa.array(rows[low:high]))
                if not len(rows):
                    yield batch.slice(0, 0)
            if passed >= stop:
                break

    def _shuffled(self, source: PartRef, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """The same of the part in shuffled order; holds the payload of one shard, not of the part."""
        light = pa.Table.from_batches(list(read_part(source, ["id", "bytes", *self._copies])))
        times = times_written(light, self._copies)
        rows, keys = drawn_copies(light.column("id"), times, self._seed, SHUFFLE)
        order = rows[np.argsort(keys, kind="stable")]
        sizes = light.column("bytes").to_numpy()[order]
        first, last = np.searchsorted(np.cumsum(sizes) - sizes, [start, stop])
        chosen = light.column("position").to_numpy()[order[first:last]]
        inside = np.unique(chosen)
        empty, held = None, []
        for batch in read_part(source, self._columns):
            among = pa.array(np.isin(batch.column("position").to_numpy(), inside))
            empty = batch.slice(0, 0).select(self._columns)
            held.append(batch.filter(among).select(self._columns))
        places = np.searchsorted(inside, chosen)
        for low, high in _cuts(sizes[first:last]):
            yield _gathered(held, places[low:high])
        if not len(places):
            assert empty is not None, "a part has at least one batch"
            yield empty


def _cuts(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows of these bytes in batches as `read_part` would make them."""
    ends = np.cumsum(sizes)
    low = 0
    while low < len(ends):
        before = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + BATCH_BYTES, "right")))
        high = min(high, low + BATCH_ROWS)
        yield low, min(high, len(ends))
        low = high


def _gathered(batches: Sequence[pa.RecordBatch], rows: np.ndarray) -> pa.RecordBatch:
    """Rows of the batches, counted through them, in the order given.

    Arrow's own `take` would bring all batches into one first, of which a binary column holds 2 GiB at most.
    """
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    owners = np.searchsorted(starts, rows, "right") - 1
    order = np.argsort(owners, kind="stable")
    pieces = [
        batches[owner].take(pa.array(rows[owners == owner] - starts[owner])) for owner in np.unique(owners)
    ]
    return pa.concat_batches(pieces).take(pa.array(np.argsort(order, kind="stable")))


def _layer(columns: Sequence[str], reader: dict[str, str] | None, **plain: Any) -> Layer:
    return Layer(columns=tuple(columns), reader=OperatorRef(**reader) if reader else None, **plain)


class WriteShard(Operator):
    """Writes what flows past to one shard and the files that go with it; notes its languages, and its tokens
    where it is given a tokenizer (`digest`: its SHA-256, which enters the fingerprint).

    Of images it tells size and checksum, in the columns IMAGE_COLUMNS: they are of the bytes that it writes,
    and stand for columns of these names that steps have made before. With `embeddings` (layout, and the
    column of each array) these are written beside the shard, and not into it.
    """

    version = 3

    def __init__(
        self,
        format: str,
        compression: str,
        suffix: str,
        scores: Sequence[str],
        modality: Modality = "text",
        tokenizer: str = "",
        digest: str = "",
        directory: str = "",
        embeddings: Mapping[str, Any] | None = None,
    ) -> None:
        self._format, self._compression, self._suffix = format, compression, suffix
        self._embeddings = embeddings
        self._scores, self._schema = list(scores), RECORDS[modality]
        self._tokenizer, self._directory = tokenizer, directory
        self._counter: Scorer | None = None
        self._sink: Sink | None = None
        self._files: EmbeddingFiles | None = None

    def open(self) -> None:
        if self._tokenizer:
            from ...scorers.tokens import TokenScorer

            self._counter = TokenScorer(self._tokenizer)
            self._counter.open(LocalAssets([Path(self._directory or ".")]))

    def begin(self, part: int) -> None:
        self._sink = self._files = None

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        whole, batch = batch, _shaped(batch, self._schema, self._scores)
        if self._sink is None:
            path = out.new_file(f"{SHARD}{self._suffix}")
            self._sink = open_sink(self._format, self._compression, batch.schema, path)
            if self._embeddings is not None:
                keyed = self._format == "webdataset"
                self._files = EmbeddingFiles(
                    **self._embeddings, schema=batch.schema, new_file=out.new_file, keyed=keyed
                )
        self._sink.write(batch)
        if self._files is not None:
            self._files.add(batch, whole)
        for count in pc.value_counts(batch.column("lang").drop_null()).to_pylist():
            out.accounts.figures[f"{LANGUAGE}{count['values']}"] += count["counts"]
        if self._counter is not None:
            (counts,) = self._counter.score(batch.select(self._counter.inputs)).values()
            out.accounts.figures[TOKENS] += pc.sum(counts).as_py() or 0
        return batch

    def end(self, out: Output) -> None:
        assert self._sink is not None, "a part has at least one batch"
        shard = self._sink.close()
        out.attach(SHARD, StreamRef(shard.path, shard.records, shard.bytes, shard.sha256))
        for file in shard.sidecars:
            out.attach(f"{SHARD}{file.suffix}", StreamRef(file.path, shard.records, file.bytes, file.sha256))
        if self._files is not None:
            written = self._files.close()
            for stream, embeddings in written.files.items():
                out.attach(stream, embeddings)
            for name, dimensions in written.dimensions.items():
                out.accounts.figures[f"{DIMENSIONS}{name}"] += dimensions
                out.accounts.figures[f"{MISSING}{name}"] += written.missing[name]


def _shaped(batch: pa.RecordBatch, schema: pa.Schema, scores: Sequence[str]) -> pa.RecordBatch:
    """The columns of an output record in their order; those that no step made are null."""
    names = set(batch.schema.names)
    columns = [batch.column(f.name) if f.name in names else pa.nulls(len(batch), f.type) for f in schema]
    columns = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    fields = list(schema)
    if IMAGE in schema.names:
        columns += image_columns(columns[schema.get_field_index(IMAGE)])
        fields += list(IMAGE_COLUMNS)
        scores = [name for name in scores if name not in IMAGE_COLUMNS.names]
    columns += [batch.column(name) for name in scores]
    fields += [batch.schema.field(name) for name in scores]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


class ReadLedger(Reader):
    """The ledger rows that all stages wrote for one part, in the order of position."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        tables = [_read_ledger(path) for path in self._paths]
        rows = pa.concat_tables(tables) if tables else LEDGER.empty_table()
        yield from rows.sort_by("position").combine_chunks().to_batches() or [
            pa.RecordBatch.from_arrays([pa.array([], field.type) for field in LEDGER], schema=LEDGER)
        ]


def _read_ledger(path: str) -> pa.Table:
    with open_parquet(path) as file:
        return file.read().cast(LEDGER)


class WriteLedger(Operator):
    """Commits ledger rows: all, or those of a fixed random share of records."""

    def __init__(self, share: float) -> None:
        self._share = share

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        batch = batch.filter(pa.array(drawn(batch.column("id"), self._share, 0, "ledger")))
        out.emit("rows", batch)
        return batch
