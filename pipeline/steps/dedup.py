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

    `keys`: the band keys of MinHash, the upper half of a 128-bit hash whose lower half is `low`, or the
    perceptual hash. `hash` and `length` order the records of a cluster. `ranked` says of what they are: of
    the `text`, or of the `image`, whose length is its number of pixels; None: nothing is ordered.
    `library` is what keys are made with, for the fingerprint.
    """

    version = 3
    kernels = (f"{KERNELS}minhash", f"{KERNELS}exact", f"{KERNELS}edges", f"{KERNELS}clusters")

    def __init__(
        self,
        prefix: str,
        method: str,
        on: str,
        arguments: Mapping[str, Any],
        ranked: str | None,
        library: str = "",
    ) -> None:
        from ...filters.dedup import exact, images, minhash

        self._prefix, self._method, self._on, self._ranked = prefix, method, on, ranked
        self._exact, self._images, self._minhash = exact, images, minhash
        self._arguments = dict(arguments)
        self._scheme = minhash.MinHashScheme(**arguments) if method == "minhash" else None

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        found: dict[str, pa.Array] = {}
        if self._scheme is not None:
            bands = self._minhash.band_keys(batch.column(self._on), self._scheme)
            # Not every version of Arrow can read lists of fixed size from Parquet where some are null.
            found["keys"] = bands.cast(pa.list_(pa.uint64()))
        elif self._method == "perceptual":
            found["keys"] = batch.column("phash")
        else:
            found["keys"], found["low"] = self._exact_keys(batch)
        if self._ranked:
            content = batch.column(self._ranked)
            image = self._ranked == "image"
            found["length"] = batch.column("pixels") if image else pc.utf8_length(content)
            found["hash"] = _hashes(content)
        for name, values in found.items():
            batch = batch.append_column(f"{self._prefix}{name}", values)
        return batch

    def _exact_keys(self, batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        match self._on:
            case "url":
                return self._exact.url_key(batch.column("url"))
            case "image":
                return self._images.image_key(batch.column("image"))
            case "pixels":
                return self._images.pixel_key(batch.column("image"))
            case "pair":
                return self._images.pair_key(batch.column("url"), batch.column("text"), **self._arguments)
        return self._exact.text_key(batch.column(self._on), **self._arguments)


def _hashes(contents: pa.Array) -> pa.Array:
    values = contents.cast(pa.binary()).to_pylist()
    return pa.array([xxhash.xxh3_64_intdigest(value or b"") for value in values], pa.uint64())


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
