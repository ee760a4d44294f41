"""The step that clusters records by their embeddings, and centroids for the steps that need some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from ..schemas.contracts import AssetError
from ..schemas.embeddings import Cluster, KMeans
from ..schemas.steps import ClusterStep as Step
from ..scorers.assets import LocalAssets
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of
from .stage import Committed, Input, OperatorRef, Parts, StreamRef
from .steps.cluster import KERNELS, AssignClusters, FindCentroids, Lowest, SampleEmbeddings
from .steps.reading import Keep
from .storage import place
from .store import open_parquet

VERSION = 1  # of how centroids are found and records assigned
DRAWS = 1 << 64
_WIDER = 8  # by how much more draws are let through where too few records have an embedding


@dataclass(frozen=True)
class Centroids:
    """Committed centroids: .npy files of the work directory, whose names change with their content.

    `levels`: float32 (clusters, dimensions), the level with the most clusters first; of length one where the
    metric is cosine; without a row where no record has an embedding. `members`: of each level behind the
    first, int32: for each cluster of the level before the number of the one that it is in.
    """

    levels: tuple[StreamRef, ...]
    members: tuple[StreamRef, ...] = ()

    @property
    def path(self) -> str:
        """The file of the first level; `read_array` of steps/cluster.py reads it."""
        return self.levels[0].path

    @property
    def clusters(self) -> int:
        """How many there are in the first level."""
        return self.levels[0].rows


def find_centroids(
    driver: Driver,
    step: str,
    name: str,
    parts: Parts,
    column: str,
    options: KMeans,
    clusters: Sequence[int],
    seed: int,
    *,
    resample: int = 0,
    nearest: int = 10,
) -> Centroids:
    """Centroids of the embeddings in `column` of `parts`, by one stage named `<name>-centroids`.

    They are found from the `sample` x `clusters[0]` records with the lowest draws of (seed, step, id), or all
    where there are no more, in one task, which holds these embeddings twice as float32: 1 GB for 1,000
    clusters, 256 records of each and 512 dimensions; the exchange brings it about as many. `clusters` has the
    number of each level (see filters.embeddings.hierarchy.train_levels for them, `resample` and `nearest`).
    Where the sample has fewer different embeddings there are fewer clusters, which the listener is told. The
    same whatever the parts, engines and threads are.
    """
    wanted = clusters[0] * options.sample
    rows = sum(part.rows for part in parts)
    # As many draws as this let all of the sample through, but by a chance of less than 1e-14.
    below = DRAWS * math.ceil(wanted + 8 * math.sqrt(wanted) + 64) // max(1, rows)
    while True:
        whole = below >= DRAWS
        take = OperatorRef.of(
            SampleEmbeddings,
            column=column,
            metric=options.metric,
            seed=seed,
            purpose=step,
            below=None if whole else below,
        )
        (found,) = driver.run(
            f"{name}-centroids",
            {"sample": Input(parts, (take,), "key", ("id", column))},
            partitions=1,
            reduce=OperatorRef.of(
                FindCentroids,
                clusters=list(clusters),
                sample=wanted,
                whole=whole,
                iterations=options.iterations,
                metric=options.metric,
                seed=xxhash.xxh3_64_intdigest(f"{seed}\0{step}".encode()),
                resample=resample,
                nearest=nearest,
                version=VERSION,
            ),
            combine=OperatorRef.of(Lowest, count=wanted),
        )
        if "centroids-1" in found.streams:
            break
        below *= _WIDER  # of few records there is an embedding
    levels = tuple(found.streams[f"centroids-{number + 1}"] for number in range(len(clusters)))
    _tell(driver, step, found, levels, clusters)
    return Centroids(levels, tuple(found.streams[f"members-{n + 1}"] for n in range(1, len(clusters))))


def _tell(
    driver: Driver, step: str, found: Committed, levels: Sequence[StreamRef], clusters: Sequence[int]
) -> None:
    with open_parquet(found.streams["sampled"].path) as file:
        (records,) = file.read()["records"].to_pylist()
    driver.listener.note(f"{step}: {levels[0].rows:,} clusters, found from {records:,} embeddings")
    for number, (level, wanted) in enumerate(zip(levels, clusters, strict=True), 1):
        if level.rows < wanted:
            told = f"{level.rows:,} clusters instead of {wanted:,}"
            where = f" of level {number}" if len(levels) > 1 else ""
            driver.listener.note(f"{step}: {told}{where}, for there are no more different embeddings")


@dataclass
class ClusterStep(CorpusStep):
    """Adds each record's cluster; centroids come from a sample, or with the job.

    Every worker holds the centroids, as float32.
    """

    options: Cluster | None = None
    seed: int = 0
    given: str = ""  # the centroids that come with the job
    checksum: str = ""

    @property
    def kind(self) -> str:
        return "summary"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        options, name = self.options, self.stage_name
        path, members = self.given, []
        if not self.given:
            found = find_centroids(
                driver,
                self.name,
                name,
                parts,
                options.of,
                options,
                options.clusters,
                self.seed,
                resample=options.resample,
                nearest=options.nearest,
            )
            path, members = found.path, [stream.path for stream in found.members]
            if options.publish:
                for level, stream in enumerate(found.levels, 1):
                    driver.published[f"centroids/{name}-{level}.npy"] = place(stream.path)
        elif options.publish:
            driver.published[f"centroids/{name}-1.npy"] = place(path)
        assign = OperatorRef.of(
            AssignClusters,
            step=self.name,
            column=options.of,
            columns=list(self.makes),
            metric=options.metric,
            centroids=path,
            members=members,
            version=VERSION,
            checksum=self.checksum,
        )
        keep = OperatorRef.of(Keep, stream="alive", columns=list(self.makes))
        commits = driver.run(
            f"{name}-apply", {"records": Input(parts, (assign, keep), columns=("id", "source", options.of))}
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def compile_cluster(step: Step, number: int, seed: int, directory: Path) -> ClusterStep:
    """The step of a job; `directory` is where centroids that come with it are looked for. Raises
    AssetError."""
    options = step.cluster
    path, checksum = "", ""
    if options.centroids is not None:
        asset = LocalAssets([directory]).describe(options.centroids)
        _check(asset.path, options)
        path, checksum = asset.path, asset.sha256
    return ClusterStep(
        step.name,
        frozenset({options.of}),
        types=step.columns,
        kernels=KERNELS,
        options=options,
        seed=seed,
        given=path,
        checksum=checksum,
    )


def _check(path: str, options: Cluster) -> None:
    try:
        given = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise AssetError(f"{path}: not a .npy of centroids ({error})") from error
    if not isinstance(given, np.ndarray) or given.ndim != 2 or given.dtype.kind != "f":
        raise AssetError(
            f"{path}: centroids are a .npy with a row of floating-point numbers for each cluster"
        )
    if len(given) != options.clusters[0]:
        raise AssetError(f"{path}: has {len(given)} centroids where clusters says {options.clusters[0]}")
    if not np.isfinite(given).all():
        raise AssetError(f"{path}: a centroid has a number that is not finite")
