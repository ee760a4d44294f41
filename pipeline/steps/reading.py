"""From a source to positioned records: where every record gets its place and its first account."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...schemas.records import RAW_TEXT
from ..accounts import INPUT
from ..operator import LayerReader, Operator, Output, Reader, Reducer
from ..sources.containers import ContainerCounts
from ..sources.files import SourceError, SourceFile, expand
from ..sources.reader import read, read_images, read_texts
from ..sources.split import Split
from ..stage import Layer, OperatorRef, PartRef, StreamRef
from ..store import open_parquet
from ..view import ROW_BITS

Payload = Literal["none", "page", "image"]

_LIST: Final = re.compile(r"(?P<large>large_)?list<\w+: (?P<values>.*?)(?: not null)?>")


class ReadSource(Reader, LayerReader):
    """Reads the splits of one part; unreadable records become errors of the step `step`.

    `payload`: records may come as a page, which a later step extracts text from, or with an image, which
    becomes their column `image`; with none, such records are errors.
    """

    def __init__(self, slices: Sequence[dict[str, Any]], payload: Payload, step: str = INPUT) -> None:
        self._slices = [(Split(**slice_["split"]), SourceFile(**slice_["file"])) for slice_ in slices]
        self._inputs = [slice_["input"] for slice_ in slices]
        self._payload, self._step = payload, step

    def read_again(self, part: int) -> Iterator[pa.RecordBatch]:
        """Position and text, or image, of every row of the splits."""
        row = part << ROW_BITS
        name, values_of = ("image", read_images) if self._payload == "image" else ("text", read_texts)
        for split, file in self._slices:
            for values in _unchanged(values_of(split), file):
                positions = pa.array(np.arange(row, row + len(values), dtype=np.uint64))
                row += len(values)
                yield pa.RecordBatch.from_arrays([positions, values], names=["position", name])

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        containers = ContainerCounts()
        row = part << ROW_BITS
        # Also a source without records has streams, and these have columns.
        nothing = pa.RecordBatch.from_pylist([], schema=RAW_TEXT)
        sources = (
            zip(_unchanged(read(split, containers), file), repeat(name))
            for (split, file), name in zip(self._slices, self._inputs, strict=True)
        )
        for batch, name in chain([(nothing, "")], *sources):
            positions = pa.array(np.arange(row, row + len(batch), dtype=np.uint64))
            row += len(batch)
            batch = batch.add_column(0, pa.field("position", pa.uint64(), nullable=False), positions)
            batch = batch.append_column("input", pa.repeat(pa.scalar(name, pa.string()), len(batch)))
            out.emit("ids", _id_keys(batch))
            error = batch.column("error")
            if self._payload == "none":
                lacking = pc.and_(pc.is_null(error), pc.is_null(batch.column("text")))
                error = pc.if_else(lacking, "not_extracted", error)
            kept = out.drop(self._step, batch, error, batch.column("detail"), "error")
            out.rows_in += len(batch) - len(kept)
            if self._payload == "image":
                kept = kept.append_column("image", kept.column("payload"))
            unread = [] if self._payload == "page" else ["payload", "content_type"]
            yield kept.drop_columns(["error", "detail", *unread])
        out.accounts.add({"containers": containers.accounts()})
        out.emit("containers", containers.errors())


def _unchanged(items: Iterator[pa.Array], file: SourceFile) -> Iterator[pa.Array]:
    """What is read of a file. Raises SourceError where it is not, or no longer, as the job first found it."""
    _check(file)
    yield from items
    _check(file)


def _check(file: SourceFile) -> None:
    if expand(file.path) != [file]:
        raise SourceError(f"{file.path} has changed since this job first started")


def _id_keys(batch: pa.RecordBatch) -> pa.RecordBatch:
    keys = [xxhash.xxh3_64_intdigest(id_.encode()) for id_ in batch.column("id").to_pylist()]
    return pa.RecordBatch.from_arrays(
        [batch.column("position"), pa.array(keys, pa.uint64())], names=["position", "key"]
    )


def source_layers(parts: Sequence[PartRef], column: str = "text") -> dict[int, tuple[Layer, ...]] | None:
    """A layer for each part whose text, or image, is read from its source again; None if a copy costs less.

    It pays for texts of Parquet, whose columns can be read one by one, and for images of Parquet and of tar
    files, which are nearly all that these hold. Pictures of a folder are copied: nothing would tell that one
    of them is another by now.
    """
    layers: dict[int, tuple[Layer, ...]] = {}
    for part in parts:
        assert part.reader is not None
        arguments = json.loads(part.reader.arguments)
        if column != ("image" if arguments["payload"] == "image" else "text"):
            return None
        splits = [slice_["split"] for slice_ in arguments["slices"]]
        if not all(_is_read_again(split, column) for split in splits):
            return None
        layers[part.index] = (Layer("", part.identity, (column,), reader=part.reader),)
    return layers


def _is_read_again(split: Mapping[str, Any], column: str) -> bool:
    if column == "image":
        return split["format"] in ("parquet", "webdataset") and not split["urls"]
    return split["format"] == "parquet" and "html" not in split["columns"]


class ReadStream(Reader):
    """Reads a committed stream whose rows are not records of one part."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        with open_parquet(self._path) as file:
            yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
            for group in range(file.metadata.num_row_groups):
                yield from file.read_row_group(group).combine_chunks().to_batches()


def stream_part(index: int, stream: StreamRef) -> PartRef:
    """A committed stream as a part to read."""
    reader = OperatorRef.of(ReadStream, path=stream.path)
    return PartRef(index, reader=reader, bytes=stream.bytes, rows=stream.rows, identity=stream.checksum)


class CountRepeated(Reducer):
    """Counts the records whose id another record has already; an id is told by 64 bits of its hash."""

    def reduce(self, inputs: dict[str, Iterator[pa.RecordBatch]], out: Output) -> None:  # type: ignore[override]
        repeated = 0
        last: int | None = None
        for batch in inputs["ids"]:
            keys = batch.column("key").to_numpy()
            if len(keys):
                repeated += int((keys[1:] == keys[:-1]).sum()) + int(last == int(keys[0]))
                last = int(keys[-1])
        out.accounts.figures["repeated_ids"] += repeated


class Keep(Operator):
    """Commits what survives a stage: position and some columns, as a stream that later stages read.

    With `measured` columns it adds `bytes`, the size of a record's strings and image in these. `missing`
    columns (name and Arrow's name of the type) are those that only other inputs have: null.
    """

    def __init__(
        self,
        stream: str,
        columns: Sequence[str],
        measured: Sequence[str] = (),
        missing: Mapping[str, str] | None = None,
    ) -> None:
        self._stream, self._columns, self._measured = stream, list(columns), list(measured)
        self._missing = {name: type_of(alias) for name, alias in (missing or {}).items()}

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        kept = batch.select(["position", *self._columns])
        for name, type_ in self._missing.items():
            kept = kept.append_column(name, pa.nulls(len(batch), type_))
        if self._measured:
            names = set(batch.schema.names)
            measured = batch.select([name for name in self._measured if name in names])
            kept = kept.append_column("bytes", _value_bytes(measured))
        out.emit(self._stream, kept)
        return batch


def type_of(alias: str) -> pa.DataType:
    """The type of which this is Arrow's name; of lists too, which Arrow itself does not read."""
    told = _LIST.fullmatch(alias)
    if told is None:
        return pa.type_for_alias(alias)
    lists = pa.large_list if told["large"] else pa.list_
    return lists(type_of(told["values"]))


def _value_bytes(batch: pa.RecordBatch) -> pa.Array:
    """int64: bytes of the values of all string and binary columns of a row."""
    total: pa.Array = pa.array(np.zeros(len(batch), np.int64))
    for column in batch.columns:
        if column.type in (pa.string(), pa.large_string(), pa.binary()):
            total = pc.add(total, pc.fill_null(pc.binary_length(column), 0).cast(pa.int64()))
    return total
