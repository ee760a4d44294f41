"""Images that are not copied into the work directory, because their source can be read again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.sources import SourceError, Split, expand
from thresher.pipeline.stage import OperatorRef, PartRef
from thresher.pipeline.steps.reading import ReadSource, source_layers
from thresher.pipeline.view import ROW_BITS, read_part

from . import archives
from .image_records import read_split

MEMBERS = [(f"{n}.{'jpg' if n % 4 else 'txt'}", b"%d" % n * 3000) for n in range(50)]


def write_tar(folder: Path) -> Split:
    return Split(str(archives.write(folder / "a.tar", MEMBERS)), "webdataset", modality="image-text")


def write_parquet(folder: Path) -> Split:
    images = [None if name.endswith("txt") else content for name, content in MEMBERS]
    pq.write_table(pa.table({"image": images, "text": ["c"] * 50}), folder / "b.parquet", row_group_size=9)
    return Split(str(folder / "b.parquet"), "parquet", modality="image-text")


def part_of(*splits: Split, payload: str = "image") -> PartRef:
    slices = [{"split": asdict(one), "file": asdict(expand(one.path)[0]), "input": ""} for one in splits]
    return PartRef(3, reader=OperatorRef.of(ReadSource, slices=slices, payload=payload), identity="x")


def test_a_layer_of_images_has_each_record_in_its_place(tmp_path: Path) -> None:
    splits = [write_tar(tmp_path), write_parquet(tmp_path)]
    part = part_of(*splits)
    layers = source_layers([part], "image")
    assert layers is not None
    assert [layer.columns for layer in layers[3]] == [("image",)]
    read = list(read_part(PartRef(3, layers=layers[3], identity="x"), ["image"]))
    records = [record for split in splits for record in read_split(split)[0]]
    assert [image for batch in read for image in batch["image"].to_pylist()] == [
        r["payload"] for r in records
    ]
    positions = [position for batch in read for position in batch["position"].to_pylist()]
    assert positions == [(3 << ROW_BITS) + n for n in range(100)]


def test_texts_of_these_parts_have_no_such_layer_nor_have_lists_and_folders(tmp_path: Path) -> None:
    tar = write_tar(tmp_path)
    assert source_layers([part_of(tar)], "text") is None
    assert source_layers([part_of(tar, payload="none")], "text") is None
    for split in (
        Split(tar.path, "image-folder", modality="image-text"),
        Split(tar.path, "parquet", modality="image-text", urls=True),
        Split(tar.path, "warc", modality="image-text"),
    ):
        assert source_layers([part_of(tar, split)], "image") is None


@pytest.mark.parametrize("write", [write_tar, write_parquet])
def test_a_file_that_has_changed_meanwhile_is_not_read(tmp_path: Path, write: object) -> None:
    split = write_tar(tmp_path) if write is write_tar else write_parquet(tmp_path)
    part = part_of(split)
    with open(split.path, "ab") as file:
        file.write(bytes(512))
    assert part.reader is not None
    with pytest.raises(SourceError, match="has changed"):
        list(ReadSource(**json.loads(part.reader.arguments)).read_again(3))
