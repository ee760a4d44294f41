"""The NumPy files of a shard's embeddings: readable by NumPy alone, equal however rows come in batches."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.sinks.embedding_files import EMBEDDING_FILE, EmbeddingFiles, EmbeddingInfo, path_of

SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("url", pa.string()), ("quality", pa.float32())]
)
IMAGES = pa.schema([*SCHEMA, ("image", pa.binary()), ("width", pa.int32()), ("original_width", pa.int32())])
ROWS = 300
LAYOUTS: list[Literal["datacomp", "clip-retrieval"]] = ["datacomp", "clip-retrieval"]


def records(schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    rows = [
        {
            "id": f"r{n}",
            "text": f"text {n}",
            "quality": n / 4,
            "image": b"x",
            "width": n,
            "original_width": 2 * n,
        }
        for n in range(ROWS)
    ]
    return pa.RecordBatch.from_pylist([{k: row.get(k) for k in schema.names} for row in rows], schema)


def vectors(first: int = 0) -> pa.RecordBatch:
    """An array that begins with records without an embedding, and one of lists of float32."""
    numbers = np.random.default_rng(1).normal(size=(ROWS, 7)).astype(np.float32)
    late = [
        row.tolist() if n >= first and n % 5 else None for n, row in enumerate(numbers.astype(np.float16))
    ]
    single = [row.tolist() if n % 3 else None for n, row in enumerate(numbers[:, :4])]
    return pa.record_batch(
        {"half": pa.array(late, pa.list_(pa.float16())), "single": pa.array(single, pa.list_(pa.float32()))}
    )


def written(
    folder: Path,
    layout: Literal["datacomp", "clip-retrieval"],
    batch: pa.RecordBatch,
    embeddings: pa.RecordBatch,
    cuts: list[int],
    keyed: bool = False,
) -> EmbeddingInfo:
    folder.mkdir(exist_ok=True)
    arrays = {"a": "half", "b": "single"}
    files = EmbeddingFiles(layout, arrays, batch.schema, lambda stream: folder / stream, keyed)
    for start, stop in zip([0, *cuts], [*cuts, len(batch)], strict=True):
        files.add(batch.slice(start, stop - start), embeddings.slice(start, stop - start))
    return files.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bytes_do_not_depend_on_how_rows_come_in_batches(
    tmp_path: Path, layout: Literal["datacomp", "clip-retrieval"]
) -> None:
    whole = written(tmp_path / "a", layout, records(), vectors(first=60), [])
    cut = written(tmp_path / "b", layout, records(), vectors(first=60), [0, 1, 59, 59, 120, 299])
    assert {name: file.checksum for name, file in whole.files.items()} == {
        name: file.checksum for name, file in cut.files.items()
    }
    assert (whole.dimensions, whole.missing) == (cut.dimensions, cut.missing)
    assert whole.dimensions == {"a": 7, "b": 4}
    assert whole.missing == {"a": 60 + 48, "b": 100}
    for file in whole.files.values():
        content = Path(file.path).read_bytes()
        assert (file.rows, file.bytes) == (ROWS, len(content))
        assert file.checksum == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_reads_every_row_in_its_place(
    tmp_path: Path, layout: Literal["datacomp", "clip-retrieval"]
) -> None:
    embeddings = vectors(first=60)
    info = written(tmp_path / "a", layout, records(), embeddings, [100])
    if layout == "datacomp":
        found = dict(np.load(info.files["datacomp.npz"].path))
    else:
        found = {name: np.load(info.files[f"clip-retrieval.{name}.npy"].path) for name in "ab"}
    for name, column in (("a", "half"), ("b", "single")):
        told = embeddings.column(column).to_pylist()
        width = info.dimensions[name]
        expected = np.array([row or [np.nan] * width for row in told], np.float16)
        np.testing.assert_array_equal(found[name], expected, strict=True)


def test_an_archive_is_as_plain_as_one_of_numpys_own(tmp_path: Path) -> None:
    info = written(tmp_path / "a", "datacomp", records(), vectors(), [])
    np.savez(tmp_path / "theirs.npz", **dict(np.load(info.files["datacomp.npz"].path)))
    for path in (info.files["datacomp.npz"].path, tmp_path / "theirs.npz"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            for member in archive.infolist():
                # No data descriptors: readers of other languages go by what stands before the content.
                assert (member.flag_bits, member.compress_type) == (0, zipfile.ZIP_STORED)
                assert member.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("keyed", [True, False])
def test_the_table_has_what_readers_of_its_layout_ask_for(tmp_path: Path, keyed: bool) -> None:
    batch = records(IMAGES)
    key = ["key"] if keyed else []
    info = written(tmp_path / "a", "datacomp", batch, vectors(), [], keyed)
    table = pq.read_table(info.files["datacomp.parquet"].path)
    asked = ["uid", "url", "text", "original_width", "original_height", "sha256", *key]
    assert table.column_names == [*asked, "id", "quality", "width"]
    assert table.column("uid").to_pylist() == batch.column("id").to_pylist()
    assert table.column("original_width").to_pylist() == batch.column("original_width").to_pylist()
    info = written(tmp_path / "b", "clip-retrieval", batch, vectors(), [], keyed)
    table = pq.read_table(info.files["clip-retrieval.parquet"].path)
    assert table.column_names == [
        "image_path",
        "caption",
        *key,
        "id",
        "url",
        "quality",
        "width",
        "original_width",
    ]
    assert table.column("caption").to_pylist() == batch.column("text").to_pylist()
    assert table.column("image_path").to_pylist() == table.column("key" if keyed else "id").to_pylist()


def test_a_table_of_texts_tells_of_no_images(tmp_path: Path) -> None:
    for layout, names in (
        ("datacomp", ["uid", "url", "text", "id"]),
        ("clip-retrieval", ["caption", "id", "url"]),
    ):
        info = written(tmp_path / layout, layout, records(), vectors(), [])  # type: ignore[arg-type]
        table = pq.read_table(info.files[f"{layout}.parquet"].path)
        assert table.column_names == [*names, "quality"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shard_without_records_has_arrays_without_rows(
    tmp_path: Path, layout: Literal["datacomp", "clip-retrieval"]
) -> None:
    info = written(tmp_path / "a", layout, records().slice(0, 0), vectors().slice(0, 0), [])
    path = next(Path(file.path) for name, file in info.files.items() if not name.endswith(".parquet"))
    loaded: Any = np.load(path)
    array = loaded["a"] if layout == "datacomp" else loaded
    assert (array.shape, array.dtype) == ((0, 0), np.float16)


def test_embeddings_of_different_lengths_are_refused(tmp_path: Path) -> None:
    odd = pa.record_batch({"half": pa.array([[1, 2], [1]], pa.list_(pa.float16())), "single": pa.nulls(2)})
    odd = odd.set_column(1, "single", odd.column(1).cast(pa.list_(pa.float32())))
    with pytest.raises(ValueError, match="half: an embedding has 1 numbers where others have 2"):
        written(tmp_path / "a", "datacomp", records().slice(0, 2), odd, [])


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("datacomp.npz", "metadata/shard-00012.npz"),
        ("datacomp.parquet", "metadata/shard-00012.parquet"),
        ("clip-retrieval.img.npy", "img_emb/img_emb_00012.npy"),
        ("clip-retrieval.parquet", "metadata/metadata_00012.parquet"),
        ("shard.parquet", None),
        ("shard", None),
        ("tokens", None),
    ],
)
def test_every_file_of_embeddings_has_a_place_that_a_run_knows_for_its_own(
    stream: str, path: str | None
) -> None:
    assert path_of(stream, 12) == path
    assert path is None or EMBEDDING_FILE.fullmatch(path)
