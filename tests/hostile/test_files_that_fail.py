"""Files that cannot be read, change, or disappear: a named part or a refusal, never a silent loss."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import corpus
import pytest
import thresher
from thresher.jobs.failures import explain
from thresher.pipeline.ingest import JobRefused, ingest
from thresher.pipeline.stage import TaskFailed
from thresher.schemas.progress import Silent

pytestmark = pytest.mark.slow


class Spoil(Silent):
    """Does something to a file as the first stage starts: after it was found, before it is read."""

    def __init__(self, spoil: Any) -> None:
        self._spoil = spoil

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        if self._spoil is not None:
            spoil, self._spoil = self._spoil, None
            spoil()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        corpus.write(
            tmp_path / "in" / f"{name}.jsonl",
            [{"id": f"{name}{n}", "text": corpus.document(n + 100 * ord(name))} for n in range(20)],
        )
        for name in "abc"
    ]


def job(files: list[Path], **more: Any) -> Any:
    output = files[0].parent.parent / "out"
    made = corpus.job(str(files[0].parent / "*.jsonl"), output, part="1KB", workers=1, **more)
    made["steps"] = [{"dedup": "exact"}]
    return thresher.load(made)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def grow(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"id": "late", "text": "late"}\n')


def rewrite(path: Path) -> None:
    """Other bytes of the same number, with the next moment as the time of change."""
    data = path.read_bytes()
    changed = path.stat().st_mtime_ns + 1
    path.write_bytes(data.replace(b"the", b"her"))
    os.utime(path, ns=(changed, changed))


SPOILT = {
    "gone": (Path.unlink, r"b\.jsonl.*(no file matches|No such file|changed)"),
    "a folder": (replace_by_folder, r"b\.jsonl.*(folder|directory|changed)"),
    "longer": (grow, r"b\.jsonl has changed since this job first started"),
    "other": (rewrite, r"b\.jsonl has changed since this job first started"),
    "cut": (lambda path: os.truncate(path, 100), r"b\.jsonl has changed since this job first started"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_file_that_is_spoilt_before_it_is_read_is_a_named_part(what: str, files: list[Path]) -> None:
    spoil, told = SPOILT[what]
    with pytest.raises(TaskFailed) as raised:
        thresher.run(job(files), listener=Spoil(lambda: spoil(files[1])))
    status, message = explain(raised.value)
    assert status == 4
    assert re.search(told, message), message
    assert "a.jsonl" not in message
    assert not (files[0].parent.parent / "out" / "manifest.json").exists()


def test_parts_that_may_fail_are_named_in_the_totals_and_the_others_are_kept(files: list[Path]) -> None:
    rows = {"a", "c"}
    result = thresher.run(job(files, max_failed_parts=1000), listener=Spoil(files[1].unlink))
    assert result.totals["kept"] == result.totals["in"] == 40
    assert all("b.jsonl" in why for why in result.failed.values())
    assert result.totals["failed_parts"] == {str(part): why for part, why in result.failed.items()}
    import pyarrow.parquet as pq

    kept = pq.read_table([Path(result.output) / shard.path for shard in result.shards]).column("id")
    assert {id_[0] for id_ in kept.to_pylist()} == rows


@pytest.mark.parametrize("what", SPOILT)
def test_a_run_whose_file_was_spoilt_is_refused_until_it_is_back(what: str, files: list[Path]) -> None:
    whole = thresher.run(job(files)).totals
    kept, when = files[1].read_bytes(), files[1].stat().st_mtime_ns
    SPOILT[what][0](files[1])
    with pytest.raises(JobRefused, match=r"b\.jsonl (is gone|has changed)") as raised:
        thresher.run(job(files))
    assert explain(raised.value)[0] == 2
    if files[1].is_dir():
        shutil.rmtree(files[1])
    files[1].write_bytes(kept)
    os.utime(files[1], ns=(when, when))
    assert thresher.run(job(files)).totals == whole


def test_a_file_that_changes_while_it_is_read_is_a_named_part(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from thresher.pipeline.commit import PartOutput
    from thresher.pipeline.planner import plan
    from thresher.pipeline.sources import reader
    from thresher.pipeline.sources.files import SourceError
    from thresher.pipeline.steps import reading

    made = job(files)
    work = files[0].parent.parent / "work-here"
    work.mkdir()
    ((part, *_),) = ingest(made, plan(made).branches, work, None, Silent(), "run")
    before = reader.read

    def read_and_change(*arguments: Any) -> Any:
        yield from before(*arguments)
        grow(files[0])

    monkeypatch.setattr(reading, "read", read_and_change)
    out = PartOutput(work, 0, "run")
    source = reading.ReadSource(**json.loads(part.reader.arguments))
    with pytest.raises(SourceError, match=r"a\.jsonl has changed since this job first started"):
        list(source.read(0, out))
    out.abandon()
    assert not list(work.glob("*.parquet"))
