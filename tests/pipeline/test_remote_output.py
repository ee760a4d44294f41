"""Whole jobs whose output lies in an S3 store: the same bytes as in a folder, and every question answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher
import yaml
from click.testing import CliRunner
from inline_engine import inline_tasks
from s3_server import Bucket
from store_proxy import SWALLOW, Handler
from test_whole_jobs import split_input
from thresher.jobs.cli import cli
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.upload import CLAIM

OUT = "s3://data/runs/first"
KEYS = "runs/first/"


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job(tmp_path: Path, path: str = OUT, **changes: Any) -> dict[str, Any]:
    source = tmp_path / "in.jsonl"
    if not source.exists():
        corpus.write(source, corpus.rows(60))
    made: dict[str, Any] = {
        "name": "remote",
        "input": [{"path": str(source), "licence": "cc0-1.0"}],
        "steps": [
            {"filter": {"gopher_quality": {"min_words": 60}}},
            {"dedup": {"exact": {"on": "text", "save_keys": True}}},
        ],
        "output": {"path": path, "shard": "5KB"},
        "run": {"part": "20KB", "workers": 2},
    }
    for key, value in changes.items():
        made[key] = {**made[key], **value}
    return made


def run(job: dict[str, Any], **options: Any) -> Any:
    return thresher.run(thresher.load(job), **options)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_objects_are_the_files_of_a_local_run_byte_for_byte(s3: Bucket, tmp_path: Path) -> None:
    here = run(job(tmp_path, str(tmp_path / "out")))
    there = run(job(tmp_path))
    assert (there.output, there.totals, there.shards) == (OUT, here.totals, here.shards)
    local, remote = files(tmp_path / "out"), s3.objects(KEYS)
    resolved = {
        name: yaml.safe_load(found.pop("job.yaml")) for name, found in (("here", local), ("there", remote))
    }
    assert remote == local
    assert len([name for name in remote if name.startswith("shard-")]) > 3
    assert {"README.md", "report.md", "manifest.json", "containers.parquet"} <= set(remote)
    assert {name.partition("/")[0] for name in remote if "/" in name} == {"ledger", "keys"}
    assert resolved["there"]["output"].pop("path") == OUT
    resolved["here"]["output"].pop("path")
    assert resolved["there"]["output"] == resolved["here"]["output"]


def test_the_manifest_names_every_file_of_the_output(s3: Bucket, tmp_path: Path) -> None:
    run(job(tmp_path))
    objects = s3.objects(KEYS)
    manifest = json.loads(objects.pop("manifest.json"))
    assert set(objects) == {*manifest["files"], *(shard["path"] for shard in manifest["shards"])}


def test_every_question_can_be_asked_of_a_remote_output(s3: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job(tmp_path)))

    def ask(*arguments: str) -> str:
        answer = CliRunner().invoke(cli, list(arguments))
        assert answer.exit_code == 0, answer.output
        return answer.output

    done = ask("run", str(file))
    assert f"in {OUT}" in done
    for place in (OUT, f"{OUT}/", str(file)):
        assert "remote: finished" in ask("status", place)
        assert "dropped, at step filter:gopher_quality" in ask("why", "s00000", "--output", place)
        kept = ask("why", "d00001", "--output", place)
        assert f"kept, in {OUT}/shard-" in kept
        assert "word_count = " in kept, "the work directory is still there"
    shown = json.loads(ask("inspect", f"{OUT}/shard-00000.parquet", "--json"))["files"][0]
    assert shown["path"] == f"{OUT}/shard-00000.parquet"
    manifest = json.loads(s3.objects(KEYS)["manifest.json"])
    assert (shown["records"], shown["bytes"]) == tuple(
        manifest["shards"][0][key] for key in ("records", "bytes")
    )
    assert len(shown["rows"]) == 3 or shown["records"] < 3
    folder = CliRunner().invoke(cli, ["inspect", OUT])
    assert (folder.exit_code, f"as in {OUT}/shard-00000.parquet" in folder.output) == (2, True)
    missing = CliRunner().invoke(cli, ["status", "s3://data/nothing"])
    assert (missing.exit_code, "not the output of a finished run" in missing.output) == (2, True)
    assert "removed" in ask("clean", str(file), "--yes")
    assert "kept, in" in ask("why", "d00001", "--output", OUT)


@pytest.mark.parametrize("format_", ["jsonl", "webdataset"])
def test_other_formats_are_looked_into_too(s3: Bucket, tmp_path: Path, format_: str) -> None:
    run(job(tmp_path, output={"format": format_}))
    shards = (name for name in s3.objects(KEYS) if name.startswith("shard-"))
    name = next(name for name in shards if not name.endswith(".idx"))
    told = CliRunner().invoke(cli, ["inspect", f"{OUT}/{name}"])
    assert (told.exit_code, "text = " in told.output) == (0, True), told.output
    told = CliRunner().invoke(cli, ["why", "d00001", "--output", OUT])
    assert f"kept, in {OUT}/shard-" in told.output


def test_a_remote_output_is_the_input_of_another_job(s3: Bucket, tmp_path: Path) -> None:
    first = run(job(tmp_path))
    second = job(tmp_path, str(tmp_path / "second"))
    second |= {"input": f"{OUT}/shard-*.parquet", "steps": []}
    result = run(second)
    assert result.totals["in"] == result.totals["written"] == first.totals["written"]
    ids = [
        row["id"]
        for shard in result.shards
        for row in pq.read_table(tmp_path / "second" / shard.path).to_pylist()
    ]
    assert len(set(ids)) == len(ids) == first.totals["written"]


def test_readers_of_others_get_every_record_of_a_remote_output(s3: Bucket, tmp_path: Path) -> None:
    import datasets
    import pyarrow.dataset
    import s3fs

    result = run(job(tmp_path))
    expected = sorted(
        row["id"]
        for shard in result.shards
        for row in pq.read_table(_written(s3, tmp_path, shard.path)).to_pylist()
    )
    found = pyarrow.dataset.dataset(
        [f"data/{KEYS}{shard.path}" for shard in result.shards], filesystem=s3fs.S3FileSystem()
    )
    assert sorted(found.to_table(columns=["id"])["id"].to_pylist()) == expected
    urls = [f"{OUT}/{shard.path}" for shard in result.shards]
    streamed = datasets.load_dataset("parquet", data_files=urls, split="train", streaming=True)
    assert sorted(row["id"] for row in streamed) == expected


def _written(s3: Bucket, tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(s3.objects(KEYS)[name])
    return path


def test_an_output_of_ours_is_replaced_and_a_changed_job_leaves_no_strays(s3: Bucket, tmp_path: Path) -> None:
    many = run(job(tmp_path))
    few = run(job(tmp_path, output={"shard": "50KB", "card": False}))
    assert len(many.shards) > len(few.shards)
    objects = s3.objects(KEYS)
    assert {name for name in objects if name.startswith("shard-")} == {shard.path for shard in few.shards}
    assert "README.md" not in objects


@pytest.mark.parametrize("name", ["manifest.json", "shard-00003.parquet", "README.md"])
def test_files_of_others_are_refused_before_any_work(s3: Bucket, tmp_path: Path, name: str) -> None:
    s3.put(KEYS + name, b"mine")
    with pytest.raises(JobRefused, match=f"{name} is in the way"):
        run(job(tmp_path))
    assert s3.objects("") == {KEYS + name: b"mine"}
    assert not list((tmp_path / "cache").rglob("sources.json"))


def test_a_readme_of_others_stays_where_no_card_is_wanted(s3: Bucket, tmp_path: Path) -> None:
    s3.put(KEYS + "README.md", b"mine")
    run(job(tmp_path, output={"card": False}))
    run(job(tmp_path, output={"card": False, "shard": "9KB"}))
    assert s3.objects(KEYS)["README.md"] == b"mine"


def test_a_quick_look_has_a_folder_of_its_own_in_the_store_too(s3: Bucket, tmp_path: Path) -> None:
    run(job(tmp_path))
    whole = s3.objects(KEYS)
    look = run(job(tmp_path), limit=10)
    assert (look.output, look.totals["in"]) == (f"{OUT}/limit-10", 10)
    assert json.loads(s3.objects(KEYS)["limit-10/manifest.json"])["totals"]["in"] == 10
    run(job(tmp_path))
    assert {
        name: data for name, data in s3.objects(KEYS).items() if not name.startswith("limit-10/")
    } == whole


def test_what_a_run_reuses_lies_in_the_users_cache_one_folder_for_each_output(tmp_path: Path) -> None:
    urls = ("s3://a/b", "s3://a/b/", "s3://a/c", "s3://c/b")
    works = {thresher.load(job(tmp_path, url)).run.work for url in urls}
    assert len(works) == 3
    assert {Path(work).parent for work in works} == {tmp_path / "cache" / "thresher" / "work"}


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    result = run(job(tmp_path, f"file://{tmp_path}/out"))
    assert result.output == str(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()


def start(job: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thresher", "run", str(job), "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ""})


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_uploads_sends_the_rest_when_it_is_resumed(
    s3: Bucket,
    tmp_path: Path,
) -> None:
    made = job(tmp_path)
    made["input"][0]["path"] = split_input(corpus.rows(120), tmp_path / "in", 3)
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(made))

    def stop_at_the_seventh(handler: Handler, number: int) -> str | None:
        return SWALLOW if handler.command == "PUT" and len(s3.proxy.puts()) > 7 else None

    s3.proxy.fault = stop_at_the_seventh
    process = start(file)
    deadline = time.monotonic() + 120
    while len(s3.proxy.puts()) < 12:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    s3.proxy.fault = None
    there = s3.objects(KEYS)
    assert CLAIM in there
    assert 1 < len(there) < 12
    assert "manifest.json" not in there

    s3.proxy.requests.clear()
    done = start(file)
    _, error = done.communicate(timeout=180)
    assert done.returncode == 0, error.decode()
    sent = {path.removeprefix(f"/data/{KEYS}") for path in s3.proxy.puts()}
    assert sent
    assert not sent & (set(there) - {CLAIM})
    thresher.run(thresher.load(file, [f"output.path={tmp_path / 'out'}"]))
    local, remote = files(tmp_path / "out"), s3.objects(KEYS)
    del local["job.yaml"], remote["job.yaml"]
    assert remote == local
