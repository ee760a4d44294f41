"""Dedup on the stage machinery: what each record is compared by, and the edges that equal keys make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..operator import Combiner, Operator, Output, Reducer

KERNELS = "thresher.filters.dedup."


class Keys(Operator):
    """Adds what a dedup step compares, as columns that begin with `prefix`.

    `keys`: the band keys of MinHash, or the upper half of a 128-bit hash whose lower half is `low`.
    `hash` and `length`, of the text, order the records of a cluster.
    """

    version = 2
    kernels = (f"{KERNELS}minhash", f"{KERNELS}exact", f"{KERNELS}edges", f"{KERNELS}clusters")

    def __init__(self, prefix: str, method: str, on: str, arguments: Mapping[str, Any], ranked: bool) -> None:
        from ...filters.dedup import exact, minhash

        self._prefix, self._on, self._ranked = prefix, on, ranked
        self._exact, self._minhash = exact, minhash
        self._arguments = dict(arguments)
        self._scheme = minhash.MinHashScheme(**arguments) if method == "minhash" else None

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        column = batch.column(self._on)
        found: dict[str, pa.Array] = {}
        if self._scheme is not None:
            # Not every version of Arrow can read lists of fixed size from Parquet where some are null.
            found["keys"] = self._minhash.band_keys(column, self._scheme).cast(pa.list_(pa.uint64()))
        elif self._on == "url":
            found["keys"], found["low"] = self._exact.url_key(column)
        else:
            found["keys"], found["low"] = self._exact.text_key(column, **self._arguments)
        if self._ranked:
            texts = batch.column("text")
            found["length"] = pc.utf8_length(texts)
            found["hash"] = _hashes(texts)
        for name, values in found.items():
            batch = batch.append_column(f"{self._prefix}{name}", values)
        return batch


def _hashes(texts: pa.Array) -> pa.Array:
    return pa.array(
        [xxhash.xxh3_64_intdigest(text or b"") for text in texts.cast(pa.binary()).to_pylist()], pa.uint64()
    )


class Explode(Operator):
    """One row for each key of a record: what the exchange groups by.

    `older` is a column that is not null where an earlier run has the record already: such a one meets nobody.
    """

    def __init__(self, keys: str, low: str | None, older: str | None = None) -> None:
        self._keys, self._low, self._older = keys, low, older

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup import edges

        if self._older:
            batch = batch.filter(pc.is_null(batch.column(self._older)))
        low = batch.column(self._low) if self._low else None
        return edges.key_rows(batch.column(self._keys), batch.column("position"), low)


class CombineKeys(Combiner):
    """Turns a group of equal keys into its first row and finished edges, which spread over all partitions."""

    def combine(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        from ...filters.dedup import edges

        return edges.combine(batch)


class FindEdges(Reducer):
    """Joins each record with the first that has the same key."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.edges import StarEdges

        star = StarEdges()
        for batch in inputs["keys"]:
            out.emit("edges", star(batch))
