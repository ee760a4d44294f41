"""What `status`, `why`, `inspect` and `clean` find in what a run left on disk."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from thresher.jobs import cleaning, inspection, status, why, work
from thresher.jobs.places import find
from thresher.jobs.problems import JobFileError


def test_a_run_is_found_by_its_job_file_and_by_its_output(finished_job: Path) -> None:
    by_job, by_output = find(str(finished_job)), find(str(finished_job.parent / "out"))
    assert by_job.output == by_output.output == finished_job.parent / "out"
    assert by_job.work == by_output.work == finished_job.parent / "out" / ".work"
    assert by_job.finished


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"it has no job\.yaml"):
        find(str(tmp_path))


def test_an_output_that_was_moved_is_still_an_output(finished_job: Path) -> None:
    moved = finished_job.parent / "moved"
    (finished_job.parent / "out").rename(moved)
    assert why.why(find(str(moved)), "short")["fates"][0]["reason"] == "too_few_words"


def test_status_counts_the_parts_of_each_stage(finished_job: Path) -> None:
    answer = status.status(find(str(finished_job)))
    assert answer["state"] == "finished"
    assert [(s["stage"], s["parts"], s["finished"]) for s in answer["stages"]] == [
        ("read", 2, True),
        ("dedup-minhash", 1, False),
    ]
    assert answer["stages"][0]["records_in"] == 10
    assert "10 in, 4 kept, 4 written" in status.told(answer)


def test_status_tells_a_stopped_run_from_one_that_goes_on(finished_job: Path) -> None:
    (finished_job.parent / "out" / "manifest.json").unlink()
    run = find(str(finished_job))
    assert status.status(run)["state"] == "stopped"
    assert "run it again" in status.told(status.status(run))
    with (run.work / "runs" / "abc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert status.status(run)["state"] == "running"


def test_a_job_that_never_ran_has_not_started(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("{name: a, input: a.jsonl, output: {path: out}}")
    assert status.status(find(str(job))) == {
        "name": "a",
        "state": "not started",
        "stages": [],
        "other_stages": 0,
        "output": str(tmp_path / "out"),
        "work": str(tmp_path / "out" / ".work"),
    }


def test_the_stage_that_was_committed_to_last_counts(finished_job: Path) -> None:
    run = find(str(finished_job))
    old = run.work / "stages" / "00-read-ffffffffffff"
    old.mkdir()
    os.utime(old, (0, 0))
    assert next(stage.path.name for stage in work.stages(run.work)) == "00-read-0123456789ab"


def test_a_torn_manifest_entry_is_not_a_part(finished_job: Path) -> None:
    run = find(str(finished_job))
    stage = work.stages(run.work)[0]
    (stage.path / "00002.json").write_text('{"part": 2, "str')
    assert [entry["part"] for entry in stage.entries()] == [0, 1]


def test_why_tells_step_reason_value_and_signals_of_a_dropped_record(finished_job: Path) -> None:
    story = why.why(find(str(finished_job)), "short")
    (fate,) = story["fates"]
    assert (fate["verdict"], fate["step"], fate["value"]) == ("dropped", "filter:gopher_quality", "12")
    assert fate["signals"] == {"word_count": 12}
    told = why.told(story)
    assert "dropped, at step filter:gopher_quality: too_few_words (12)" in told
    assert "word_count = 12" in told


def test_why_tells_which_record_stands_for_a_duplicate(finished_job: Path) -> None:
    story = why.why(find(str(finished_job)), "copy")
    assert "duplicate, at step dedup:minhash: duplicate (stands for it: kept-1)" in why.told(story)
    assert story["fates"][0]["signals"] == {"word_count": 80}


def test_why_tells_the_shard_of_a_kept_record_and_its_signals(finished_job: Path) -> None:
    story = why.why(find(str(finished_job)), "kept-1")
    (fate,) = story["fates"]
    assert fate["shard"].endswith("shard-00000.parquet")
    assert fate["signals"] == {"word_count": 70}
    assert why.why(find(str(finished_job)), "kept-4")["fates"][0]["shard"].endswith("shard-00001.parquet")


def test_why_works_without_the_work_directory(finished_job: Path) -> None:
    run = find(str(finished_job))
    cleaning.clean(run.work)
    assert "signals" not in why.why(run, "short")["fates"][0]


def test_why_refuses_an_id_that_is_nowhere(finished_job: Path) -> None:
    with pytest.raises(why.NoAnswerError, match="no record of this run has the id nobody"):
        why.why(find(str(finished_job)), "nobody")


def test_why_refuses_an_id_that_the_ledger_did_not_keep(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    run = find(str(make_run(tmp_path, "sampled")))
    with pytest.raises(why.NoAnswerError, match="ledger of this run is sampled"):
        why.why(run, "nobody")
    assert why.why(run, "short")["fates"]


def test_why_refuses_a_run_that_is_not_finished(finished_job: Path) -> None:
    (finished_job.parent / "out" / "manifest.json").unlink()
    with pytest.raises(why.NoAnswerError, match="not finished"):
        why.why(find(str(finished_job)), "short")


ROWS = [{"id": "a", "text": "one\n\x00two", "lang_score": 0.5}, {"id": "b", "text": "", "lang_score": None}]


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for number, row in enumerate(ROWS):
            parts = {"txt": row["text"], "json": json.dumps({k: v for k, v in row.items() if k != "text"})}
            for extension, content in parts.items():
                data = str(content).encode()
                member = tarfile.TarInfo(f"000{number}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def write_shard(path: Path) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if path.suffix == ".tar":
        write_tar(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines[:30]) + gzip.compress(lines[30:]))
    elif path.suffix == ".zst":
        compress = zstandard.ZstdCompressor().compress
        path.write_bytes(compress(lines[:30]) + compress(lines[30:]))
    else:
        path.write_bytes(lines)
    return path


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.jsonl.zst", "s.tar"])
def test_every_format_of_shards_can_be_inspected(tmp_path: Path, name: str) -> None:
    (file,) = inspection.inspect(write_shard(tmp_path / name), rows=5)["files"]
    assert [{key: row[key] for key in ("id", "text", "lang_score")} for row in file["rows"]] == ROWS
    assert inspection.inspect(tmp_path / name, rows=1)["files"][0]["rows"][0]["id"] == "a"


def test_a_parquet_shard_tells_its_columns_and_records(finished_job: Path) -> None:
    answer = inspection.inspect(finished_job.parent / "out" / "shard-00000.parquet", rows=1)
    (file,) = answer["files"]
    assert (file["records"], file["columns"], file["rows"]) == (
        2, {"id": "string", "text": "string"}, [{"id": "kept-1", "text": "a"}],
    )  # fmt: skip
    assert "id = " not in inspection.told(answer, columns_only=True)


def test_a_part_shows_each_of_its_streams(finished_job: Path) -> None:
    entry = finished_job.parent / "out" / ".work" / "stages" / "00-read-0123456789ab" / "00001.json"
    answer = inspection.inspect(entry, rows=1)
    assert answer["part"] == 1
    assert [file["stream"] for file in answer["files"]] == ["records", "signals"]
    assert answer["files"][1]["rows"] == [{"position": (1 << 32) + 1, "word_count": 13}]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.jsonl", b"{broken", "cannot be read"),
        ("a.tar", b"no tar", "cannot be read"),
        ("a.txt", b"text", "not .parquet"),
        ("a.json", b"[1]", "lists no streams"),
        ("a.json", b"{", "is not JSON"),
    ],
)
def test_what_is_no_shard_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(inspection.NotReadableError, match=told):
        inspection.inspect(tmp_path / name, rows=3)


def test_clean_removes_the_work_directory_alone(finished_job: Path) -> None:
    run = find(str(finished_job))
    (run.work / "outside").symlink_to(finished_job.parent / "precious")
    precious = finished_job.parent / "precious"
    precious.write_text("keep me")
    with pytest.raises(cleaning.NotCleanableError, match="does not look like"):
        cleaning.clean(run.work)
    (run.work / "outside").unlink()
    (run.work / "stages" / "link").symlink_to(precious)
    expected = work.size_of(run.work)
    assert cleaning.clean(run.work) == expected > 0
    assert not run.work.exists()
    assert precious.read_text() == "keep me"
    assert (run.output / "shard-00000.parquet").exists()


def test_clean_refuses_what_is_not_a_work_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "stages").mkdir(parents=True)
    (home / "thesis.txt").write_text("years of work")
    (home / "runs").mkdir()
    with pytest.raises(cleaning.NotCleanableError):
        cleaning.clean(home)
    assert (home / "thesis.txt").exists()
    with pytest.raises(cleaning.NotCleanableError, match="nothing to clean"):
        cleaning.clean(tmp_path / "nowhere")
    link = tmp_path / "link"
    (home / "thesis.txt").unlink()
    link.symlink_to(home)
    with pytest.raises(cleaning.NotCleanableError):
        cleaning.clean(link)


def test_clean_refuses_a_run_that_goes_on(finished_job: Path) -> None:
    run: Any = find(str(finished_job))
    with (run.work / "runs" / "abc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(cleaning.NotCleanableError, match="a run is using"):
            cleaning.clean(run.work)
