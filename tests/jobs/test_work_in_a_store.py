"""What `status`, `why`, `inspect` and `clean` find where a run has its work directory in an object store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import pytest
import thresher
from click.testing import CliRunner
from s3_server import Bucket
from thresher.jobs import cleaning, inspection, status, why, work
from thresher.jobs.cli import cli
from thresher.jobs.loading import dump
from thresher.jobs.places import Run, find
from thresher.pipeline.storage import Place, StorageError, place

pytestmark = pytest.mark.slow

PYTHON = [sys.executable, "-c", "from thresher.jobs.cli import main; main()"]
WORK: Place = place("s3://data/work")
LEVELS = ["parts", "last", "signals", "nothing"]


class Both:
    """One run whose work directory lies on the disk, and the same with it in a store."""

    def __init__(self, folder: Path, s3: Bucket) -> None:
        self._folder, self._s3 = folder, s3
        self.local = folder / "work"

    def upload(self, *leftovers: str) -> None:
        """Puts into the store what the disk holds, as a run leaves it there: without locks and folders."""
        for path in self.local.rglob("*"):
            if path.is_file() and path.suffix != ".lock":
                self._s3.put(f"work/{path.relative_to(self.local)}", path.read_bytes())
        for name in leftovers:
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
            (self.local / name).write_bytes(b"x" * 1000)
            self._s3.put(f"work/{name}", b"x" * 1000)

    def found(self, output: str = "out") -> tuple[Run, Run]:
        """The run by each of the two work directories."""
        place = str(self._folder / output)
        return find(place, [f"run.work={self.local}"]), find(place, ["run.work=s3://data/work/"])

    def stored(self) -> set[str]:
        return set(self._s3.objects("work/"))

    def kept(self) -> set[str]:
        files = (path for path in self.local.rglob("*") if path.is_file())
        return {str(path.relative_to(self.local)) for path in files}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output and the work directory of a job, run in two variants and as a quick look."""
    folder = tmp_path_factory.mktemp("ran")
    source = corpus.write(folder / "in.jsonl", corpus.rows(40))
    job: dict[str, Any] = {
        "name": "small",
        "input": str(source),
        "steps": [{"filter": "gopher_quality"}, {"dedup": "exact"}],
        "output": {"path": str(folder / "out")},
        "run": {"work": str(folder / "work"), "workers": 1, "part": "20KB"},
    }
    older = {"filter": {"gopher_quality": {"min_words": 30}}}
    thresher.run(thresher.load({**job, "steps": [older, {"dedup": "exact"}]}))
    thresher.run(thresher.load(job))
    thresher.run(thresher.load(job), limit=20)
    (folder / "job.yaml").write_text(dump(thresher.load(job)))
    return folder


@pytest.fixture
def both(ran: Path, tmp_path: Path, s3: Bucket) -> Both:
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    return Both(tmp_path, s3)


def test_status_and_why_answer_as_they_do_of_a_work_directory_on_the_disk(both: Both) -> None:
    both.upload()
    local, stored = both.found()
    told = status.status(stored)
    assert told == {**status.status(local), "work": "s3://data/work"}
    assert len(told["stages"]) == 9
    assert told["other_stages"] > 0
    for record in ("s00000", "d00001"):
        answer = why.why(stored, record)
        assert answer == why.why(local, record)
        assert answer["fates"][0]["signals"]


def test_of_a_quick_look_only_its_own_part_of_the_store_is_read(both: Both) -> None:
    both.upload()
    local, stored = both.found("out/limit-20")
    assert str(stored.work) == "s3://data/work/limit-20"
    assert status.status(stored)["stages"] == status.status(local)["stages"] != []


def test_a_run_in_a_store_that_has_not_finished_may_be_alive(both: Both, s3: Bucket) -> None:
    both.upload()
    _, stored = both.found()
    (stored.output / "manifest.json").unlink()
    stages = json.loads(s3.objects("work/stages/")["used.json"])
    s3.put("work/stages/used.json", json.dumps(stages[:3]).encode())
    answer = status.status(stored)
    assert (answer["state"], len(answer["stages"])) == ("unfinished", 3)
    assert answer["written"] == work.last_written(stored.work).isoformat(timespec="seconds")
    assert "a store does not show whether a run is at work; last written to at 20" in status.told(answer)


def test_nothing_in_a_store_is_a_run_that_has_not_started(both: Both, tmp_path: Path) -> None:
    overrides = ["run.work=s3://data/work", f"output.path={tmp_path / 'new'}"]
    run = find(str(tmp_path / "job.yaml"), overrides)
    assert status.status(run)["state"] == "not started"
    with pytest.raises(cleaning.NotCleanableError, match="nothing to clean: s3://data/work is not there"):
        cleaning.clean(run.work)


def test_a_part_in_a_store_can_be_inspected(both: Both) -> None:
    both.upload()
    local, stored = both.found()
    stage = work.stages(stored.work)[0]
    answer = inspection.inspect(f"{stage.path}/00000.json", rows=2)
    expected = inspection.inspect(local.work / "stages" / stage.path.name / "00000.json", rows=2)
    assert [{**file, "path": ""} for file in answer["files"]] == [
        {**file, "path": ""} for file in expected["files"]
    ]
    assert answer["files"][0]["path"].startswith("s3://data/work/stages/")
    with pytest.raises(
        inspection.NotReadableError, match=rf"name a file in it, as in {stage.path}/00000.json"
    ):
        inspection.inspect(str(stage.path), rows=2)


@pytest.mark.parametrize("keep", LEVELS)
def test_clean_leaves_in_a_store_what_it_leaves_on_the_disk(
    both: Both, s3: Bucket, keep: cleaning.Keep
) -> None:
    stage = work.stages(both.local)[0].path.name
    both.upload(
        f"stages/{stage}/00007.records.0123456789ab.parquet",
        f"stages/{stage}/spool/records-00000.chunks",
        "probe-0123456789ab-01234567",
    )
    local, stored = both.found()
    sizes = {name: len(data) for name, data in s3.objects("work/").items()}
    asked = cleaning.check_cleanable(stored.work, keep, stored.output)
    assert both.stored() == set(sizes)
    assert cleaning.clean(stored.work, keep, stored.output) == asked
    assert asked == sum(sizes[name] for name in set(sizes) - both.stored()) >= 3000
    cleaning.clean(local.work, keep, local.output)
    assert both.stored() == both.kept()
    assert bool(both.stored()) == (keep != "nothing")


def test_clean_in_a_store_touches_nothing_beside_the_work_directory(both: Both, s3: Bucket) -> None:
    both.upload()
    for name in ("work-2/stages/used.json", "workshop", "other/work/sources.json"):
        s3.put(name, b"mine")
    cleaning.clean(both.found()[1].work)
    assert set(s3.objects("")) == {"work-2/stages/used.json", "workshop", "other/work/sources.json"}


@pytest.mark.parametrize("keep", LEVELS)
@pytest.mark.parametrize("name", ["thesis.txt", "limit-5/thesis.txt", "limit-x/sources.json"])
def test_a_stranger_s_object_keeps_a_place_in_a_store_from_being_cleaned(
    s3: Bucket, keep: cleaning.Keep, name: str
) -> None:
    for own in ("sources.json", "stages/used.json", name):
        s3.put(f"work/{own}", b"[]")
    with pytest.raises(cleaning.NotCleanableError, match="does not look like"):
        cleaning.clean(WORK, keep)
    assert len(s3.objects("work/")) == 3


def test_an_output_below_the_work_directory_in_a_store_is_not_cleaned_away(s3: Bucket) -> None:
    for name in ("sources.json", "stages/used.json"):
        s3.put(f"work/{name}", b"[]")
    for output in ("s3://data/work/limit-3", "s3://data/work"):
        with pytest.raises(cleaning.NotCleanableError, match="is inside"):
            cleaning.clean(WORK, output=place(output))
    cleaning.clean(WORK, output=place("s3://data/work-shards"))
    assert not s3.objects("work/")


def test_a_run_that_writes_while_a_store_is_cleaned_is_told(s3: Bucket) -> None:
    s3.put("work/sources.json", b"[]")
    s3.put("work/stages/00-read-0123456789ab/00000.json", b"{}")

    def write(handler: Any, number: int) -> None:
        if handler.command == "DELETE" and number == 0 and handler.path.endswith("00000.json"):
            s3.put("work/stages/00-read-0123456789ab/00001.json", b"{}")

    s3.proxy.fault = write
    with pytest.raises(
        cleaning.NotCleanableError, match="1 file came to s3://data/work while it was cleaned"
    ):
        cleaning.clean(WORK)
    assert set(s3.objects("work/")) == {"stages/00-read-0123456789ab/00001.json"}


def test_a_store_that_does_not_answer_is_not_an_empty_one(
    both: Both, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_READ_ATTEMPTS", "1")
    both.upload()
    _, stored = both.found()
    s3.proxy.fault = lambda handler, number: "refuse"
    for act in (status.status, lambda run: cleaning.clean(run.work), lambda run: why.why(run, "s00000")):
        with pytest.raises(StorageError, match="s3://data/work"):
            act(stored)


def test_clean_asks_about_a_store_what_the_store_does_not_tell(both: Both, tmp_path: Path) -> None:
    both.upload()
    _, stored = both.found()
    bytes_ = cleaning.check_cleanable(stored.work)
    asked = cleaning.question(stored.work, bytes_)
    assert asked.startswith("Whether a run is at work in s3://data/work, last written to at 20")
    assert asked.endswith(" of s3://data/work?")
    assert cleaning.question(both.local, 1000) == f"Free 1.0 kB of {both.local}?"
    arguments = ["clean", str(tmp_path / "out"), "--set", "run.work=s3://data/work"]
    answer = CliRunner().invoke(cli, arguments, input="n\n")
    assert (answer.exit_code, "nothing was removed" in answer.stdout, bool(both.stored())) == (0, True, True)
    answer = CliRunner().invoke(cli, [*arguments, "--yes"])
    assert (answer.exit_code, "freed" in answer.stdout, both.stored()) == (0, True, set())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_job_that_works_in_a_store_answers_from_the_command_line(
    s3: Bucket, tmp_path: Path, make_job: Callable[[Path], Path]
) -> None:
    job = make_job(tmp_path)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [*PYTHON, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=dict(os.environ),
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "not started" in command("status", str(job))
    command("run", str(job), "--quiet")
    answer = json.loads(command("status", str(job), "--json"))
    assert (answer["state"], answer["work"]) == ("finished", "s3://data/runs/first")
    assert answer["stages"][0]["records_in"] == 3
    told = command("why", "short", "--output", str(job))
    assert "too_few_words" in told
    assert "word_count = 2" in told
    entry = next(name for name in s3.objects("runs/first/") if name.endswith("00000.json"))
    assert "word_count: int64" in command("inspect", f"s3://data/runs/first/{entry}", "--columns")
    assert "freed" in command("clean", str(job), "--keep", "last", "--yes")
    assert s3.objects("runs/first/stages/")
    command("clean", str(job), "--yes")
    assert not s3.objects("runs/")


@pytest.fixture
def make_job() -> Callable[[Path], Path]:
    """A job of three documents whose run works in a store."""

    def make(folder: Path) -> Path:
        rows = [("first", corpus.document(1)), ("second", corpus.document(2)), ("short", "Too short.")]
        lines = [json.dumps({"id": name, "text": text}) for name, text in rows]
        (folder / "docs.jsonl").write_text("\n".join(lines))
        job = folder / "job.yaml"
        job.write_text(
            "name: stored\ninput: docs.jsonl\nsteps:\n  - filter: gopher_quality\noutput: {path: out}\n"
            "run: {workers: 1, work: 's3://data/runs/first'}\n"
        )
        return job

    return make
