"""Similarity to a reference set, against products in double precision."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.filters.embeddings.matrix import EMBEDDING, Matrix, column_of, normalised
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.similarity import SimilarityScorer
from thresher.scorers.testing import check_scorer

pytest.importorskip("faiss")

DIMENSIONS = 24


def vectors(seed: int, rows: int) -> Matrix:
    chance = np.random.default_rng(seed)
    return normalised(chance.normal(size=(rows, DIMENSIONS)).astype(np.float32))


def batch_of(matrix: Matrix, *, missing: tuple[int, ...] = ()) -> pa.RecordBatch:
    has = np.ones(len(matrix) + len(missing), np.bool_)
    has[list(missing)] = False
    return pa.RecordBatch.from_pydict({"clip_image": column_of(matrix, has)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reference = vectors(1, 90)
    np.save(tmp_path / "set.npy", reference)
    column = column_of(reference)
    split = ["test" if row % 2 else "train" for row in range(90)]
    ids = [f"picture-{row}" for row in range(90)]
    pq.write_table(pa.table({"id": ids, "split": split, "clip": column}), tmp_path / "set.parquet")
    return tmp_path


def scored(folder: Path, batch: pa.RecordBatch, **arguments: object) -> dict[str, list[object]]:
    scorer = SimilarityScorer("clip_image", **arguments)  # type: ignore[arg-type]
    scorer.open(LocalAssets([folder]))
    return {name: column.to_pylist() for name, column in scorer.score(batch).items()}


def cosines(folder: Path, batch: pa.RecordBatch) -> np.ndarray:
    records = np.array([row or [0] * DIMENSIONS for row in batch.column(0).to_pylist()], np.float64)
    reference = np.load(folder / "set.npy").astype(np.float64)
    return records @ reference.T / np.linalg.norm(records, axis=1).clip(1e-9)[:, None]


@pytest.mark.parametrize("k", [1, 3])
def test_a_record_gets_the_mean_of_its_k_largest_cosines_and_the_nearest_row(folder: Path, k: int) -> None:
    batch = batch_of(vectors(2, 40), missing=(5, 17))
    found = scored(folder, batch, reference="set.npy", k=k, outputs=["similarity", "nearest"])
    wanted = cosines(folder, batch)
    largest = np.sort(wanted, axis=1)[:, -k:].mean(axis=1)
    for row in range(len(batch)):
        if row in (5, 17):
            assert (found["similarity"][row], found["nearest"][row]) == (None, None)
        else:
            assert found["similarity"][row] == pytest.approx(largest[row], abs=1e-6)
            assert found["nearest"][row] == str(wanted[row].argmax())


def test_a_copy_of_a_reference_embedding_has_similarity_one(folder: Path) -> None:
    copies = np.load(folder / "set.npy")[[3, 50]]
    found = scored(
        folder, batch_of(copies), reference="set.parquet", array="clip", outputs=["similarity", "nearest"]
    )
    assert found["similarity"] == pytest.approx([1, 1], abs=1e-6)
    assert max(found["similarity"]) <= 1  # type: ignore[type-var]
    assert found["nearest"] == ["picture-3", "picture-50"]


def test_where_counts_only_the_rows_of_the_file_for_which_it_holds(folder: Path) -> None:
    batch = batch_of(vectors(2, 30))
    found = scored(
        folder, batch, reference="set.parquet", where='split == "test"', outputs=["similarity", "nearest"]
    )
    wanted = cosines(folder, batch)[:, 1::2]
    assert found["similarity"] == pytest.approx(wanted.max(axis=1), abs=2e-3)  # stored in half precision
    assert all(int(str(name).removeprefix("picture-")) % 2 for name in found["nearest"])


def test_lists_find_nearly_the_same(folder: Path) -> None:
    reference = vectors(4, 3000)
    np.save(folder / "large.npy", reference)
    near = batch_of(normalised(reference[:200] + 0.05 * vectors(5, 200)))
    exact = scored(folder, near, reference="large.npy", outputs=["similarity", "nearest"])
    lists = scored(
        folder,
        near,
        reference="large.npy",
        index="ivf",
        lists=40,
        probes=8,
        outputs=["similarity", "nearest"],
    )
    same = np.mean([a == b for a, b in zip(exact["nearest"], lists["nearest"], strict=True)])
    assert same >= 0.95


def test_an_embedding_of_zeros_has_no_similarity(folder: Path) -> None:
    zeros = batch_of(np.vstack([np.zeros((1, DIMENSIONS), np.float32), vectors(2, 1)]))
    assert [value is None for value in scored(folder, zeros, reference="set.npy")["similarity"]] == [
        True,
        False,
    ]


@pytest.mark.parametrize("arguments", [{}, {"k": 200}, {"index": "ivf", "lists": 2, "probes": 1}])
def test_the_scorer_keeps_its_promises(folder: Path, arguments: dict[str, object]) -> None:
    batch = batch_of(np.vstack([vectors(2, 5), np.load(folder / "set.npy")[:3]]), missing=(1,))
    build = functools.partial(
        SimilarityScorer,
        embedding="clip_image",
        reference="set.npy",
        outputs=["similarity", "nearest"],
        **arguments,
    )
    check_scorer(build, batch, assets=LocalAssets([folder]))


def test_errors_name_the_column_the_file_and_the_argument(folder: Path) -> None:
    short = pa.RecordBatch.from_pydict({"clip_image": pa.array([[1.0, 0.0]], EMBEDDING)})
    with pytest.raises(ValueError, match=r"column clip_image: .* 2 numbers .* 24 in set\.npy"):
        scored(folder, short, reference="set.npy")
    with pytest.raises(AssetError, match=r"set\.parquet: has no embedding for which split == "):
        scored(folder, short, reference="set.parquet", where='split == "val"')
    with pytest.raises(AssetError, match=r"set\.npy: has no column split"):
        scored(folder, short, reference="set.npy", where='split == "val"')
    with pytest.raises(ValueError, match="lists go with index: ivf"):
        SimilarityScorer("clip_image", "set.npy", lists=4)
    with pytest.raises(ValueError, match="outputs is"):
        SimilarityScorer("clip_image", "set.npy", outputs=["nearest", "far"])
