"""Dedup on the stage machinery: keys, edges by exchange, clusters, survivors, the decision for each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..operator import Combiner, Operator, Output, Reducer

MEMBERS = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),  # sorted, unique
        pa.field("root", pa.uint64(), nullable=False),  # least position of the cluster
    ]
)
DUPLICATES = pa.schema(
    [
        pa.field(
            "position", pa.uint64(), nullable=False
        ),  # sorted, unique: of a record that does not survive
        pa.field("keeper", pa.string(), nullable=False),  # id of the record that stands for it
    ]
)


KERNELS = "thresher.filters.dedup."


class Keys(Operator):
    """Adds what a dedup step compares, as columns that begin with `prefix`.

    `keys`: the band keys of MinHash, or the upper half of a 128-bit hash whose lower half is `low`.
    `hash` and `length`, of the text, order the records of a cluster.
    """

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
            found["keys"] = self._minhash.band_keys(column, self._scheme)
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
    """One row for each key of a record: what the exchange groups by."""

    def __init__(self, keys: str, low: str | None) -> None:
        self._keys, self._low = keys, low

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.dedup import edges

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


class FindClusters(Reducer):
    """Puts the positions of edges into clusters. One partition: the memory is that of UnionFind."""

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        from ...filters.dedup.clusters import UnionFind

        forest = UnionFind()
        for batch in inputs["edges"]:
            forest.add(batch.column("src").to_numpy(), batch.column("dst").to_numpy())
        members, roots = forest.components()
        out.emit("members", pa.RecordBatch.from_arrays([pa.array(members), pa.array(roots)], schema=MEMBERS))


class ByRoot(Operator):
    """The members of clusters among the records of a part, with what their survivor is chosen by."""

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return batch.filter(pc.is_valid(batch.column("root")))


class ChooseSurvivors(Reducer):
    """Names the duplicates of each cluster and the record that stands for them.

    One partition: it holds the members of all clusters, about 100 bytes each.
    """

    def __init__(self, kind: str, column: str | None, length: str, hash: str) -> None:
        from ...filters.dedup import clusters

        self._keepers, self._keep = clusters.keepers, clusters.Keep(kind, column)  # type: ignore[arg-type]
        self._names = {length: "length", hash: "hash"}

    def reduce(self, inputs: Mapping[str, Iterator[pa.RecordBatch]], out: Output) -> None:
        members = pa.Table.from_batches(list(inputs["members"]))
        names = [self._names.get(name, name) for name in members.schema.names]
        members = members.rename_columns(names).combine_chunks()
        best = self._keepers(members.column("root").to_numpy(), members, self._keep)
        gone = np.flatnonzero(best != np.arange(len(best)))
        gone = gone[np.argsort(members.column("position").to_numpy()[gone])]
        columns = [
            members.column("position").take(pa.array(gone)),
            members.column("id").take(pa.array(best[gone])),
        ]
        flat = [column.combine_chunks() for column in columns]
        out.emit("duplicates", pa.RecordBatch.from_arrays(flat, schema=DUPLICATES))


class DropDuplicates(Operator):
    """Writes the duplicates of a part to the ledger, with the id of the record that was kept."""

    def __init__(self, step: str) -> None:
        self._step = step

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        keeper = batch.column("keeper")
        reasons = pc.if_else(pc.is_valid(keeper), "duplicate", None)
        return out.drop(self._step, batch, reasons, keeper, "duplicate")
