"""Embeddings that others left in files, found again by the ids of records."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import key_index
from thresher.scorers.assets import LocalAssets, listing
from thresher.scorers.stored_embedding import StoredEmbeddingScorer
from thresher.scorers.testing import check_scorer

FILES, ROWS, DIMENSIONS = 3, 40, 5
IDS = [f"{number * 7919 % 1000:032x}" for number in range(FILES * ROWS)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def vectors() -> npt.NDArray[np.float16]:
    return np.random.default_rng(3).normal(size=(FILES * ROWS, DIMENSIONS)).astype(np.float16)


def pool(folder: Path, vectors: npt.NDArray[Any], savez: Callable[..., None] = np.savez) -> Path:
    """Metadata and archives as DataComp has them."""
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(vectors), ROWS)):
        pq.write_table(pa.table({"uid": IDS[start : start + ROWS]}), folder / f"{number:04d}.parquet")
        mine = vectors[start : start + ROWS]
        savez(folder / f"{number:04d}.npz", b32_img=np.zeros_like(mine), l14_img=mine)
    return folder


def scores(
    path: Path, ids: list[str | None], key: str = "id", array: str = "l14_img", **arguments: Any
) -> list[list[float] | None]:
    scorer = StoredEmbeddingScorer(str(path), array, key=key, **arguments)
    scorer.open(LocalAssets())
    (found,) = scorer.score(pa.record_batch({key: pa.array(ids, pa.string())})).values()
    return list(found.to_pylist())


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_pool_of_datacomp_gives_its_embeddings_in_whatever_order_they_are_asked_for(
    tmp_path: Path, vectors: npt.NDArray[np.float16], savez: Callable[..., None], kind: type
) -> None:
    pool(tmp_path / "pool", vectors.astype(kind), savez)
    order = np.random.default_rng(0).permutation(len(IDS))
    asked = [IDS[row] for row in order] + [IDS[4], None, "not there", IDS[4]]
    found = scores(tmp_path / "pool", asked, layout="datacomp")
    assert found[: len(order)] == [vectors[row].tolist() for row in order]
    assert found[len(order) :] == [vectors[4].tolist(), None, None, vectors[4].tolist()]


def test_folders_of_clip_retrieval_are_taken_pairwise(
    tmp_path: Path, vectors: npt.NDArray[np.float16]
) -> None:
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / "laion" / name).mkdir(parents=True)
    for number, start in enumerate(range(0, len(vectors), ROWS)):
        urls = [f"https://e.org/{row}" for row in range(start, start + ROWS)]
        pq.write_table(
            pa.table({"url": urls}), tmp_path / "laion" / "metadata" / f"metadata_{number}.parquet"
        )
        for name, sign in (("img", 1), ("text", -1)):
            path = tmp_path / "laion" / f"{name}_emb" / f"{name}_emb_{number}.npy"
            np.save(path, sign * vectors[start : start + ROWS])
    asked = ["https://e.org/119", "https://e.org/0", "https://e.org/120", "https://e.org/41"]
    told = {"layout": "clip-retrieval", "key": "url", "stored_key": "url"}
    found = scores(tmp_path / "laion", asked, array="text", **told)
    assert found == [(-vectors[119]).tolist(), (-vectors[0]).tolist(), None, (-vectors[41]).tolist()]
    (tmp_path / "laion" / "metadata" / "metadata_2.parquet").unlink()
    with pytest.raises(AssetError, match="3 files of text_emb, and 2 of metadata"):
        scores(tmp_path / "laion", asked, array="text", **told)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float16()), pa.list_(pa.float32()), pa.large_list(pa.float64())]
)
def test_columns_of_parquet_are_read_by_row_groups(
    tmp_path: Path, vectors: npt.NDArray[np.float16], kind: pa.DataType
) -> None:
    rows: list[list[float] | None] = [list(map(float, row)) for row in vectors]
    rows[12:25] = [None] * 13
    (tmp_path / "out").mkdir()
    table = pa.table({"id": IDS, "text": ["x"] * len(IDS), "clip": pa.array(rows, kind)})
    pq.write_table(table.slice(0, 70), tmp_path / "out" / "shard-00000.parquet", row_group_size=6)
    pq.write_table(table.slice(70), tmp_path / "out" / "shard-00001.parquet", row_group_size=6)
    pq.write_table(pa.table({"kind": ["file"]}), tmp_path / "out" / "containers.parquet")
    assert scores(tmp_path / "out", [*IDS[::-1]], array="clip") == rows[::-1]
    assert scores(tmp_path / "out" / "shard-00001.parquet", [IDS[3], IDS[71]], array="clip") == [
        None,
        rows[71],
    ]


def test_of_rows_with_one_key_the_first_counts(tmp_path: Path) -> None:
    for name, ids in (("a", ["x", "y", "x"]), ("b", ["z", "y"])):
        pq.write_table(pa.table({"uid": ids}), tmp_path / f"{name}.parquet")
        numbers = {"a": [1, 2, 3], "b": [4, 5]}[name]
        np.savez(tmp_path / f"{name}.npz", v=np.array(numbers, np.float16)[:, None])
    found = scores(tmp_path, ["x", "y", "z"], array="v", layout="datacomp")
    assert found == [[1.0], [2.0], [4.0]]


def test_keys_that_share_the_upper_half_of_their_hash_are_told_apart(
    tmp_path: Path, vectors: npt.NDArray[np.float16], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = key_index.xxh3_128_digest
    # NumPy reads the halves in this order: the first eight bytes are the upper one.
    monkeypatch.setattr(key_index, "xxh3_128_digest", lambda key: bytes([len(key) % 2] * 8) + digest(key)[8:])
    pool(tmp_path / "pool", vectors)
    asked = [*IDS[::-1], "absent", "absent too"]
    found = scores(tmp_path / "pool", asked, layout="datacomp")
    assert found == [*(row.tolist() for row in vectors[::-1]), None, None]


def test_rows_that_are_not_finite_count_as_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uid": ["nan", "large", "fine"]}), tmp_path / "a.parquet")
    rows = np.array([[1, np.nan], [1e6, 1], [0.5, 2]], np.float32)
    np.savez(tmp_path / "a.npz", v=rows)
    found = scores(tmp_path, ["nan", "large", "fine"], array="v", layout="datacomp")
    assert found == [None, None, [0.5, 2.0]]


def test_it_keeps_the_promises_of_a_scorer(tmp_path: Path, vectors: npt.NDArray[np.float16]) -> None:
    pool(tmp_path / "pool", vectors)
    build = functools.partial(StoredEmbeddingScorer, str(tmp_path / "pool"), "l14_img", layout="datacomp")
    examples = pa.record_batch({"id": pa.array([*IDS[:50:7], "none", None, IDS[-1]], pa.string())})
    check_scorer(build, examples)


def test_an_index_is_made_once_and_again_when_a_file_changes(
    tmp_path: Path, vectors: npt.NDArray[np.float16], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    table = key_index._table

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return table(*arguments)

    monkeypatch.setattr(key_index, "_table", counted)
    pool(tmp_path / "pool", vectors)
    before = listing(tmp_path / "pool")
    first = scores(tmp_path / "pool", IDS, layout="datacomp")
    assert scores(tmp_path / "pool", IDS, layout="datacomp") == first
    assert (len(made), listing(tmp_path / "pool")) == (1, before)
    path = tmp_path / "pool" / "0000.parquet"
    pq.write_table(pa.table({"uid": IDS[:ROWS][::-1]}), path)
    os.utime(path, ns=(1, 1))
    assert scores(tmp_path / "pool", IDS[:ROWS], layout="datacomp") == first[:ROWS][::-1]
    assert len(made) == 2
    assert listing(tmp_path / "pool") != before


def test_an_index_that_nobody_has_opened_for_a_month_is_removed(
    tmp_path: Path, vectors: npt.NDArray[np.float16]
) -> None:
    for name in ("old", "recent", "new"):
        pool(tmp_path / name, vectors)
    indexes = tmp_path / "cache" / "thresher" / "stored"
    scores(tmp_path / "old", ["x"], layout="datacomp")
    (old,) = indexes.glob("*.npy")
    scores(tmp_path / "recent", ["x"], layout="datacomp")
    os.utime(old, (0, 0))
    scores(tmp_path / "new", ["x"], layout="datacomp")
    assert len(list(indexes.glob("*.npy"))) == len(list(indexes.glob("*.lock"))) == 2
    assert not old.exists()


def test_without_a_folder_for_caches_each_process_has_its_own_index(
    tmp_path: Path, vectors: npt.NDArray[np.float16], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pool(tmp_path / "pool", vectors)
    assert scores(tmp_path / "pool", [IDS[9]], layout="datacomp") == [vectors[9].tolist()]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"array": "l14_imgs"}, r"has no array 'l14_imgs'; it has b32_img, l14_img"),
        ({"layout": "parquet"}, r"looked for a \.parquet with the columns id and l14_img"),
        ({"stored_key": "url"}, r"has no column 'url'; it has uid"),
        ({"layout": "clip-retrieval"}, r"looked for l14_img_emb"),
    ],
)
def test_what_is_not_in_the_files_is_told(
    tmp_path: Path, vectors: npt.NDArray[np.float16], arguments: dict[str, Any], told: str
) -> None:
    pool(tmp_path / "pool", vectors)
    with pytest.raises(AssetError, match=told):
        scores(tmp_path / "pool", ["x"], **{"layout": "datacomp", **arguments})


def test_files_that_are_no_matrices_of_embeddings_are_refused(
    tmp_path: Path, vectors: npt.NDArray[np.float16]
) -> None:
    pool(tmp_path / "pool", vectors)
    np.savez(tmp_path / "pool" / "0001.npz", l14_img=vectors[:7])
    with pytest.raises(AssetError, match=r"0001\.npz has 7 rows, and .*0001\.parquet keys for 40"):
        scores(tmp_path / "pool", ["x"], layout="datacomp")
    np.savez(tmp_path / "pool" / "0001.npz", l14_img=np.array([{}] * ROWS, object))
    with pytest.raises(AssetError, match="is no matrix of embeddings"):
        scores(tmp_path / "pool", ["x"], layout="datacomp")
    (tmp_path / "pool" / "0001.npz").write_bytes(b"PK\3\4 broken")
    with pytest.raises(AssetError, match=r"0001\.npz"):
        scores(tmp_path / "pool", ["x"], layout="datacomp")
    with pytest.raises(ValueError, match="layout 'laion' is none of"):
        StoredEmbeddingScorer("x", "y", layout="laion")  # type: ignore[arg-type]
