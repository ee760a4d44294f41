from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from thresher.pipeline.sources import Split
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.reader import read_images

from .image_records import plan_images, read_images_of, read_split


def write(folder: Path, table: pa.Table, rows: int = 1000) -> Path:
    pq.write_table(table, folder / "a.parquet", row_group_size=rows)
    return folder / "a.parquet"


def images_again(split: Split) -> list[bytes | None]:
    return [image for array in read_images(split) for image in array.to_pylist()]


def test_bytes_captions_and_the_rest_find_their_place(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"image": [b"one", b"two"], "caption": ["a", None], "n": [1, 2]}))
    (first, second), counts = read_images_of(path, "parquet")
    assert (first["payload"], first["text"], first["meta"]) == (b"one", "a", '{"n":1}')
    assert (second["payload"], second["text"], second["error"]) == (b"two", None, None)
    assert first["id"] == xxhash.xxh3_128_hexdigest(b"\0one\0a")
    assert counts.outcomes == {("file", "read"): 1}


def test_the_struct_of_hugging_face_is_recognised(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": b"one", "path": "1.png"}, {"bytes": None, "path": "2.png"}, None], struct)
    records, _ = read_images_of(
        write(tmp_path, pa.table({"image": images, "text": ["a", "b", "c"]})), "parquet"
    )
    assert [(r["payload"], r["error"]) for r in records] == [
        (b"one", None),
        (None, "missing_image"),
        (None, "missing_image"),
    ]


def test_what_img2dataset_writes_is_read_by_its_names(tmp_path: Path) -> None:
    table = pa.table({"key": ["0", "1"], "jpg": [b"one", None], "caption": ["a", "b"], "url": ["u", "v"]})
    columns = {"image": "jpg", "id": "key"}
    (first, second), _ = read_images_of(write(tmp_path, table), "parquet", columns=columns)
    assert (first["id"], first["url"], first["text"], first["meta"]) == ("0", "u", "a", None)
    assert (second["id"], second["error"]) == ("1", "missing_image")


def test_other_types_empty_and_large_images_are_errors_of_their_records(tmp_path: Path) -> None:
    records, _ = read_images_of(write(tmp_path, pa.table({"image": ["text", None]})), "parquet")
    assert [r["error"] for r in records] == ["image_not_bytes", "missing_image"]
    limits = ReadLimits(max_payload_bytes=4)
    records, _ = read_images_of(
        write(tmp_path, pa.table({"image": [b"", b"1234", b"12345"]})), "parquet", limits=limits
    )
    assert [(r["payload"], r["error"]) for r in records] == [
        (None, "missing_image"),
        (b"1234", None),
        (None, "payload_too_large"),
    ]


def test_a_file_without_images_is_a_container_with_an_error(tmp_path: Path) -> None:
    records, counts = read_images_of(write(tmp_path, pa.table({"text": ["a"]})), "parquet")
    assert (records, counts.outcomes) == ([], {("file", "error:missing_column"): 1})


def test_images_read_again_are_those_of_the_records_row_by_row(tmp_path: Path) -> None:
    images: list[Any] = [b"%d" % n * 1000 if n % 7 else None for n in range(300)]
    path = write(tmp_path, pa.table({"image": images, "text": ["c"] * 300}), 50)
    for split in [
        *plan_images(path, "parquet", target=100_000),
        Split(str(path), "parquet", modality="image-text", limit=60),
    ]:
        assert images_again(split) == [record["payload"] for record in read_split(split)[0]]


def test_batches_of_large_images_stay_small(tmp_path: Path) -> None:
    from thresher.pipeline.sources import ContainerCounts, read

    path = write(tmp_path, pa.table({"image": [bytes(1 << 20) for _ in range(40)]}))
    split = Split(str(path), "parquet", modality="image-text")
    assert max(batch.num_rows for batch in read(split, ContainerCounts())) <= 8
    assert max(len(array) for array in read_images(split)) <= 8 * 5


def test_a_damaged_file_ends_in_both_readings_at_the_same_row(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"image": [b"x%d" % n * 50 for n in range(100)]}), 20)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    split = Split(str(path), "parquet", modality="image-text")
    records, counts = read_split(split)
    assert images_again(split) == [record["payload"] for record in records]
    assert [kind for kind, _ in counts.outcomes] == ["file"]
