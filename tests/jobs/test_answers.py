"""What `status`, `why` and `inspect` find in what a run left on disk."""

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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from thresher.jobs import cleaning, inspection, status, why, work
from thresher.jobs.loading import load
from thresher.jobs.places import find
from thresher.jobs.problems import JobFileError
from thresher.pipeline.planner import describe


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


def test_stages_that_a_changed_job_left_behind_are_counted_and_not_listed(
    finished_job: Path, make_stage: Callable[..., None], use_stages: Callable[..., None]
) -> None:
    run = find(str(finished_job))
    make_stage(run.work, "01-dedup-minhash-ffffffffffff", parts=2, finished=True)
    make_stage(run.work, "02-export-ffffffffffff", parts=1, finished=True)
    answer = status.status(run)
    assert [(stage["stage"], stage["parts"]) for stage in answer["stages"]] == [
        ("read", 2),
        ("dedup-minhash", 1),
    ]
    assert answer["other_stages"] == 2
    assert f"2 stages of other variants of this job in {run.work}" in status.told(answer)
    # Folders that the run before has touched last are not those of the last run for that.
    use_stages(run.work, "00-read-0123456789ab", "01-dedup-minhash-ffffffffffff", "02-export-ffffffffffff")
    os.utime(run.work / "stages" / "01-dedup-minhash-0123456789ab")
    answer = status.status(run)
    assert [(stage["stage"], stage["parts"]) for stage in answer["stages"]] == [
        ("read", 2),
        ("dedup-minhash", 2),
        ("export", 1),
    ]
    assert answer["other_stages"] == 1


def test_a_stage_that_was_used_and_is_gone_is_not_listed(
    finished_job: Path, use_stages: Callable[..., None]
) -> None:
    run = find(str(finished_job))
    use_stages(run.work, "00-read-0123456789ab", "01-gone-0123456789ab", "../../01-out-0123456789ab")
    assert [stage["stage"] for stage in status.status(run)["stages"]] == ["read"]


@pytest.mark.parametrize("torn", [None, "", "[", "{}", "3"])
def test_without_a_list_of_the_stages_of_the_last_run_all_are_of_others(
    finished_job: Path, torn: str | None
) -> None:
    run = find(str(finished_job))
    used = run.work / "stages" / "used.json"
    if torn is None:
        used.unlink()
    else:
        used.write_text(torn)
    answer = status.status(run)
    assert (answer["stages"], answer["other_stages"]) == ([], 2)


PLACED = """\
name: small
input: docs.jsonl
steps:
  - language: {keep: [en]}
  - score: {"tasting:Taste": {}}
    as: taste
    on: ray
    resources: {cpus: 4, gpus: 0.5, memory: 2GB, actors: [1, 8]}
  - score: {"tasting:Taste": {}}
    as: more
    resources: {actors: [2, 2]}
  - dedup: exact
    on: local
  - dedup: minhash
    on: beam
output: {path: out}
"""


def test_a_stage_with_an_engine_or_resources_of_its_own_says_so(
    tmp_path: Path, make_stage: Callable[..., None], use_stages: Callable[..., None]
) -> None:
    (tmp_path / "job.yaml").write_text(PLACED)
    names = [
        f"{number:02d}-{name}-0123456789ab"
        for number, name in enumerate(
            (
                "language",
                "score-Taste",
                "score-Taste_2",
                "dedup-exact-edges",
                "dedup-minhash-reads",
                "dedup-minhash-edges",
                "export",
            )
        )
    ]
    run = find(str(tmp_path / "job.yaml"))
    for name in names:
        make_stage(run.work, name, parts=1, finished=True)
    use_stages(run.work, *names)
    answer = status.status(run)
    assert [
        {key: stage[key] for key in ("on", "resources") if key in stage} for stage in answer["stages"]
    ] == [
        {},
        {"on": "ray", "resources": {"cpus": 4.0, "gpus": 0.5, "memory": 2 * 10**9, "actors": [1, 8]}},
        {"resources": {"actors": [2, 2]}},
        {},
        {},
        {"on": "beam"},
        {},
    ]
    told = status.told(answer)
    assert "score-Taste (on ray, 4 cores, 0.5 GPUs, 2.0 GB, 1 to 8 actors): 1 part" in told
    assert "score-Taste_2 (2 actors): 1 part" in told
    assert "dedup-minhash-reads: 1 part" in told


def test_what_the_plan_says_of_a_stage_is_told_in_the_same_words(tmp_path: Path) -> None:
    steps = [
        {"filter": "c4", "on": "beam", "resources": {"cpus": 2.0}},
        {"dedup": "exact", "on": "ray", "resources": {"memory": "4GB"}},
        {"language": {"keep": ["en"]}, "resources": {"actors": [1, 3]}},
    ]
    described = {"name": "a", "input": "a.jsonl", "steps": steps, "output": {"path": str(tmp_path)}}
    planned = describe(load(described, check=False))
    told = [words for stage in planned if (words := status.where(stage))]
    assert told == ["on beam, 2 cores", "on ray, 4.0 GB", "1 to 3 actors"]


def test_a_torn_manifest_entry_is_not_a_part(finished_job: Path) -> None:
    run = find(str(finished_job))
    stage = work.stages(run.work)[0]
    (run.work / "stages" / stage.path.name / "00002.json").write_text('{"part": 2, "str')
    (stage,) = [again for again in work.stages(run.work) if again.name == stage.name]
    assert "00002.json" in stage.files
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


def test_an_output_whose_job_names_a_work_directory_elsewhere_is_told_from_a_cleaned_one(
    finished_job: Path,
) -> None:
    # The job in an output does not say where it ran; the job file does.
    (finished_job.parent / "out" / ".work").rename(finished_job.parent / "elsewhere")
    by_output = find(str(finished_job.parent / "out"))
    told = status.told(status.status(by_output))
    assert f"nothing is kept in {finished_job.parent / 'out' / '.work'}" in told
    with pytest.raises(cleaning.NotCleanableError, match="name the job file"):
        cleaning.clean(by_output.work)
    given = find(str(finished_job.parent / "out"), [f"run.work={finished_job.parent / 'elsewhere'}"])
    assert [stage["stage"] for stage in status.status(given)["stages"]] == ["read", "dedup-minhash"]
    assert why.why(given, "short")["fates"][0]["signals"] == {"word_count": 12}


@pytest.mark.parametrize("name", ["limit-3", "runs"])
def test_a_quick_look_has_its_own_part_of_the_work_directory(
    finished_job: Path, make_stage: Callable[..., None], use_stages: Callable[..., None], name: str
) -> None:
    output = finished_job.parent / "out"
    (output / name).mkdir()
    (output / name / "job.yaml").write_text((output / "job.yaml").read_text())
    work_directory = find(str(finished_job)).work
    look = work_directory / "limit-3"
    make_stage(look, "00-look-0123456789ab", parts=1, finished=True)
    use_stages(look, "00-look-0123456789ab")
    (look / "sources.json").write_text("[]")
    run = find(str(output / name))
    assert run.work == (look if name == "limit-3" else work_directory)
    assert status.status(run)["stages"][0]["stage"] == ("look" if name == "limit-3" else "read")


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
