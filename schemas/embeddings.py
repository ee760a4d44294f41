"""What stands under the verbs that work on embeddings: cluster, hierarchical_sample, retrieve."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .quantities import Count, Fraction, PositiveInt
from .verbs import ColumnName, Model

Cosine = Annotated[float, Field(ge=-1, le=1)]
Action = Literal["drop", "report"]
OfField = Annotated[
    ColumnName,
    Field(description="The column of the embeddings, as in clip_image; records without one are left alone."),
]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class KMeans(Model):
    """How centroids are found: k-means of a random sample, started from the seed."""

    iterations: PositiveInt = Field(
        default=20,
        description="Rounds of k-means; 20 as for DataComp's image_based.",
    )
    metric: Literal["cosine", "euclidean"] = Field(
        default="cosine",
        description="cosine: embeddings and centroids have length one (spherical k-means).",
    )
    sample: PositiveInt = Field(
        default=256,
        description="Records for each cluster that centroids are found from, at most; 256 as faiss' default.",
    )


class Cluster(KMeans):
    """k-means over the corpus: which cluster a record is in, and how near its centre it is.

    Of several numbers each level clusters the centroids of the one before, as hierarchical k-means does
    (Vo et al. 2024, arXiv:2405.15613; github.com/facebookresearch/ssl-data-curation).
    """

    of: OfField
    clusters: Annotated[
        list[PositiveInt],
        Field(min_length=1, max_length=8),
        BeforeValidator(_as_list, json_schema_input_type=PositiveInt | list[PositiveInt]),
    ] = Field(description="How many; of a hierarchy those of each level, most first, as in [10000, 500, 50].")
    resample: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Rounds in which each level above the first is clustered again, from the points "
        "nearest to each centroid alone.",
    )
    nearest: PositiveInt = Field(
        default=10, description="Points of each cluster that such a round starts from; goes with resample."
    )
    centroids: str | None = Field(
        default=None,
        description="A .npy of centroids (float32, clusters x dimensions) to use instead of finding them; "
        "of one level.",
    )
    publish: bool = Field(default=False, description="Leave the centroids in the output, as .npy files.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        levels = value.get("clusters")
        if isinstance(levels, list) and all(isinstance(level, int) for level in levels):
            if any(after >= before for before, after in pairwise(levels)):
                yield "clusters", f"{levels} does not descend; write the most clusters first"
            if len(levels) > 1 and value.get("centroids") is not None:
                yield "centroids", "centroids are those of one level; give one number of clusters"


class HierarchicalSample(Model):
    """Take as evenly from all clusters of a hierarchy as they allow (Vo et al. 2024, arXiv:2405.15613).

    From the top down each cluster's share goes to its children in equal parts: every one gives the same, or
    all that it has where that is less.
    """

    within: list[ColumnName] = Field(
        min_length=1,
        max_length=8,
        description="The columns of the clusters, coarsest first, as in [cluster_3, cluster_2, cluster].",
    )
    top: Fraction | None = Field(default=None, description="Share of the records that is kept.")
    budget: Count | None = Field(default=None, description="Records that are kept.")
    by: ColumnName | None = Field(
        default=None,
        description="What ranks the records of a cluster, highest first, as in cluster_similarity (those "
        "next to the centre); at random where left out.",
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("top", "budget") if value.get(key) is not None]
        if len(given) != 1:
            yield given[-1] if given else "", "how much? give one of top and budget"


class Neighbours(Model):
    """The records nearest to each query, by cosine."""

    k: PositiveInt = Field(
        default=4,
        description="Records for each query; 4 as DINOv2 for ImageNet-22k (Oquab et al. 2023, "
        "arXiv:2304.07193, table 15), which takes 32 for ImageNet-1k.",
    )
    min_similarity: Cosine = Field(default=-1.0, description="Least cosine of what is retrieved.")


class QueryClusters(KMeans):
    """The records of clusters in which there are queries."""

    clusters: PositiveInt = Field(
        description="Into how many the records are clustered; 100000 in DINOv2 and DataComp."
    )
    min_queries: PositiveInt = Field(
        default=1,
        description="Queries in a cluster that is taken; 1 as DataComp's image_based, 4 as DINOv2 (more "
        "than 3).",
    )
    assign: Literal["nearest", "inner_product"] = Field(
        default="nearest",
        description="Which centroid records and queries belong to: the nearest by `metric`, or the one whose "
        "product with them is the largest, as in DataComp, where centroids are means (metric: euclidean).",
    )
    per_cluster: PositiveInt | None = Field(
        default=None,
        description="Records of each such cluster, drawn at random; all where left out, 10000 in DINOv2.",
    )


class Retrieve(Model):
    """Which records are near a curated set."""

    of: Annotated[
        ColumnName,
        Field(
            description="The column of the embeddings, as in clip_image; on_null says what becomes of "
            "records without one."
        ),
    ]
    around: str = Field(
        description="The embeddings of the curated set: a .npy, or an array of an .npz or a column of a "
        "Parquet file, which `array` names."
    )
    array: str | None = Field(default=None, description="Which array or column of `around`.")
    neighbours: Neighbours | None = Field(default=None, description="Nearest records of each query.")
    clusters: QueryClusters | None = Field(default=None, description="Clusters that have queries in them.")
    where: str | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="An expression over columns, as of a rule: only such records can be retrieved.",
    )
    budget: Count | None = Field(
        default=None, description="Records that are retrieved at most, drawn at random; 1e6 in DINOv2."
    )
    action: Action = Field(
        default="drop", description="drop: only what is retrieved stays. report: a column says what it is."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        given = [key for key in ("neighbours", "clusters") if value.get(key) is not None]
        if len(given) != 1:
            yield given[-1] if given else "", "how? give one of neighbours and clusters"


class Embeddings(Model):
    """Which embeddings go out beside the shards, row for row with them, and in whose layout."""

    layout: Literal["datacomp", "clip-retrieval"] = Field(
        default="datacomp",
        description="datacomp: metadata/shard-N.npz with all arrays, and metadata/shard-N.parquet. "
        "clip-retrieval: a folder NAME_emb for each array with NAME_emb_N.npy, and "
        "metadata/metadata_N.parquet.",
    )
    arrays: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")], ColumnName], Field(min_length=1)
    ] = Field(
        description="Array: the column of the embeddings, as in {b32_img: clip_image, b32_txt: clip_text}, "
        "or {img: clip_image, text: clip_text} as clip-retrieval names them."
    )
