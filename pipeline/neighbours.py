"""The step that joins records with their nearest neighbours and keeps one of each component."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.dedup import Neighbours
from ..schemas.embeddings import KMeans
from .cluster import VERSION, find_centroids
from .compiled import CorpusStep, MapStep, add_layer
from .components import find_clusters
from .dedup import SURVIVOR_ROW_BYTES, choose_survivors
from .dedup_plan import DedupPlan
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order
from .semantic import centroids_for, partitions_of_embeddings
from .stage import Committed, Input, Layer, OperatorRef, Parts
from .steps.neighbours import (
    KERNELS,
    ByLists,
    DropNeighbours,
    FindContaminated,
    FindNeighbours,
    MergeNeighbours,
    Size,
)
from .steps.reading import Keep, stream_part
from .steps.survivors import ByRoot

NEIGHBOUR_ROW_BYTES = 32  # key, neighbour, similarity, tie


@dataclass
class NeighboursStep(CorpusStep):
    """Keeps one record of each component of the graph of nearest neighbours.

    Through the exchange goes each embedding, as float16, once for each list that is searched for it, then at
    most k neighbours for each of these.
    """

    options: Neighbours | None = None
    plan: DedupPlan | None = None
    seed: int = 0
    layer: str = ""  # the column that says which components are contaminated

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        assert self.plan is not None
        options, name = self.options, self.stage_name
        edges = self._edges(driver, parts)
        joined = sum(committed.streams["edges"].rows for committed in edges)
        members = add_layer(parts, find_clusters(driver, name, edges, parts, options.cluster_memory))
        judged = add_layer(parts, choose_survivors(driver, name, self.plan, members, joined, parts))
        marks: tuple[str, ...] = ()
        if options.contaminated is not None:
            judged = add_layer(judged, self._contaminated(driver, members, joined, parts))
            marks = (options.contaminated, self.layer)
        drop = OperatorRef.of(DropNeighbours, step=self.name, keeper="keeper", contaminated=list(marks))
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{name}-apply",
            {"records": Input(judged, (drop, keep), columns=("id", "source", "keeper", *marks))},
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])

    def _edges(self, driver: Driver, parts: Parts) -> list[Committed]:
        """Edges that join each record with its nearest neighbours."""
        assert self.options is not None
        options, name = self.options, self.stage_name
        rows = sum(part.rows for part in parts)
        lists = options.lists or centroids_for(rows)
        centroids = find_centroids(driver, self.name, name, parts, options.of, KMeans(), [lists], self.seed)
        by_lists = OperatorRef.of(
            ByLists,
            column=options.of,
            centroids=centroids.path,
            probes=options.probes,
            seed=self.seed,
            purpose=self.name,
            version=VERSION,
        )
        near = driver.run(
            f"{name}-lists",
            {"records": Input(parts, (by_lists,), "key", ("id", options.of))},
            partitions=partitions_of_embeddings(rows * min(options.probes, lists), centroids),
            reduce=OperatorRef.of(FindNeighbours, k=options.k, min_similarity=options.min_similarity),
        )
        found = tuple(stream_part(c.task, c.streams["neighbours"]) for c in near)
        return driver.run(
            f"{name}-nearest",
            {"neighbours": Input(found, (), "key")},
            partitions=partitions_for(sum(part.rows for part in found) * NEIGHBOUR_ROW_BYTES),
            reduce=OperatorRef.of(MergeNeighbours, k=options.k),
        )

    def _contaminated(self, driver: Driver, members: Parts, joined: int, parts: Parts) -> list[Layer]:
        """Layers of the positions whose component has a record that is contaminated."""
        assert self.options is not None
        column, name = self.options.contaminated, self.stage_name
        assert column is not None
        bytes_ = min(2 * joined, sum(part.rows for part in parts)) * SURVIVOR_ROW_BYTES
        commits = driver.run(
            f"{name}-contaminated",
            {"members": Input(members, (OperatorRef.of(ByRoot),), "key", ("root", column))},
            partitions=partitions_for(bytes_),
            reduce=OperatorRef.of(FindContaminated, column=column),
        )
        found = tuple(stream_part(c.task, c.streams["contaminated"]) for c in commits)
        return in_part_order(
            driver, f"{name}-marks", found, parts, {"contaminated": self.layer}, bytes_=bytes_
        )


def compile_neighbours(name: str, prefix: str, options: Neighbours, seed: int) -> NeighboursStep:
    """The step of a job; `prefix` begins the names of its columns."""
    order, best = options.keep.order, options.keep.column
    plan = DedupPlan(
        "",
        None,
        f"{prefix}length",
        f"{prefix}hash",
        "longest" if order == "largest" else order,
        best,
        keys_per_record=0,
        memory=options.cluster_memory,
    )
    keys = None
    if order != "first":
        ranked = "image" if order == "largest" else "text"
        operator = OperatorRef.of(Size, of=ranked, length=plan.length, hash=plan.hash)
        needs = frozenset({"image", "pixels"} if ranked == "image" else {"text"})
        keys = MapStep(name, operator, needs, (plan.length, plan.hash))
    reads = {column for _, column in options.columns_read} | set(keys.adds if keys else ())
    return NeighboursStep(
        name,
        frozenset(reads),
        keys,
        kernels=KERNELS,
        options=options,
        plan=plan,
        seed=seed,
        layer=f"{prefix}contaminated",
    )
