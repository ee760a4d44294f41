"""The step that thins out clusters of embeddings, as SemDeDup does."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.dedup import Semantic
from ..schemas.embeddings import KMeans
from .cluster import VERSION, Centroids, find_centroids
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order
from .stage import Input, OperatorRef, Parts
from .steps.reading import Keep, stream_part
from .steps.semantic import KERNELS, ByCluster, FindTooNear
from .steps.survivors import DropDuplicates

RECORDS_PER_CLUSTER = 1000
MOST_CLUSTERS = 50_000  # of facebookresearch/SemDeDup's configuration for LAION
EMBEDDING_ROW_BYTES = 80  # what travels beside an embedding, an id of some 40 bytes among it
DUPLICATE_ROW_BYTES = 56  # position, keeper's id
TASKS_AT_LEAST = 8  # of a corpus that fits into one: products take longer than what is read for them


@dataclass
class SemanticStep(CorpusStep):
    """Drops the records that are too near an earlier one of their cluster.

    Through the exchange go all embeddings, as float16, once.
    """

    options: Semantic | None = None
    seed: int = 0

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        options, name = self.options, self.stage_name
        rows = sum(part.rows for part in parts)
        clusters = options.clusters or min(MOST_CLUSTERS, centroids_for(rows))
        kmeans = KMeans(iterations=options.iterations, sample=options.sample)
        centroids = find_centroids(driver, self.name, name, parts, options.of, kmeans, [clusters], self.seed)
        by_cluster = OperatorRef.of(
            ByCluster,
            column=options.of,
            centroids=centroids.path,
            seed=self.seed,
            purpose=self.name,
            version=VERSION,
        )
        commits = driver.run(
            f"{name}-clusters",
            {"records": Input(parts, (by_cluster,), "key", ("id", options.of))},
            partitions=partitions_of_embeddings(rows, centroids),
            reduce=OperatorRef.of(FindTooNear, threshold=options.threshold, order=options.keep),
        )
        found = tuple(stream_part(c.task, c.streams["duplicates"]) for c in commits)
        layers = in_part_order(
            driver,
            f"{name}-duplicates",
            found,
            parts,
            {"keeper": "keeper"},
            bytes_=sum(part.rows for part in found) * DUPLICATE_ROW_BYTES,
        )
        drop = OperatorRef.of(DropDuplicates, step=self.name, keepers=["keeper"])
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        applied = driver.run(
            f"{name}-apply",
            {"records": Input(add_layer(parts, layers), (drop, keep), columns=("id", "source", "keeper"))},
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in applied])


def centroids_for(rows: int) -> int:
    """One for each RECORDS_PER_CLUSTER records."""
    return max(1, -(-rows // RECORDS_PER_CLUSTER))


def partitions_of_embeddings(rows: int, centroids: Centroids) -> int:
    """For an exchange of so many embeddings as long as the centroids are."""
    (level,) = centroids.levels
    each = level.bytes // max(1, level.rows) // 2 + EMBEDDING_ROW_BYTES
    return max(partitions_for(rows * each), min(TASKS_AT_LEAST, partitions_for(TASKS_AT_LEAST * rows * each)))


def compile_semantic(name: str, prefix: str, options: Semantic, seed: int) -> SemanticStep:
    """The step of a job."""
    return SemanticStep(name, frozenset({options.of}), kernels=KERNELS, options=options, seed=seed)
