"""The step that resizes: what becomes of each record, its verdict and the figures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from thresher.filters.image.libraries import image_libraries
from thresher.pipeline.accounts import Accounts
from thresher.pipeline.operator import Output
from thresher.pipeline.stage import StreamRef
from thresher.pipeline.steps import resizing
from thresher.pipeline.steps.resizing import Resize
from thresher.schemas import images as schema


class Kept(Output):
    """Keeps the ledger in memory."""

    def __init__(self) -> None:
        self.accounts, self.rows_in = Accounts(), 0
        self.ledger: list[dict[str, Any]] = []

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        assert stream == "ledger"
        self.ledger += batch.to_pylist()

    def new_file(self, name: str) -> Path:
        raise AssertionError("the step writes no files")

    def attach(self, stream: str, file: StreamRef) -> None:
        raise AssertionError("the step writes no files")


def operator(**options: Any) -> Resize:
    return Resize("resize", schema.Resize(**options).model_dump(mode="json"), image_libraries())


def written(width: int, height: int, format: str = "PNG", **options: Any) -> bytes:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns % 256, rows % 256, (rows + columns) % 256], axis=2).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def batch(images: list[bytes | None]) -> pa.RecordBatch:
    rows = range(len(images))
    return pa.RecordBatch.from_pydict(
        {
            "position": pa.array(rows, pa.uint64()),
            "id": pa.array([f"id{row}" for row in rows], pa.string()),
            "source": pa.array(["pairs.parquet"] * len(images), pa.string()),
            "image": pa.array(images, pa.binary()),
            "text": pa.array([f"caption {row}" for row in rows], pa.string()),
        }
    )


def size(image: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(image)).size


def test_images_are_replaced_and_their_size_is_remembered() -> None:
    out = Kept()
    made = operator(size=32).apply(batch([written(100, 50), written(40, 80)]), out)
    assert [size(image) for image in made.column("image").to_pylist()] == [(64, 32), (32, 64)]
    assert made.column("original_width").to_pylist() == [100, 40]
    assert made.column("original_height").to_pylist() == [50, 80]
    assert made.schema.field("original_width").type == pa.int32()
    assert made.column("text").to_pylist() == ["caption 0", "caption 1"]
    assert out.ledger == []


def test_the_size_that_is_remembered_is_the_one_that_is_shown() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made = operator(size=16).apply(batch([written(60, 30, "JPEG", exif=exif)]), Kept())
    assert size(made.column("image")[0].as_py()) == (16, 32)
    assert (made.column("original_width")[0].as_py(), made.column("original_height")[0].as_py()) == (30, 60)


def test_what_gives_no_picture_is_an_error_with_its_reason() -> None:
    jpeg = written(200, 100, "JPEG")
    out = Kept()
    given = batch(
        [None, b"<html>404</html>", b"<svg/>", jpeg[:900], written(300, 300), b"nothing", written(9, 9)]
    )
    made = operator(size=8, max_pixels=50_000).apply(given, out)
    assert made.column("id").to_pylist() == ["id6"]
    assert [(row["id"], row["verdict"], row["reason"]) for row in out.ledger] == [
        ("id0", "error", "no_image"),
        ("id1", "error", "html"),
        ("id2", "error", "svg"),
        ("id3", "error", "truncated"),
        ("id4", "error", "too_many_pixels"),
        ("id5", "error", "not_an_image"),
    ]
    assert out.ledger[4]["value"] == "300 x 300"
    counts = out.accounts.as_dict()["steps"]["resize"]
    assert (counts["in"], counts["kept"], sum(counts["errors"].values())) == (7, 1, 6)


def test_a_truncated_image_can_be_kept() -> None:
    jpeg = written(200, 100, "JPEG")
    made = operator(size=50, truncated="keep").apply(batch([jpeg[: len(jpeg) // 2]]), Kept())
    assert size(made.column("image")[0].as_py()) == (100, 50)


def test_original_bytes_stay_once_they_have_been_decoded() -> None:
    out = Kept()
    images = [written(30, 20, format) for format in ("JPEG", "PNG", "WEBP", "GIF")]
    made = operator(mode="no", encode="original").apply(batch([*images, images[0][:-20]]), out)
    assert made.column("image").to_pylist() == images
    assert made.column("original_width").to_pylist() == [30] * 4
    assert [row["reason"] for row in out.ledger] == ["truncated"]


@pytest.mark.parametrize(("encode", "mode"), [("jpeg", "RGB"), ("png", "RGBA"), ("webp", "RGBA")])
def test_jpeg_gets_the_matte_and_other_formats_keep_alpha(encode: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(out, "PNG")
    options = {"mode": "no", "encode": encode, "matte": "#ff8000"}
    made = operator(**options).apply(batch([out.getvalue()]), Kept())
    image = Image.open(io.BytesIO(made.column("image")[0].as_py()))
    assert (image.format or "").lower() == encode
    assert image.mode == mode
    if mode == "RGB":
        assert np.abs(np.asarray(image).astype(int) - (255, 128, 0)).max() <= 3


def test_animations_are_counted() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (0, 100, 200)]
    out, told = io.BytesIO(), Kept()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    operator(size=4).apply(batch([out.getvalue(), written(8, 8)]), told)
    assert told.accounts.as_dict()["steps"]["resize"]["figures"] == {"animations": 1}


def test_the_same_bytes_come_out_each_time_however_the_batches_are_cut() -> None:
    images = [written(50 + 7 * n, 64, "JPEG" if n % 2 else "PNG") for n in range(6)]
    whole = operator(size=32).apply(batch(images), Kept()).column("image").to_pylist()
    parts = [operator(size=32).apply(batch([image]), Kept()).column("image")[0].as_py() for image in images]
    assert whole == parts


def test_a_batch_that_grows_is_cut_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "BATCH_BYTES", 500)
    images: list[bytes | None] = [written(8, 8), None, *[written(8, 8)] * 5]
    out = Kept()

    def given() -> Iterator[pa.RecordBatch]:
        yield batch(images)
        yield batch([])

    flowed = list(operator(size=64, encode="png").flow(given(), out))
    assert len(flowed) > 2
    assert all(piece.schema == flowed[0].schema for piece in flowed)
    ids = [id for piece in flowed for id in piece.column("id").to_pylist()]
    assert ids == ["id0", "id2", "id3", "id4", "id5", "id6"]
    assert out.accounts.as_dict()["steps"]["resize"]["in"] == 7


def test_a_batch_without_rows_has_the_columns() -> None:
    made = operator().apply(batch([]), Kept())
    assert len(made) == 0
    assert made.schema.names[-2:] == ["original_width", "original_height"]


def test_a_side_that_the_format_has_no_room_for_is_an_error() -> None:
    out = Kept()
    operator(mode="no", encode="webp").apply(batch([written(16_400, 1)]), out)
    assert [row["reason"] for row in out.ledger] == ["too_large_to_encode"]


def test_versions_of_the_libraries_are_in_the_fingerprint() -> None:
    import cv2
    import PIL

    assert cv2.__version__ in image_libraries()
    assert PIL.__version__ in image_libraries()
