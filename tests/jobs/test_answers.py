"""What `status`, `why`, `inspect` and `clean` find in what a run left on disk."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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


def age(work_directory: Path, **seconds: int) -> None:
    """Sets the times of files and folders of stages, named by number and first digits, as `_00_0123`."""
    for prefix, when in seconds.items():
        for directory in (work_directory / "stages").glob(prefix.removeprefix("_").replace("_", "-*-") + "*"):
            for path in (*directory.iterdir(), directory):
                os.utime(path, (when, when))


def test_stages_that_a_changed_job_left_behind_are_counted_and_not_listed(
    finished_job: Path, make_stage: Callable[..., None]
) -> None:
    run = find(str(finished_job))
    make_stage(run.work, "01-dedup-minhash-ffffffffffff", parts=2, finished=True)
    make_stage(run.work, "02-export-ffffffffffff", parts=1, finished=True)
    # The first variant ran to its end; then a step was changed, and the run was stopped in the new stage.
    age(run.work, _00_0123=1000, _01_ffff=2000, _02_ffff=3000, _01_0123=4000)
    answer = status.status(run)
    assert [(stage["stage"], stage["parts"]) for stage in answer["stages"]] == [
        ("read", 2),
        ("dedup-minhash", 1),
    ]
    assert answer["other_stages"] == 2
    assert f"2 stages of other variants of this job in {run.work}" in status.told(answer)
    # The changed step has ended, and the next one has not begun.
    make_stage(run.work, "01-dedup-exact-eeeeeeeeeeee", parts=1, finished=True)
    age(run.work, _01_eeee=5000)
    answer = status.status(run)
    assert [stage["stage"] for stage in answer["stages"]] == ["read", "dedup-exact"]
    assert answer["other_stages"] == 3


def test_a_job_that_lost_a_step_ends_with_its_ledger(
    finished_job: Path, make_stage: Callable[..., None]
) -> None:
    run = find(str(finished_job))
    shutil.rmtree(run.work / "stages")
    for name in ("00-read-aaaaaaaaaaaa", "01-export-aaaaaaaaaaaa", "02-ledger-aaaaaaaaaaaa"):
        make_stage(run.work, name, parts=1, finished=True)
    for name in ("01-more-bbbbbbbbbbbb", "02-export-bbbbbbbbbbbb", "03-ledger-bbbbbbbbbbbb"):
        make_stage(run.work, name, parts=1, finished=True)
    # The short job, the long one, the short one again: it finds its stages done and touches their folders.
    age(run.work, _00_aaaa=1000, _01_aaaa=1100, _02_aaaa=1200, _01_bbbb=2000, _02_bbbb=2100, _03_bbbb=2200)
    for number, name in enumerate(("00-read", "01-export", "02-ledger")):
        os.utime(run.work / "stages" / f"{name}-aaaaaaaaaaaa", (3000 + number, 3000 + number))
    answer = status.status(run)
    assert [stage["stage"] for stage in answer["stages"]] == ["read", "export", "ledger"]
    assert answer["other_stages"] == 3
    # The long one again, which shares the first stage.
    for number, name in enumerate(("00-read-aaaa", "01-more-bbbb", "02-export-bbbb", "03-ledger-bbbb")):
        os.utime(run.work / "stages" / f"{name}{name[-4:]}{name[-4:]}", (4000 + number, 4000 + number))
    answer = status.status(run)
    assert [stage["stage"] for stage in answer["stages"]] == ["read", "more", "export", "ledger"]
    assert answer["other_stages"] == 2


def test_all_stages_of_a_job_that_did_not_change_are_its_own(
    finished_job: Path, make_stage: Callable[..., None]
) -> None:
    run = find(str(finished_job))
    make_stage(run.work, "02-export-0123456789ab", parts=1, finished=True)
    (run.work / "stages" / "01-dedup-minhash-0123456789ab" / "rollup.json").write_text("{}")
    age(run.work, _00_0123=1000, _01_0123=2000, _02_0123=3000)
    # A resumed run finds the first two stages done, and touches their folders.
    for number, when in (("00", 4000), ("01", 5000)):
        (directory,) = (run.work / "stages").glob(f"{number}-*")
        os.utime(directory, (when, when))
    answer = status.status(run)
    assert (len(answer["stages"]), answer["other_stages"]) == (3, 0)
    assert "other variants" not in status.told(answer)


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


@pytest.mark.parametrize("name", ["shard-00000.parquet", "shard-00000.jsonl.zst", "shard-00000.tar"])
def test_why_tells_the_scores_of_a_kept_record(finished_job: Path, name: str) -> None:
    run = find(str(finished_job))
    row = {"id": "kept-1", "text": "a", "url": None, "lang_score": 0.5, "meta": "{}", "quality": 0.75}
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([row]), run.output / name)
    else:
        write_shard(run.output / name, [row])
    manifest = json.loads((run.output / "manifest.json").read_text())
    manifest["shards"][0]["path"] = name
    (run.output / "manifest.json").write_text(json.dumps(manifest))
    story = why.why(run, "kept-1")
    assert story["fates"][0]["scores"] == {"quality": 0.75}
    assert "  quality = 0.75" in why.told(story).splitlines()
    assert "scores" not in why.why(run, "kept-4")["fates"][0]


ROWS = [{"id": "a", "text": "one\n\x00two", "lang_score": 0.5}, {"id": "b", "text": "", "lang_score": None}]


def write_tar(path: Path, rows: list[dict[str, Any]]) -> None:
    with tarfile.open(path, "w") as archive:
        for number, row in enumerate(rows):
            parts = {"txt": row["text"], "json": json.dumps({k: v for k, v in row.items() if k != "text"})}
            for extension, content in parts.items():
                data = str(content).encode()
                member = tarfile.TarInfo(f"000{number}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def write_shard(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".tar":
        write_tar(path, rows)
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


def test_a_folder_is_answered_with_the_name_of_a_file_in_it(finished_job: Path) -> None:
    output = finished_job.parent / "out"
    (output / "aside.parquet").write_bytes(b"")
    stage = output / ".work" / "stages" / "00-read-0123456789ab"
    for folder, name in ((output, "shard-00000.parquet"), (stage, "00000.json")):
        with pytest.raises(inspection.NotReadableError, match=rf"is a folder; .* as in {folder / name}$"):
            inspection.inspect(folder, rows=1)
        assert inspection.inspect(folder / name, rows=1)["files"]
    with pytest.raises(inspection.NotReadableError, match=r"is a folder; name a file in it$"):
        inspection.inspect(finished_job.parent, rows=1)


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
