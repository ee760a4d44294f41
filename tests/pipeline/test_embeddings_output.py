"""Whole jobs with embeddings: a column like others in Parquet, or NumPy files beside shards of any format."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from s3_server import Bucket
from thresher.jobs import why
from thresher.jobs.places import find
from thresher.jobs.problems import JobFileError
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.planner import describe, plan

RECORDS = 60
DIMENSIONS = 6

MODULE = '''\
import hashlib

import numpy as np
import pyarrow as pa
from thresher.scorers import Scorer

KINDS = {
    "half": pa.list_(pa.float16()),
    "single": pa.list_(pa.float32()),
    "large": pa.large_list(pa.float32()),
    "fixed": pa.list_(pa.float32(), 6),
}


class Vectors(Scorer):
    """Six numbers told by the text, others of the same length, and the first; none where the text asks."""

    version = 1
    inputs = ("text",)

    def __init__(self, kind="half", skip="nothing", scale=1.0):
        self._kind, self._skip, self._scale = KINDS[kind], skip, scale

    @property
    def outputs(self):
        return {"image": self._kind, "text": self._kind, "first": pa.float32()}

    def score(self, batch):
        rows = []
        for text in batch.column("text").to_pylist():
            digest = hashlib.md5(text.encode()).digest()
            rows.append(None if self._skip in text else [byte / 16 * self._scale for byte in digest[:12]])
        image = [None if row is None else row[:6] for row in rows]
        behind = [None if row is None else row[6:] for row in rows]
        return {
            "image": pa.array(image, pa.list_(self._kind.value_type)).cast(self._kind),
            "text": pa.array(behind, pa.list_(self._kind.value_type)).cast(self._kind),
            "first": pa.array([None if row is None else row[0] for row in rows], pa.float32()),
        }
'''


def expected(text: str, first: int = 0) -> list[float]:
    return [byte / 16 for byte in hashlib.md5(text.encode()).digest()[first : first + DIMENSIONS]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with records in two files, and a scorer of vectors."""
    rows = [
        {"id": f"d{n:03d}", "text": f"text {n} {'none' if n % 7 == 3 else 'some'}"} for n in range(RECORDS)
    ]
    corpus.write(tmp_path / "in-0.jsonl", rows[:45])
    corpus.write(tmp_path / "in-1.jsonl", rows[45:])
    (tmp_path / "vectors.py").write_text(MODULE)
    return tmp_path


def scored(**arguments: Any) -> dict[str, Any]:
    return {"score": {"vectors:Vectors": arguments}, "as": "clip", "on_null": "keep"}


def job(folder: Path, *steps: dict[str, Any], **output: Any) -> dict[str, Any]:
    return {
        "name": "vectors",
        "input": str(folder / "in-*.jsonl"),
        "steps": list(steps) or [scored(skip="none")],
        "output": {"path": str(folder / "out"), "shard": "400", "card": False, **output},
        "run": {"directory": str(folder), "work": str(folder / "work"), "part": "1KB"},
    }


def run(described: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    with inline_tasks():
        thresher.run(thresher.load(described, allow_code=True), allow_code=True)
    out = Path(described["output"]["path"])
    return out, json.loads((out / "manifest.json").read_text())


def table(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("shard-*.parquet"))])


def shard_ids(path: Path) -> list[str]:
    """The ids of the records of a shard, in its order."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).column("id").to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]
    with tarfile.open(path) as tar:
        contents = [tar.extractfile(member).read() for member in tar if member.name.endswith(".json")]  # type: ignore[union-attr]
    return [json.loads(content)["id"] for content in contents]


def assert_rows(array: npt.NDArray[Any], ids: list[str], first: int = 0) -> None:
    """The rows are the embeddings of these records; NaN where a record has none."""
    assert array.dtype == np.dtype("<f2")
    assert array.shape == (len(ids), DIMENSIONS)
    for row, id_ in zip(array, ids, strict=True):
        number = int(id_[1:])
        if number % 7 == 3:
            assert np.isnan(row).all()
        else:
            assert row.tolist() == expected(f"text {number} some", first)


@pytest.mark.parametrize(
    ("kind", "shuffle"),
    [
        *(("half", shuffle) for shuffle in ("none", "parts", "global")),
        *((kind, "global") for kind in ("single", "large", "fixed")),
    ],
)
def test_a_parquet_output_has_embeddings_as_columns_of_lists(folder: Path, kind: str, shuffle: str) -> None:
    steps = [scored(skip="none", kind=kind), {"dedup": "exact"}]
    out, manifest = run(job(folder, *steps, shuffle=shuffle))
    found = table(out)
    assert manifest["totals"]["written"] == found.num_rows == RECORDS
    assert found.schema.field("clip_image").type.value_type == (
        pa.float16() if kind == "half" else pa.float32()
    )
    for row in found.to_pylist():
        is_missing = "none" in row["text"]
        assert row["clip_image"] == (None if is_missing else expected(row["text"]))
        assert row["clip_text"] == (None if is_missing else expected(row["text"], DIMENSIONS))
        assert row["clip_first"] == (None if is_missing else expected(row["text"])[0])
    assert (found.column("id").to_pylist() == sorted(found.column("id").to_pylist())) == (shuffle == "none")


@pytest.mark.parametrize("kind", ["half", "single", "large", "fixed"])
def test_records_of_an_input_whose_steps_make_no_embeddings_have_none(folder: Path, kind: str) -> None:
    described = job(folder, {"dedup": "exact"})
    described["input"] = [
        {"name": "scored", "path": str(folder / "in-0.jsonl"), "steps": [scored(skip="none", kind=kind)]},
        {"name": "plain", "path": str(folder / "in-1.jsonl"), "steps": [{"sample": "100%"}]},
    ]
    out, _ = run(described)
    found = {row["id"]: row for row in table(out).to_pylist()}
    assert len(found) == RECORDS
    for id_, row in found.items():
        has_one = int(id_[1:]) < 45 and "none" not in row["text"]
        assert row["clip_image"] == (expected(row["text"]) if has_one else None)


@pytest.mark.parametrize("format", ["jsonl", "webdataset", "datacomp"])
def test_embeddings_are_neither_written_in_json_nor_kept_for_it(folder: Path, format: str) -> None:
    described = job(folder, scored(skip="none"), {"dedup": "exact"}, format=format)
    if format == "datacomp":
        described |= {"modality": "image-text", "input": _pool(folder)}
    loaded = thresher.load(described, allow_code=True)
    planned = plan(loaded, allow_code=True)
    assert {"clip_image", "clip_text"}.isdisjoint(planned.output)
    assert "clip_first" in planned.output
    for stage in describe(loaded, allow_code=True):
        assert {"clip_image", "clip_text"}.isdisjoint([*stage["reads"], *stage["keeps"]])


def test_lists_of_other_numbers_are_written_in_json(folder: Path) -> None:
    out, _ = run(job(folder, scored(kind="single"), format="jsonl", compression="none", shard="1MB"))
    for line in (out / "shard-00000.jsonl").read_text().splitlines():
        assert json.loads(line)["clip_image"] == expected(json.loads(line)["text"])


@pytest.mark.parametrize("shuffle", ["none", "parts", "global"])
@pytest.mark.parametrize("format", ["parquet", "jsonl", "webdataset"])
def test_in_datacomps_layout_each_shard_has_an_archive_and_metadata_row_for_row(
    folder: Path, format: str, shuffle: str
) -> None:
    embeddings = {"layout": "datacomp", "arrays": {"b32_img": "clip_image", "b32_txt": "clip_text"}}
    compression = {"jsonl": "none"}.get(format)
    given = {} if compression is None else {"compression": compression}
    out, manifest = run(job(folder, format=format, embeddings=embeddings, shuffle=shuffle, **given))
    assert len(manifest["shards"]) > 3
    seen = []
    # As DataComp's tools do: every .parquet in the folder, and beside it an archive of the same name.
    tables = sorted((out / "metadata").glob("*.parquet"))
    assert len(tables) == len(manifest["shards"])
    for path, shard in zip(tables, manifest["shards"], strict=True):
        ids = shard_ids(out / shard["path"])
        told = pq.read_table(path)
        assert told.column("uid").to_pylist() == told.column("id").to_pylist() == ids
        assert told.column_names[:3] == ["uid", "url", "text"]
        assert "clip_first" in told.column_names
        with np.load(path.with_suffix(".npz")) as archive:
            assert archive.files == ["b32_img", "b32_txt"]
            assert_rows(archive["b32_img"], ids)
            assert_rows(archive["b32_txt"], ids, DIMENSIONS)
        seen += ids
    assert sorted(seen) == [f"d{n:03d}" for n in range(RECORDS)]
    missing = sum(n % 7 == 3 for n in range(RECORDS))
    assert manifest["totals"]["missing_embeddings"] == {"b32_img": missing, "b32_txt": missing}
    if format == "parquet":
        assert {"clip_image", "clip_text"}.isdisjoint(table(out).column_names)


def test_in_clip_retrievals_layout_a_folder_for_each_array_lies_beside_that_of_the_metadata(
    folder: Path,
) -> None:
    embeddings = {"layout": "clip-retrieval", "arrays": {"img": "clip_image", "text": "clip_text"}}
    out, manifest = run(job(folder, format="webdataset", embeddings=embeddings, shuffle="global"))
    shards = [shard["path"] for shard in manifest["shards"]]
    # Its readers take the sorted files of both folders pairwise, and find shape and type in the first line.
    for name, first in (("img", 0), ("text", DIMENSIONS)):
        arrays = sorted((out / f"{name}_emb").iterdir())
        tables = sorted((out / "metadata").iterdir())
        for path, metadata, shard in zip(arrays, tables, shards, strict=True):
            number = re.findall(r"\d+", shard)[0]
            assert (path.name, metadata.name) == (f"{name}_emb_{number}.npy", f"metadata_{number}.parquet")
            ids = shard_ids(out / shard)
            line = path.read_bytes().split(b"\n")[0]
            assert re.search(rb"'shape': \(%d, %d\)" % (len(ids), DIMENSIONS), line)
            assert b"'descr': '<f2'" in line
            assert_rows(np.load(path, mmap_mode="r"), ids, first)
            told = pq.read_table(metadata)
            assert told.column("id").to_pylist() == ids
            assert told.column("caption").to_pylist()[0].startswith("text ")
            with tarfile.open(out / shard) as tar:
                keys = [member.name[:-4] for member in tar if member.name.endswith(".txt")]
            assert told.column("key").to_pylist() == keys


@pytest.mark.parametrize("layout", ["datacomp", "clip-retrieval"])
def test_the_manifest_lists_the_files_of_embeddings_beside_their_shard(folder: Path, layout: str) -> None:
    out, manifest = run(job(folder, embeddings={"layout": layout, "arrays": {"img": "clip_image"}}))
    for shard in manifest["shards"]:
        assert len(shard["sidecars"]) == 2
        for file in shard["sidecars"]:
            content = (out / file["path"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            assert file["path"] in manifest["files"]
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    listed = {*manifest["files"], *(shard["path"] for shard in manifest["shards"]), "manifest.json"}
    assert on_disk - {".publishing"} == listed


@pytest.mark.parametrize("layout", ["datacomp", "clip-retrieval"])
def test_a_shard_without_any_embedding_has_rows_as_long_as_those_of_the_others(
    folder: Path, layout: str
) -> None:
    arrays = {"img": "clip_image", "text": "clip_text"}
    described = job(folder, embeddings={"layout": layout, "arrays": arrays}) | {"steps": []}
    described["input"] = [
        {"name": "plain", "path": str(folder / "in-1.jsonl"), "steps": [{"sample": "100%"}]},
        {"name": "scored", "path": str(folder / "in-0.jsonl"), "steps": [scored()]},
    ]
    out, manifest = run(described)
    if layout == "datacomp":
        found = [np.load(path)["text"] for path in sorted((out / "metadata").glob("*.npz"))]
    else:
        found = [np.load(path) for path in sorted((out / "text_emb").glob("*.npy"))]
    assert [array.shape for array in found] == [(s["records"], DIMENSIONS) for s in manifest["shards"]]
    assert np.isnan(found[0]).all()
    assert not np.isnan(found[-1]).any()
    for shard in manifest["shards"]:
        for file in shard["sidecars"]:
            assert hashlib.sha256((out / file["path"]).read_bytes()).hexdigest() == file["sha256"]


def test_an_embedding_that_float16_cannot_hold_counts_as_missing(folder: Path) -> None:
    steps = [scored(kind="single", scale=10_000.0)]
    out, manifest = run(job(folder, *steps, shard="1MB", embeddings={"arrays": {"img": "clip_image"}}))
    texts = table(out).column("text").to_pylist()
    too_large = [max(expected(text)) * 10_000 >= 65_520 for text in texts]
    assert 0 < sum(too_large) < RECORDS
    with np.load(out / "metadata" / "shard-00000.npz") as archive:
        assert np.isnan(archive["img"]).all(axis=1).tolist() == too_large
        assert np.isfinite(archive["img"]).all(axis=1).tolist() == [not large for large in too_large]
    assert manifest["totals"]["missing_embeddings"] == {"img": sum(too_large)}


def test_another_run_replaces_and_removes_the_embeddings_of_an_earlier_one(folder: Path) -> None:
    for embeddings in (
        {"layout": "clip-retrieval", "arrays": {"img": "clip_image"}},
        {"layout": "datacomp", "arrays": {"img": "clip_text"}},
        None,
    ):
        out, manifest = run(job(folder, **({} if embeddings is None else {"embeddings": embeddings})))
        found = {path.name for path in out.iterdir() if path.is_dir()} - {"ledger"}
        if embeddings is None:
            assert found == set()
        else:
            assert found == ({"metadata"} if embeddings["layout"] == "datacomp" else {"metadata", "img_emb"})
        assert (out / "metadata").is_dir() == any("metadata/" in name for name in manifest["files"])


@pytest.mark.parametrize("layout", ["datacomp", "clip-retrieval"])
def test_in_a_store_lie_the_same_files_and_another_run_removes_them(
    folder: Path, s3: Bucket, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    embeddings = {"layout": layout, "arrays": {"img": "clip_image"}}
    out, _ = run(job(folder, embeddings=embeddings))
    here = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    described = job(folder, embeddings=embeddings, path="s3://data/vectors")
    described["run"].pop("work")
    with inline_tasks():
        thresher.run(thresher.load(described, allow_code=True), allow_code=True)
    there = {name.removeprefix("vectors/"): content for name, content in s3.objects("vectors/").items()}
    told = ("job.yaml", ".publishing", "manifest.json")  # which name the output, or are of this machine
    assert {k: v for k, v in there.items() if k not in told} == {
        k: v for k, v in here.items() if k not in told
    }
    described["output"].pop("embeddings")
    with inline_tasks():
        thresher.run(thresher.load(described, allow_code=True), allow_code=True)
    assert not [name for name in s3.objects("vectors/") if "metadata/" in name or "_emb/" in name]


def test_why_tells_of_a_records_scores_without_its_embeddings(folder: Path) -> None:
    embeddings = {"layout": "clip-retrieval", "arrays": {"img": "clip_image"}}
    out, _ = run(job(folder, embeddings=embeddings))
    (fate,) = why.why(find(str(out), [f"run.work={folder / 'work'}"]), "d007")["fates"]
    assert fate["verdict"] == "kept"
    assert fate["scores"] == {"clip_first": expected("text 7 some")[0]}


def test_the_card_says_where_the_embeddings_are(folder: Path) -> None:
    for layout, where in (("datacomp", "`metadata/`"), ("clip-retrieval", "`NAME_emb/`")):
        embeddings = {"layout": layout, "arrays": {"img": "clip_image"}}
        out, _ = run(job(folder, card=True, embeddings=embeddings))
        assert f"Embeddings are in {where} as NumPy files" in (out / "README.md").read_text()


def test_a_run_does_not_begin_where_somebody_elses_embeddings_lie(folder: Path) -> None:
    (folder / "out" / "img_emb").mkdir(parents=True)
    (folder / "out" / "img_emb" / "img_emb_00000.npy").write_bytes(b"theirs")
    with pytest.raises(JobRefused, match=r"img_emb_00000\.npy is in the way"):
        run(job(folder))


def _pool(folder: Path) -> list[dict[str, Any]]:
    rows = [
        {"uid": hashlib.md5(str(n).encode()).hexdigest(), "image": b"GIF89a", "caption": f"text {n}"}
        for n in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pool.parquet")
    columns = {"id": "uid", "image": "image", "caption": "caption"}
    return [{"path": str(folder / "pool.parquet"), "columns": columns}]


def test_a_subset_is_chosen_by_embeddings_that_it_does_not_write(folder: Path) -> None:
    steps = [scored(), {"select": {"min": 8.0, "by": "clip_first"}}]
    described = job(folder, *steps, format="datacomp")
    described |= {"modality": "image-text", "input": _pool(folder)}
    out, _ = run(described)
    chosen = [f"{high:016x}{low:016x}" for high, low in np.load(out / "subset.npy")]
    uids = {hashlib.md5(str(n).encode()).hexdigest(): f"text {n}" for n in range(9)}
    assert chosen == sorted(uid for uid, text in uids.items() if expected(text)[0] >= 8)
    assert 0 < len(chosen) < 9


@pytest.mark.parametrize(
    ("embeddings", "format", "told"),
    [
        ({"arrays": {"img": "clip_imgae"}}, "parquet", r'"?clip_imgae"?.*clip_image'),
        ({"arrays": {"img": "clip_first"}}, "jsonl", r'"clip_first" holds no embeddings'),
        ({"arrays": {"img": "text"}}, "jsonl", r'"text" holds no embeddings'),
        ({"arrays": {"img": "clip_image"}}, "datacomp", r"a subset has no shards"),
    ],
)
def test_embeddings_that_cannot_be_written_are_told_before_the_run(
    folder: Path, embeddings: dict[str, Any], format: str, told: str
) -> None:
    described = job(folder, format=format, embeddings=embeddings)
    if format == "datacomp":
        described |= {"modality": "image-text", "input": _pool(folder)}
    with pytest.raises(JobFileError, match=told):
        thresher.load(described, allow_code=True)


@pytest.mark.parametrize("layout", ["datacomp", "clip-retrieval", "parquet"])
def test_a_job_reads_back_the_embeddings_that_another_has_written(
    folder: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    arrays = {"img": "clip_image", "text": "clip_text"}
    given = {} if layout == "parquet" else {"embeddings": {"layout": layout, "arrays": arrays}}
    first = job(folder, shuffle="global", **given)
    first["output"]["path"], first["run"]["work"] = str(folder / "stored"), str(folder / "stored-work")
    run(first)
    path = {"datacomp": "stored/metadata"}.get(layout, "stored")
    array = "clip_text" if layout == "parquet" else "text"
    stored = {"path": path, "layout": layout, "array": array}
    out, _ = run(job(folder, {"score": {"stored": stored}, "as": "clip", "on_null": "keep"}))
    found = table(out).to_pylist()
    assert len(found) == RECORDS
    for row in found:
        assert row["clip"] == (None if "none" in row["text"] else expected(row["text"], DIMENSIONS))


def test_embeddings_that_are_stored_anew_are_read_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    path = folder / "stored" / "a.parquet"
    path.parent.mkdir()
    step = {"score": {"stored": {"path": "stored", "array": "v"}}, "as": "clip", "on_null": "keep"}
    for number in (1.0, 2.0):
        pq.write_table(pa.table({"id": ["d007"], "v": pa.array([[number]], pa.list_(pa.float32()))}), path)
        out, _ = run(job(folder, step))
        assert {row["id"]: row["clip"] for row in table(out).to_pylist()}["d007"] == [number]


def test_processes_write_the_same_files_as_one_does(folder: Path) -> None:
    embeddings = {"layout": "datacomp", "arrays": {"img": "clip_image", "text": "clip_text"}}
    described = job(folder, embeddings=embeddings, shuffle="global", format="webdataset")
    _, here = run(described)
    described["output"]["path"], described["run"]["work"] = str(folder / "again"), str(folder / "again-work")
    described["run"]["workers"] = 2
    thresher.run(thresher.load(described, allow_code=True), allow_code=True)
    there = json.loads((folder / "again" / "manifest.json").read_text())
    assert there["shards"] == here["shards"]
