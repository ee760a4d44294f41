"""The step that finds what is near a curated set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any, Final

from ..filters import expressions
from ..filters.signal_options import DEFAULTS
from ..filters.signals import SIGNALS, variant_name
from ..schemas import embeddings as schema
from ..schemas.contracts import AssetError
from ..schemas.steps import RetrieveStep as Step
from ..schemas.verbs import OnNull
from ..scorers.assets import LocalAssets
from .cluster import VERSION as CLUSTERING
from .cluster import find_centroids
from .compiled import CorpusStep, MapStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order
from .selection import CAP_ROW_BYTES, KEPT_ROW_BYTES, decide
from .selectors import TopSelector
from .stage import Committed, Input, Layer, OperatorRef, PartRef, Parts
from .steps.cluster import KERNELS as CLUSTER_KERNELS
from .steps.reading import Keep, stream_part
from .steps.retrieval import (
    SEARCH_KERNELS,
    BestOfQueries,
    Candidates,
    CountQueries,
    DrawFound,
    FindMembers,
    FindNearest,
    HasEmbedding,
    KeepRetrieved,
    PruneNearest,
    ReadQueries,
    TakeClusters,
    read_queries,
)
from .steps.selection import KeepWithinCap, Prune

NEAREST_ROW_BYTES: Final = 32  # key, similarity, tie, position
QUERY_BYTES: Final = 64 << 20  # embeddings of queries that one task assigns to clusters
FEW_PARTS: Final = 8  # whose nearest records are found without bounds


@dataclass
class RetrieveStep(CorpusStep):
    """Keeps what is near the embeddings of a curated set, which every worker holds.

    By neighbours, a row for each query and each of its k nearest records of a part goes through the exchange.
    Of many parts the square root of their number go first, and the others send only what is nearer than what
    was found there. By clusters, the records that centroids are found from go through it.
    """

    options: schema.Retrieve | None = None
    seed: int = 0
    path: str = ""
    checksum: str = ""
    queries: int = 0
    dimensions: int = 0
    prefix: str = ""  # of the columns for this step alone
    on_null: OnNull = "drop"

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        found = f"{self.prefix}found"
        candidates = self._candidates(driver, parts)
        if self.options.neighbours is not None:
            layers = self._neighbours(driver, self.options.neighbours, candidates, found)
        else:
            assert self.options.clusters is not None
            layers = self._members(driver, self.options.clusters, candidates, found)
        return self._apply(driver, add_layer(parts, layers), found)

    def _candidates(self, driver: Driver, parts: Parts) -> Parts:
        """The parts with those records alone that may be retrieved."""
        assert self.options is not None
        if self.options.where is None:
            return parts
        columns = columns_of(self.options.where)
        where = OperatorRef.of(Candidates, where=self.options.where, columns=columns)
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{self.stage_name}-candidates",
            {"records": Input(parts, (where, keep), columns=tuple(columns.values()))},
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])

    def _neighbours(
        self, driver: Driver, options: schema.Neighbours, parts: Parts, found: str
    ) -> list[Layer]:
        bounds: list[Committed] = []
        rest = parts
        if len(parts) > FEW_PARTS:
            each = isqrt(len(parts))
            bounds = self._search(driver, "bounds", options, parts[::each])
            rest = tuple(part for number, part in enumerate(parts) if number % each)
        commits = self._search(driver, "nearest", options, rest, bounds)
        streams = _streams(commits, "found")
        bytes_ = sum(part.rows for part in streams) * KEPT_ROW_BYTES
        return in_part_order(
            driver, f"{self.stage_name}-found", streams, parts, {"kept": found}, bytes_=bytes_
        )

    def _search(
        self,
        driver: Driver,
        name: str,
        options: schema.Neighbours,
        parts: Parts,
        before: Sequence[Committed] = (),
    ) -> list[Committed]:
        """The nearest records of each query in `parts` and among what was found before."""
        assert self.options is not None
        find = OperatorRef.of(
            FindNearest,
            column=self.options.of,
            queries=self.path,
            array=self.options.array,
            checksum=self.checksum,
            k=options.k,
            min_similarity=options.min_similarity,
            seed=self.seed,
            purpose=self.name,
            bounds=[committed.streams["nearest"].path for committed in before],
        )
        of_part = [min(part.rows, self.queries * options.k) for part in parts]
        first = 1 + max((part.index for part in parts), default=-1)
        known = tuple(replace(part, index=first + part.index) for part in _streams(before, "nearest"))
        return driver.run(
            f"{self.stage_name}-{name}",
            {"nearest": Input((*parts, *known), (find,), "key", ("id", self.options.of))},
            partitions=partitions_for(sum(of_part) * NEAREST_ROW_BYTES),
            reduce=OperatorRef.of(BestOfQueries, k=options.k),
            combine=OperatorRef.of(PruneNearest, k=options.k),
        )

    def _members(
        self, driver: Driver, options: schema.QueryClusters, parts: Parts, found: str
    ) -> list[Layer]:
        assert self.options is not None
        name = self.stage_name
        centroids = find_centroids(
            driver, self.name, name, parts, self.options.of, options, [options.clusters], self.seed
        )
        clusters: dict[str, Any] = {
            "centroids": centroids.path,
            # Products with rows of length one are what the cosine is assigned by.
            "metric": "cosine" if options.assign == "inner_product" else options.metric,
            "version": CLUSTERING,
        }
        (taken,) = driver.run(
            f"{name}-queries",
            {"queries": Input(self._query_parts(), (OperatorRef.of(CountQueries, **clusters),), "key")},
            partitions=1,
            reduce=OperatorRef.of(TakeClusters, least=options.min_queries),
        )
        told = f"{taken.streams['taken'].rows:,} of {centroids.clusters:,} clusters are taken"
        driver.listener.note(f"{self.name}: {told}, for their queries")
        clusters |= {"column": self.options.of, "taken": taken.streams["taken"].path}
        if options.per_cluster is None:
            find = OperatorRef.of(FindMembers, found=found, **clusters)
            commits = driver.run(
                f"{name}-members", {"records": Input(parts, (find,), columns=(self.options.of,))}
            )
            return [layer_of(committed, "found", optional=True) for committed in commits]
        find = OperatorRef.of(FindMembers, seed=self.seed, draw_for=self.name, **clusters)
        commits = driver.run(
            f"{name}-members",
            {"rows": Input(parts, (find,), "key", ("id", self.options.of))},
            partitions=partitions_for(sum(part.rows for part in parts) * CAP_ROW_BYTES),
            reduce=OperatorRef.of(KeepWithinCap, step=self.name, cap=options.per_cluster),
            combine=OperatorRef.of(Prune, cap=options.per_cluster),
        )
        streams = _streams(commits, "kept")
        bytes_ = sum(part.rows for part in streams) * KEPT_ROW_BYTES
        return in_part_order(driver, f"{name}-found", streams, parts, {"kept": found}, bytes_=bytes_)

    def _query_parts(self) -> Parts:
        assert self.options is not None
        step = max(1, QUERY_BYTES // (4 * max(1, self.dimensions)))
        ranges = [(first, min(first + step, self.queries)) for first in range(0, max(1, self.queries), step)]
        return tuple(
            PartRef(
                number,
                reader=OperatorRef.of(
                    ReadQueries, path=self.path, array=self.options.array, first=first, stop=stop
                ),
                bytes=4 * self.dimensions * (stop - first),
                rows=stop - first,
                identity=f"{self.checksum} {self.options.array} {first} {stop}",
            )
            for number, (first, stop) in enumerate(ranges)
        )

    def _apply(self, driver: Driver, parts: Parts, found: str) -> Parts:
        assert self.options is not None
        maps: tuple[OperatorRef, ...] = ()
        arguments: dict[str, Any] = {"report": self.makes[0]} if self.makes else {}
        if self.options.budget is not None:
            draw = f"{self.prefix}draw"
            # A draw that has chosen within clusters says nothing about those of other clusters.
            purpose = f"{self.name}\0budget"
            maps = (OperatorRef.of(DrawFound, found=found, column=draw, seed=self.seed, purpose=purpose),)
            selector = OperatorRef.of(TopSelector, by=draw, budget=self.options.budget, step=self.name)
            decision = decide(driver, f"{self.stage_name}-budget", selector, parts, maps, ("id", found))
            arguments["budget"] = [draw, decision]
        keep = OperatorRef.of(
            KeepRetrieved,
            step=self.name,
            of=self.options.of,
            there=f"{self.prefix}there",
            found=found,
            on_null=self.on_null,
            **arguments,
        )
        alive = OperatorRef.of(Keep, stream="alive", columns=list(self.makes))
        columns = ("id", "source", f"{self.prefix}there", found)
        commits = driver.run(
            f"{self.stage_name}-apply", {"records": Input(parts, (*maps, keep, alive), columns=columns)}
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def _streams(commits: Sequence[Committed], stream: str) -> tuple[PartRef, ...]:
    return tuple(stream_part(committed.task, committed.streams[stream]) for committed in commits)


def columns_of(where: str) -> dict[str, str]:
    """The names that an expression reads, and the column of each, a signal's being one with its options."""
    names = sorted(expressions.parse(where).columns)
    return {name: variant_name(name, DEFAULTS) if name in SIGNALS else name for name in names}


def compile_retrieve(step: Step, number: int, seed: int, directory: Path) -> RetrieveStep:
    """The step of a job; `number` tells its columns from those of others, `directory` is where the curated
    set is looked for. Raises AssetError."""
    options = step.retrieve
    asset = LocalAssets([directory]).describe(options.around)
    queries = read_queries(asset.path, options.array)
    if not len(queries):
        raise AssetError(f"{asset.path}: holds no embedding to look for")
    prefix = f"retrieve_{number}_"
    there = f"{prefix}there"
    keys = OperatorRef.of(HasEmbedding, of=options.of, column=there)
    reads = {options.of, there, *(columns_of(options.where).values() if options.where else ())}
    return RetrieveStep(
        step.name,
        frozenset(reads),
        MapStep(step.name, keys, frozenset({options.of}), (there,)),
        types={step.column: "bool"} if options.action == "report" else {},
        kernels=SEARCH_KERNELS if options.neighbours is not None else CLUSTER_KERNELS,
        options=options,
        seed=seed,
        path=asset.path,
        checksum=asset.sha256,
        queries=len(queries),
        dimensions=queries.shape[1],
        prefix=prefix,
        on_null=step.on_null,
    )
