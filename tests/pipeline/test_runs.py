"""What a run does with its folders, its input and its neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from test_whole_jobs import output_digest
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.sources.files import SourceFile
from thresher.pipeline.stage import TaskFailed
from thresher.pipeline.store import RunLock
from thresher.schemas.progress import Silent


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def job(tmp_path: Path, source: Path, **changes: Any) -> Any:
    made = corpus.job(str(source), tmp_path / "out") | {"steps": []}
    for key, value in changes.items():
        made[key] = {**made.get(key, {}), **value}
    return thresher.load(made)


def kept(tmp_path: Path) -> list[dict[str, Any]]:
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    return [
        row
        for shard in manifest["shards"]
        for row in pq.read_table(tmp_path / "out" / shard["path"]).to_pylist()
    ]


def test_small_files_go_together_and_large_ones_are_cut(tmp_path: Path) -> None:
    for number in range(40):
        corpus.write(tmp_path / "in" / f"{number:02d}.jsonl", corpus.rows(5)[:5])
    corpus.write(tmp_path / "in" / "large.jsonl", corpus.rows(200))
    result = thresher.run(job(tmp_path, tmp_path / "in" / "*.jsonl", run={"part": "30KB"}))
    (stage,) = (tmp_path / "out-work" / "stages").glob("00-*")
    parts = [json.loads(path.read_text())["rows"][0] for path in sorted(stage.glob("0*.json"))]
    assert sum(parts) == result.totals["in"] == 200 + len(corpus.rows(200))
    assert result.totals["containers"]["file"]["in"] == 41
    assert 8 < len(parts) < 20


def test_a_file_that_changes_while_it_is_read_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thresher.pipeline.steps import reading

    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(20))
    before = reading.read

    def read_and_touch(*arguments: Any) -> Any:
        yield from before(*arguments)
        source.write_text(source.read_text() + "{}\n")

    monkeypatch.setattr(reading, "read", read_and_touch)
    with pytest.raises(TaskFailed, match=r"in\.jsonl has changed since this job first started"):
        thresher.run(job(tmp_path, source))


def test_a_source_that_changed_is_not_read_again_for_its_text(tmp_path: Path) -> None:
    from thresher.pipeline.sources.files import SourceError
    from thresher.pipeline.steps.reading import ReadSource

    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), path)
    stat = path.stat()
    split = {
        "path": str(path),
        "format": "parquet",
        "start": 0,
        "stop": None,
        "size": 1,
        "columns": {},
        "limit": None,
    }
    file = SourceFile(str(path), stat.st_size, str(stat.st_mtime_ns))
    reader = ReadSource([{"split": split, "file": vars(file), "input": "input"}], payload="none")
    assert [row["text"] for batch in reader.read_again(0) for row in batch.to_pylist()] == ["a", "b"]
    pq.write_table(pa.table({"text": ["other"]}), path)
    with pytest.raises(SourceError, match="has changed"):
        list(reader.read_again(0))


class Notes(Silent):
    """Keeps what a person would be told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, message: str) -> None:
        self.told.append(message)


def test_a_run_beside_another_in_one_work_directory_says_so_and_ends_with_the_same_output(
    tmp_path: Path,
) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(10))
    alone, beside = Notes(), Notes()
    thresher.run(job(tmp_path, source), listener=alone)
    before = output_digest(tmp_path / "out")
    other = RunLock(tmp_path / "out-work")
    thresher.run(job(tmp_path, source), listener=beside)
    other.close()
    assert not alone.told
    assert [("another run is at work here" in told) for told in beside.told] == [True]
    assert output_digest(tmp_path / "out") == before


def test_a_run_is_refused_while_its_work_directory_is_being_cleaned(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(10))
    cleaning = RunLock(tmp_path / "out-work", cleaning=True)
    with pytest.raises(JobRefused, match="is being cleaned"):
        thresher.run(job(tmp_path, source))
    cleaning.close()
    assert thresher.run(job(tmp_path, source)).totals["in"] == len(corpus.rows(10))


@pytest.mark.parametrize("name", ["manifest.json", "job.yaml", "ledger/notes.txt", "shard-00000.parquet"])
def test_files_of_others_in_the_output_folder_are_left_alone(tmp_path: Path, name: str) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(10))
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(JobRefused, match="is in the way"):
        thresher.run(job(tmp_path, source))
    assert theirs.read_text() == "mine"


def test_an_output_that_shrinks_leaves_no_shards_behind(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(60))
    many = thresher.run(job(tmp_path, source, output={"shard": "5KB"})).shards
    few = thresher.run(job(tmp_path, source, output={"shard": "40KB"})).shards
    assert len(many) > len(few) > 1
    assert {path.name for path in (tmp_path / "out").glob("shard-*")} == {shard.path for shard in few}


def test_a_cut_file_of_the_work_directory_is_made_again(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(30))
    thresher.run(job(tmp_path, source))
    before = kept(tmp_path)
    shard = tmp_path / "out" / "shard-00000.parquet"
    with shard.open("r+b") as file:  # the same file as in the work directory
        file.truncate(10)
    thresher.run(job(tmp_path, source))
    assert kept(tmp_path) == before


@pytest.mark.parametrize("shuffle", ["none", "parts", "global"])
def test_a_record_larger_than_a_shard_has_one_of_its_own_and_leaves_no_empty_one(
    tmp_path: Path, shuffle: str
) -> None:
    records = [
        {"id": "small", "text": "a"},
        {"id": "huge", "text": "word " * 20_000},
        {"id": "last", "text": "z"},
    ]
    source = corpus.write(tmp_path / "in.jsonl", records)
    result = thresher.run(job(tmp_path, source, output={"shard": "10KB", "shuffle": shuffle}))
    assert all(shard.records for shard in result.shards)
    assert [shard.path for shard in result.shards] == [
        f"shard-{n:05d}.parquet" for n in range(len(result.shards))
    ]
    assert sorted(row["id"] for row in kept(tmp_path)) == ["huge", "last", "small"]


@pytest.mark.parametrize("shuffle", ["parts", "global"])
def test_a_shuffle_keeps_every_record_once_in_an_order_of_the_seed(tmp_path: Path, shuffle: str) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(120))
    orders = []
    for seed in (0, 0, 1):
        thresher.run(job(tmp_path, source, output={"shuffle": shuffle, "shard": "15KB"}, run={"seed": seed}))
        orders.append([row["id"] for row in kept(tmp_path)])
    straight = [row["id"] for row in corpus.rows(120)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == sorted(straight) and order != straight for order in orders)


def test_shuffled_shards_are_shards_of_one_shuffled_whole(tmp_path: Path) -> None:
    """However large the shards are, their concatenation is the same."""
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(120))
    wholes = []
    for shard in ("7KB", "20KB", "1MB"):
        thresher.run(job(tmp_path, source, output={"shuffle": "parts", "shard": shard}))
        wholes.append([row["id"] for row in kept(tmp_path)])
    assert wholes[0] == wholes[1] == wholes[2]


def test_an_output_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(30))
    thresher.run(job(tmp_path, source))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
    thresher.run(job(tmp_path, source))
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files} == before


def test_a_file_of_the_output_that_somebody_has_changed_or_removed_is_put_right(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(60))
    thresher.run(job(tmp_path, source, output={"shard": "5KB"}))
    before = output_digest(tmp_path / "out")
    out = tmp_path / "out"
    shard = out / "shard-00001.parquet"
    changed = bytearray(shard.read_bytes())
    changed[100] ^= 1
    shard.unlink()
    shard.write_bytes(changed)
    (out / "shard-00002.parquet").unlink()
    (out / "report.md").write_text("something else")
    thresher.run(job(tmp_path, source, output={"shard": "5KB"}))
    assert output_digest(out) == before


def test_what_a_killed_run_left_half_published_is_replaced_and_leaves_nothing(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(30))
    thresher.run(job(tmp_path, source))
    before, out = output_digest(tmp_path / "out"), tmp_path / "out"
    (out / "manifest.json").unlink()
    (out / ".publishing").touch()
    (out / "keys" / "old").mkdir(parents=True)
    (out / "keys" / "old" / "part-00000.parquet").write_bytes(b"old")
    (out / "notes.txt").write_text("mine")
    for left in (out, out / "ledger"):
        (left / ".unfinished-0123456789ab-1-shard").write_bytes(b"half")
    thresher.run(job(tmp_path, source))
    after = output_digest(out)
    assert after.pop("notes.txt")
    assert after == before
    assert not (out / "keys").exists()


def test_an_output_on_another_disk_than_the_work_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(30))
    thresher.run(job(tmp_path, source))
    before = output_digest(tmp_path / "out")
    link = os.link

    def link_within(source: Any, target: Any) -> None:
        if tmp_path / "out" in Path(target).parents:
            raise OSError(18, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr("os.link", link_within)
    (tmp_path / "out").rename(tmp_path / "linked")
    for _ in range(2):
        thresher.run(job(tmp_path, source))
        assert output_digest(tmp_path / "out") == before
    assert (tmp_path / "out" / "shard-00000.parquet").stat().st_nlink == 1


def test_the_job_beside_the_shards_tells_nothing_of_where_and_how_wide_it_ran(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "in.jsonl", corpus.rows(20))
    written = []
    for run in ({"workers": 1}, {"workers": 2, "min_free": "1MB"}):
        made = corpus.job(str(source), tmp_path / "out", part="1MB", **run)
        made["steps"] = [{"filter": "gopher_repetition"}]
        if run["workers"] == 2:
            made["steps"][0] |= {"on": "local", "resources": {"cpus": 2}}
            made["run"] |= {"ray": {"window": 3}, "beam": {"silence": 9}}
        thresher.run(thresher.load(made, check=False))
        written.append((tmp_path / "out" / "job.yaml").read_text())
    assert written[0] == written[1]
    assert thresher.load(tmp_path / "out" / "job.yaml").steps[0].name == "filter:gopher_repetition"


POISON = """
import pyarrow as pa
from thresher.scorers import Scorer

class Poison(Scorer):
    version = 1
    inputs = ("text",)
    outputs = {"score": pa.float32()}

    def score(self, batch):
        if "poison" in batch.column("text").to_pylist():
            raise RuntimeError("cannot score this")
        return {"score": pa.array([1.0] * len(batch), pa.float32())}
"""


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_part_that_cannot_be_processed_ends_the_run_unless_the_job_allows_it(
    tmp_path: Path, allowed: int
) -> None:
    (tmp_path / "poison.py").write_text(POISON)
    for number in range(3):
        records = corpus.rows(30)[:20] + ([{"text": "poison"}] if number == 1 else [])
        corpus.write(tmp_path / "in" / f"{number}.jsonl", records)
    made = corpus.job(
        str(tmp_path / "in" / "*.jsonl"), tmp_path / "out", part="1KB", max_failed_parts=allowed
    )
    made["run"] |= {"directory": str(tmp_path), "part": "15KB"}
    made["steps"] = [
        {"score": {"poison:Poison": {}}, "as": "quality"},
        {"select": {"top": 0.5, "by": "quality"}},
    ]
    loaded = thresher.load(made, allow_code=True)
    if not allowed:
        with pytest.raises(TaskFailed, match=r"1\.jsonl.*RuntimeError: cannot score this"):
            thresher.run(loaded, allow_code=True)
        return
    result = thresher.run(loaded, allow_code=True)
    (failure,) = result.failed.values()
    assert "1.jsonl" in failure
    assert list(result.totals["failed_parts"].values()) == [failure]
    assert 0 < result.totals["in"] < 61
    assert result.totals["kept"] == result.totals["in"] // 2
