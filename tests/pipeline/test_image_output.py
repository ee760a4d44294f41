"""Whole jobs that write images: shards with what goes with them, subsets, and what can be asked of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from PIL import Image
from thresher.jobs import inspection, why
from thresher.jobs.places import find
from thresher.pipeline.ingest import JobRefused

RECORDS = 60


def uid(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (8 + number % 5, 20, 3), np.uint8)
    Image.fromarray(pixels).save(stream, ["jpeg", "png"][number % 2])
    return stream.getvalue()


def rows(ids: list[str] | None = None) -> list[dict[str, Any]]:
    ids = ids or [uid(number) for number in range(RECORDS)]
    return [
        {"uid": id_, "image": picture(n), "caption": f"caption {n}", "url": f"https://e.org/{n}.jpg"}
        for n, id_ in enumerate(ids)
    ]


def job_of(folder: Path, records: list[dict[str, Any]], **output: Any) -> dict[str, Any]:
    if not (folder / "pool.parquet").exists():  # a pool that changes is refused
        pq.write_table(pa.Table.from_pylist(records), folder / "pool.parquet", row_group_size=7)
    columns = {"id": "uid", "image": "image", "caption": "caption", "url": "url"}
    return {
        "name": "images",
        "modality": "image-text",
        "input": [{"path": str(folder / "pool.parquet"), "columns": columns}],
        "output": {"path": str(folder / "out"), "shard": "8KB", **output},
        "run": {"work": str(folder / "work"), "part": "4KB"},
    }


def run(job: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The output of a job, whose tasks run here, and its manifest."""
    with inline_tasks():
        thresher.run(thresher.load(job))
    out = Path(job["output"]["path"])
    return out, json.loads((out / "manifest.json").read_text())


def samples(out: Path) -> list[dict[str, Any]]:
    """The samples of the shards in their order: key, image, caption, and the columns beside them."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                sample = found.setdefault(f"{path.stem}/{key}", {"key": key})
                if extension == "json":
                    sample |= json.loads(content)
                else:
                    sample["caption" if extension == "txt" else "image"] = content
    return list(found.values())


def test_the_manifest_lists_every_file_that_goes_with_a_shard(tmp_path: Path) -> None:
    out, manifest = run(job_of(tmp_path, rows(), format="webdataset"))
    assert len(manifest["shards"]) > 2
    for number, shard in enumerate(manifest["shards"]):
        names = [f"shard-{number:05d}{suffix}" for suffix in (".tar", ".idx", ".parquet")]
        files = [shard, *shard["sidecars"]]
        assert [file["path"] for file in files] == names
        for file in files:
            content = (out / file["path"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        table = pq.read_table(out / names[2])
        assert table.num_rows == shard["records"]
        assert (out / names[1]).read_text().startswith(f"v1.2 {shard['records']}\n")
        assert set(names[1:]) <= set(manifest["files"])
    assert sum(shard["records"] for shard in manifest["shards"]) == RECORDS


def test_every_image_is_written_beside_its_caption_and_tells_its_size_and_checksum(tmp_path: Path) -> None:
    pool = rows()
    out, _ = run(job_of(tmp_path, pool, format="webdataset"))
    found = samples(out)
    assert [sample["id"] for sample in found] == [row["uid"] for row in pool]
    tables = pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("shard-*.parquet"))])
    for sample, row, told in zip(found, pool, tables.to_pylist(), strict=True):
        assert (sample["image"], sample["caption"]) == (row["image"], row["caption"].encode())
        with Image.open(io.BytesIO(row["image"])) as image:
            assert (sample["width"], sample["height"]) == image.size
        assert sample["sha256"] == hashlib.sha256(row["image"]).hexdigest()
        for name in ("key", "id", "url", "width", "height", "sha256"):
            assert told[name] == sample[name]
        assert (told["caption"], told["status"]) == (row["caption"], "success")


def test_a_parquet_output_has_the_size_and_checksum_of_its_images(tmp_path: Path) -> None:
    pool = rows()
    pool[3]["image"] = b"not an image"
    out, manifest = run(job_of(tmp_path, pool, format="parquet"))
    assert all("sidecars" not in shard for shard in manifest["shards"])
    table = pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("shard-*.parquet"))])
    assert table.schema.field("width").type == table.schema.field("height").type == pa.int32()
    for row, read in zip(pool, table.to_pylist(), strict=True):
        assert (read["id"], read["image"], read["text"]) == (row["uid"], row["image"], row["caption"])
        assert read["sha256"] == hashlib.sha256(row["image"]).hexdigest()
        if row["image"] == b"not an image":
            assert (read["width"], read["height"]) == (None, None)
            continue
        with Image.open(io.BytesIO(row["image"])) as image:
            assert (read["width"], read["height"]) == image.size


@pytest.mark.parametrize("shuffle", ["parts", "global"])
def test_shuffled_images_stay_with_their_captions_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: str
) -> None:
    pool = rows()
    orders, checksums = [], []
    for number, size in enumerate((8 << 20, 3000, 1)):
        for module in ("view", "steps.writing"):
            monkeypatch.setattr(f"thresher.pipeline.{module}.BATCH_BYTES", size)
        folder = tmp_path / str(number)
        folder.mkdir()
        job = job_of(tmp_path, pool, format="webdataset", shuffle=shuffle)
        job["output"]["path"], job["run"]["work"] = str(folder / "out"), str(folder / "work")
        job["run"]["part"] = "64MB"  # one part, which is shuffled as a whole and cut into several shards
        out, manifest = run(job)
        assert len(manifest["shards"]) > 2
        found = samples(out)
        orders.append([sample["id"] for sample in found])
        checksums.append([shard["sha256"] for shard in manifest["shards"]])
        by_id = {row["uid"]: row for row in pool}
        for sample in found:
            row = by_id[sample["id"]]
            assert (sample["image"], sample["caption"]) == (row["image"], row["caption"].encode())
    assert sorted(orders[0]) == sorted(row["uid"] for row in pool)
    assert orders[0] != [row["uid"] for row in pool]
    assert orders[0] == orders[1] == orders[2]
    assert checksums[0] == checksums[1] == checksums[2]


def test_an_output_of_another_format_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    kinds: dict[str, set[str]] = {}
    for format_ in ("parquet", "webdataset", "datacomp", "parquet"):
        out, manifest = run(job_of(tmp_path, rows(), format=format_))
        names = {path.name for path in out.iterdir() if path.is_file()}
        assert names == {
            *manifest["files"], "manifest.json", *(shard["path"] for shard in manifest["shards"])
        } - {name for name in manifest["files"] if "/" in name}  # fmt: skip
        suffixes = {path.suffix for path in out.glob("shard-*")} | {path.name for path in out.glob("*.npy")}
        kinds[format_] = suffixes
    assert kinds == {
        "parquet": {".parquet"}, "webdataset": {".tar", ".idx", ".parquet"}, "datacomp": {"subset.npy"}
    }  # fmt: skip


@pytest.mark.parametrize("name", ["shard-00000.idx", "subset.npy"])
def test_a_file_that_no_run_wrote_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(JobRefused, match=f"{name} is in the way"):
        run(job_of(tmp_path, rows(), format="webdataset"))
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


@pytest.mark.parametrize("partition_bytes", [128 << 20, 64])
def test_a_subset_holds_the_uids_as_datacomp_sorts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition_bytes: int
) -> None:
    monkeypatch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
    # Some come again, and some share their upper half and differ in the lower one.
    ids = [uid(number % 50) for number in range(56)] + [
        f"{7:016x}{number:016x}" for number in (9, 2**64 - 1, 0, 9)
    ]
    out, manifest = run(job_of(tmp_path, rows(ids), format="datacomp"))
    subset = np.load(out / "subset.npy", mmap_mode="r")
    expected = np.array([divmod(int(id_, 16), 2**64) for id_ in set(ids)], np.dtype("u8,u8"))
    assert subset.dtype == np.dtype("u8,u8")
    assert np.array_equal(subset, np.sort(expected))
    content = (out / "subset.npy").read_bytes()
    assert manifest["shards"] == [
        {
            "path": "subset.npy",
            "records": len(set(ids)),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]
    totals = manifest["totals"]
    assert (totals["kept"], totals["written"], totals["repeated_uids"]) == (60, 53, 7)
    # How DataComp's resharder asks whether a sample is in the subset.
    for id_, there in ((ids[4], 1), (uid(1000), 0)):
        value = np.array([divmod(int(id_, 16), 2**64)], np.dtype("u8,u8"))[0]
        assert np.searchsorted(subset, value, "right") - np.searchsorted(subset, value, "left") == there


def test_an_id_that_is_no_uid_is_an_error_of_the_output(tmp_path: Path) -> None:
    ids = [f"https://e.org/{n}" if n % 6 == 0 else uid(n) for n in range(RECORDS)]
    out, manifest = run(job_of(tmp_path, rows(ids), format="datacomp"))
    totals = manifest["totals"]
    assert (totals["in"], totals["kept"], totals["errors"]) == (60, 50, {"uid_not_hex": 10})
    lost = pq.read_table(out / "ledger").to_pylist()
    assert [(row["id"], row["step"], row["verdict"], row["reason"]) for row in lost] == [
        (id_, "output", "error", "uid_not_hex") for id_ in ids if "/" in id_
    ]
    assert len(np.load(out / "subset.npy")) == 50


def test_a_subset_of_nothing_is_a_file_without_uids(tmp_path: Path) -> None:
    job = job_of(tmp_path, rows(), format="datacomp")
    job["steps"] = [{"rule": 'text == "none has this caption"'}]
    out, _ = run(job)
    subset = np.load(out / "subset.npy")
    assert (subset.dtype, subset.shape) == (np.dtype("u8,u8"), (0,))


@pytest.mark.parametrize("format_", ["webdataset", "parquet", "datacomp"])
def test_why_finds_a_kept_image_in_every_format(tmp_path: Path, format_: str) -> None:
    out, _ = run(job_of(tmp_path, rows(), format=format_))
    found = find(str(out), [f"run.work={tmp_path / 'work'}"])
    (fate,) = why.why(found, uid(41))["fates"]
    assert fate["verdict"] == "kept"
    assert "scores" not in fate
    shard = {"webdataset": r"shard-\d{5}.tar", "parquet": r"shard-\d{5}.parquet", "datacomp": "subset.npy"}
    assert Path(fate["shard"]).match(shard[format_].replace(r"\d{5}", "*"))
    with pytest.raises(why.NoAnswerError, match="no record of this run"):
        why.why(found, uid(1041))


def test_an_image_output_can_be_inspected_file_by_file(tmp_path: Path) -> None:
    out, manifest = run(job_of(tmp_path, rows(), format="webdataset"))
    (tar,) = inspection.inspect(out / "shard-00000.tar", rows=1)["files"]
    assert tar["rows"][0]["id"] == uid(0)
    assert tar["rows"][0]["jpg"] == f"{len(picture(0))} bytes"
    (index,) = inspection.inspect(out / "shard-00000.idx", rows=1000)["files"]
    assert len(index["rows"]) == manifest["shards"][0]["records"]
    assert index["rows"][0]["jpg"] == f"{len(picture(0))} bytes at 512"
    out, _ = run(job_of(tmp_path, rows(), format="parquet"))
    (parquet,) = inspection.inspect(out / "shard-00000.parquet", rows=1)["files"]
    assert parquet["rows"][0]["image"] == f"{len(picture(0))} bytes"
    out, _ = run(job_of(tmp_path, rows(), format="datacomp"))
    (subset,) = inspection.inspect(out / "subset.npy", rows=2)["files"]
    assert subset["records"] == RECORDS
    assert [row["uid"] for row in subset["rows"]] == sorted(uid(number) for number in range(RECORDS))[:2]
