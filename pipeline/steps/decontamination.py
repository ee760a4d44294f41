"""Decontamination on the stage machinery: an index of evaluation sets, and what is done where it matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..evaluation_sets import EvaluationError, read_items, text_of
from ..operator import Combiner, Operator, Output, Reader, Reducer
from ..sources.files import SourceFile, expand
from ..stage import StreamRef
from ..store import HashedFile, at_hand

KERNELS: Final = ("thresher.filters.dedup.decontamination", "thresher.filters.dedup.windows")
ITEMS: Final = pa.schema(
    [
        pa.field("set", pa.int64(), nullable=False),  # which file
        pa.field("number", pa.int64(), nullable=False),  # of the item in it, from 1
        pa.field("query", pa.string()),
        pa.field("text", pa.string()),
    ]
)
COUNTS: Final = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("ngram", pa.int64(), nullable=False),  # of the index
        pa.field("records", pa.int64(), nullable=False),  # that have it
    ]
)
ROWS: Final = 1024  # items of a batch
SPAN: Final = 200  # characters of what was found that are told
BETWEEN: Final = "\n\n"  # what stands where a window was, so that two halves do not become one sentence


class ReadItems(Reader):
    """The items of evaluation files."""

    def __init__(
        self, files: Sequence[Mapping[str, Any]], fields: Sequence[str], query: Sequence[str]
    ) -> None:
        self._files = [SourceFile(**file) for file in files]
        self._fields, self._query = list(fields), list(query)

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], schema=ITEMS)
        held: list[tuple[Any, ...]] = []
        for place, file in enumerate(self._files):
            for number, item in read_items(file.path):
                held.append((place, number, text_of(item, self._query), text_of(item, self._fields)))
                if len(held) == ROWS:
                    yield _items(held)
                    held = []
            if expand(file.path) != [file]:
                raise EvaluationError(f"{file.path} has changed since this job started")
        if held:
            yield _items(held)


def _items(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, ITEMS, strict=True)], schema=ITEMS
    )


class BuildIndex(Operator):
    """Commits the index of the items that flow past, as the file `index`. Holds all of them."""

    kernels = KERNELS

    def __init__(self, normalization: Mapping[str, Any], selection: Mapping[str, Any], version: int) -> None:
        from ...filters.dedup import decontamination
        from ...filters.dedup.normal_words import Normalization

        self._library = decontamination
        self._how, self._selection = Normalization(**normalization), decontamination.Selection(**selection)
        self._batches: list[pa.RecordBatch] = []

    def begin(self, part: int) -> None:
        self._batches = []

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        self._batches.append(batch)
        return batch

    def end(self, out: Output) -> None:
        sets, numbers = (
            [value for batch in self._batches for value in batch.column(name).to_pylist()]
            for name in ("set", "number")
        )
        items = ((batch.column("query"), batch.column("text")) for batch in self._batches)
        index = self._library.build_index(items, sets, numbers, self._how, self._selection)
        self._batches = []
        if not len(index):
            size = self._selection.size
            raise EvaluationError(
                f"nothing to look for: no item of the evaluation sets has {size} words; "
                "give a smaller ngram, or short: whole"
            )
        batch = index.batch()
        file = HashedFile(out.new_file("index.arrow"))
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.close()
        out.attach("index", StreamRef(str(file.path), len(index), file.bytes, file.checksum))


class _Searching(Operator):
    """What looks for the n-grams of an index, which is a file with a checksum."""

    kernels = KERNELS

    def __init__(self, index: str, normalization: Mapping[str, Any]) -> None:
        from ...filters.dedup import decontamination
        from ...filters.dedup.normal_words import Normalization

        self._library, self._path = decontamination, index
        self._how = Normalization(**normalization)

    def open(self) -> None:
        with at_hand(self._path) as file:
            self._index = self._library.read_index(file)


class CountRecords(_Searching):
    """How many records of a batch have each n-gram that one of them has."""

    def __init__(self, index: str, normalization: Mapping[str, Any], version: int) -> None:
        super().__init__(index, normalization)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup.stars import spread

        ngrams, records = self._library.count_records(batch.column("text"), self._index, self._how)
        columns = [spread(ngrams.astype(np.uint64)), ngrams, records]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=COUNTS)


class AddCounts(Combiner):
    """One row for each n-gram, with the records of all."""

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return _added(batch)


def _added(batch: pa.RecordBatch) -> pa.RecordBatch:
    if not len(batch):
        return batch
    keys, records = batch.column("key").to_numpy(), batch.column("records").to_numpy()
    opens = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sums = np.add.reduceat(records, opens)
    firsts = batch.take(pa.array(opens))
    return pa.RecordBatch.from_arrays(
        [firsts.column("key"), firsts.column("ngram"), pa.array(sums)], schema=COUNTS
    )


class FindCommon(Reducer):
    """Commits the n-grams that more than `most` records have."""

    def __init__(self, most: int) -> None:
        self._most = most

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        out.emit("common", pa.RecordBatch.from_pylist([], schema=COUNTS))
        held = pa.RecordBatch.from_pylist([], schema=COUNTS)
        for batch in inputs["ngrams"]:
            # The last n-gram may go on in the next batch.
            added = _added(pa.concat_batches([held, batch.select(COUNTS.names).cast(COUNTS)]))
            self._emit(added.slice(0, max(0, len(added) - 1)), out)
            held = pa.concat_batches([added.slice(max(0, len(added) - 1))])
        self._emit(held, out)

    def _emit(self, counts: pa.RecordBatch, out: Output) -> None:
        out.emit("common", counts.filter(pc.greater(counts.column("records"), self._most)))


class Decontaminate(_Searching):
    """Drops, reports or mends the records that have n-grams of evaluation sets.

    `contaminated` is why a record is dropped; with `remove`, `too_many_pieces` or `no_piece_left`. The value
    is the set and the number of the item that the first n-gram is of, and what of the text matches there.
    `report` adds two columns that begin with `prefix`. `common`: streams of n-grams that are passed over.
    """

    def __init__(
        self,
        step: str,
        index: str,
        normalization: Mapping[str, Any],
        names: Sequence[str],
        common: Sequence[str],
        options: Mapping[str, Any],
        prefix: str,
        version: int,
    ) -> None:
        super().__init__(index, normalization)
        self._step, self._names, self._common = step, list(names), list(common)
        self._options, self._prefix = dict(options), prefix
        self._ignored: np.ndarray | None = None

    def open(self) -> None:
        super().open()
        if self._common:
            self._ignored = np.zeros(len(self._index), np.bool_)
            for path in self._common:
                self._ignored[pq.read_table(path, columns=["ngram"]).column("ngram").to_numpy()] = True

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        texts = batch.column("text")
        matches = self._library.find_matches(texts, self._index, self._how, self._ignored)
        number = np.diff(matches.first)
        share = matches.covered / np.maximum(matches.words, 1)
        hit = (number >= self._options["min_matches"]) & (share >= self._options["min_share"]) & (number > 0)
        told = self._told(texts, matches, hit)
        kept: pa.Array = pa.nulls(len(batch), pa.string())
        if self._options["action"] == "drop":
            return out.drop(self._step, batch, pc.if_else(pa.array(hit), "contaminated", kept), told)
        if self._options["action"] == "remove":
            return self._remove(batch, matches, hit, told, out)
        out.accounts.note(self._step, contaminated_records=int(hit.sum()))
        batch = batch.append_column(f"{self._prefix}_ngrams", pa.array(number))
        return out.drop(self._step, batch.append_column(f"{self._prefix}_by", told), kept)

    def _told(self, texts: pa.Array, matches: Any, hit: np.ndarray) -> pa.Array:
        """For each hit, where its first match is from, and the text of all matches that touch it."""
        told: list[str | None] = [None] * len(texts)
        for row in np.flatnonzero(hit).tolist():
            first, last = int(matches.first[row]), int(matches.first[row + 1])
            stop = int(matches.stop[first])
            for k in range(first + 1, last):
                if matches.start[k] > stop:
                    break
                stop = max(stop, int(matches.stop[k]))
            place, number = self._index.origin(int(matches.ngram[first]))
            found = texts[row].as_py().encode()[matches.start[first] : stop].decode("utf-8", "replace")
            span = " ".join(found[: SPAN + 1].split())
            more = "…" if len(found) > SPAN else ""
            told[row] = f"{self._names[place]}:{number} {span[:SPAN]}{more}"
        return pa.array(told, pa.string())

    def _remove(
        self, batch: pa.RecordBatch, matches: Any, hit: np.ndarray, told: pa.Array, out: Output
    ) -> pa.RecordBatch:
        from ...filters.dedup.windows import plan_removal
        from ...filters.text.edits import apply_edits, edit_lists

        texts = batch.column("text")
        removal = plan_removal(texts, matches.of(hit), self._options["window"], self._options["min_piece"])
        most, none = self._options["max_pieces"], pa.nulls(len(batch), pa.string())
        reasons = pc.if_else(pa.array(removal.left == 0), "no_piece_left", none)
        reasons = pc.if_else(pa.array(removal.pieces > most), "too_many_pieces", reasons)
        stands = pc.if_else(pa.array(removal.between), BETWEEN, "")
        after = apply_edits(texts, edit_lists(removal.first, removal.start, removal.stop, stands))
        shorter = pc.subtract(_size(texts), _size(after))
        edited = pc.and_(pa.array(hit), pc.is_null(reasons))
        out.accounts.note(
            self._step,
            edited_records=pc.sum(edited).as_py() or 0,
            removed_bytes=pc.sum(shorter.filter(edited)).as_py() or 0,
        )
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns |= {"text": after, "bytes": pc.subtract(batch.column("bytes"), shorter)}
        return out.drop(self._step, pa.RecordBatch.from_pydict(columns), reasons, told)


def _size(text: pa.Array) -> pa.Array:
    return pc.fill_null(pc.binary_length(text), 0).cast(pa.int64())
